"""Fundus photographs: the whole field of view on a black square."""

from pathlib import Path

import numpy as np

from nbutils.datasets.pictures import padded_square, to_8_bits, without_black_border

BLACK = 10  # of 255: compression and stray light leave the border of a photograph a little above 0
FUNDUS_NOTE = "black borders were cut off and the fields of view padded to squares"


def fundus_square(path: Path, pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Cut the border off a photograph (H, W) or (H, W, 3) and pad it to (C, image_size, image_size) uint8.

    Cameras differ in their borders and proportions, and clinics in their cameras and patients, so that the border would
    tell the class. Padding keeps the field of view round, where squeezing to a square, as the code of IOIS does, would
    not, and whole, where the central square would cut its sides off.

    Raises ValueError, naming the file, when there is nothing above BLACK.
    """
    return padded_square(without_black_border(to_8_bits(pixels), str(path), BLACK), image_size)
