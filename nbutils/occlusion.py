"""Occlusion: where a classifier looks, told by what it finds when a part of the image is hidden.

Source: Zeiler and Fergus 2014, Section 4.2. It asks nothing of a network but its answers, so that it serves every
classifier alike; gradient-weighted maps need a layer to be chosen, and are as coarse in networks as small as ours.
"""

import numpy as np

from nbutils.classification import Classifier
from nbutils.images import ImageSet, in_colour

CELLS = 8
"""Squares along a side, each of which is hidden once."""

SURE = 1e-6  # probabilities nearer to 0 or 1 are as good as these, so that log odds stay finite


def occlusion_maps(classifier: Classifier, images: ImageSet, cells: int = CELLS) -> np.ndarray:
    """Return how much each square of images matters to a classifier, (N, cells, cells) float32, 0 or more.

    A square is hidden by the mean grey of its image. What it matters is the change, either way, of the log odds of the
    class that the classifier finds in the whole image. Raises ValueError if there are more squares than pixels.
    """
    if not 1 <= cells <= images.image_size:
        raise ValueError(f"cells must be a whole number from 1 to {images.image_size}, the pixels, found {cells}.")
    whole = classifier.probabilities(images)
    found = whole.argmax(axis=1)[:, None]
    edges, grey = _edges(images.image_size, cells), images.images.mean((1, 2, 3), keepdims=True).round()
    maps = np.empty((len(images), cells, cells), np.float32)
    for row, column in np.ndindex(cells, cells):
        hidden = images.images.copy()
        hidden[:, :, edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = grey
        changed = _log_odds(whole, found) - _log_odds(classifier.probabilities(hidden), found)
        maps[:, row, column] = np.abs(changed)
    return maps


def corner_shares(maps: np.ndarray, share: float) -> np.ndarray:
    """Return which part of each map (N, cells, cells) lies in the upper left corner, (N,) float 0..1.

    share: of the width and of the height that the corner takes, in whole squares, at least one. A map without any
    change counts as spread evenly.
    """
    cells = max(1, round(share * maps.shape[-1]))
    inside, total = maps[:, :cells, :cells].sum((1, 2)), maps.sum((1, 2))
    return np.divide(inside, total, out=np.full(len(maps), (cells / maps.shape[-1]) ** 2), where=total > 0)


def overlaid(image: np.ndarray, occlusion_map: np.ndarray) -> np.ndarray:
    """Return an image (C, H, W) uint8 in colour (3, H, W), the redder the more a square of a map matters.

    occlusion_map: (cells, cells) float. The square that matters most is all red; of a map without any change none is.
    """
    cells, size = len(occlusion_map), image.shape[-1]
    of_pixel = np.digitize(np.arange(size), _edges(size, cells)[1:-1])
    weight = (occlusion_map / max(float(occlusion_map.max()), 1e-12))[np.ix_(of_pixel, of_pixel)]
    red = np.array([255.0, 0.0, 0.0])[:, None, None]
    return (in_colour(image[None])[0] * (1 - weight) + red * weight).round().astype(np.uint8)


def _edges(image_size: int, cells: int) -> np.ndarray:
    """Return where squares begin and the last one ends, (cells + 1,) int64."""
    return np.linspace(0, image_size, cells + 1).round().astype(np.int64)


def _log_odds(probabilities: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the log odds of the classes found (N, 1) by probabilities (N, num_classes), (N,) float64."""
    p = np.take_along_axis(probabilities.astype(np.float64), found, axis=1)[:, 0].clip(SURE, 1 - SURE)
    return np.log(p) - np.log1p(-p)
