"""nbutils.occlusion: what matters is what changes the answer, in the place where it was hidden."""

import numpy as np
import pytest

from nbutils.images import ImageSet
from nbutils.occlusion import corner_shares, occlusion_maps, overlaid


class CornerReader:
    """Finds class 1 the more surely, the brighter the upper left quarter of an image's sides is."""

    def probabilities(self, images):
        pixels = images.images if isinstance(images, ImageSet) else images
        bright = pixels[:, :, :4, :4].mean((1, 2, 3)) / 255 * 0.8 + 0.1
        return np.stack([1 - bright, bright], 1).astype(np.float32)


@pytest.fixture
def images():
    """Two images of 16 px, dark but for the corner: one bright there, one not."""
    pixels = np.full((2, 1, 16, 16), 40, np.uint8)
    pixels[0, :, :4, :4] = 250
    return ImageSet(pixels, [1, 0], ("no", "yes"), ["a", "b"])


def test_only_what_the_classifier_reads_matters(images):
    maps = occlusion_maps(CornerReader(), images, cells=8)
    assert maps.shape == (2, 8, 8)
    assert (maps[0, :2, :2] > 0.1).all()
    assert maps[0].sum() == maps[0, :2, :2].sum()
    assert maps[1].sum() == 0  # flat: hiding by the mean changes nothing


def test_a_change_counts_in_log_odds_of_the_class_that_was_found(images):
    reader, mean = CornerReader(), round(images.images[0].mean())
    hidden = images.images[:1].copy()
    hidden[:, :, :2, :2] = mean
    p, q = (reader.probabilities(pixels)[0, 1].astype(float) for pixels in (images.images[:1], hidden))
    expected = np.log(p / (1 - p)) - np.log(q / (1 - q))
    assert occlusion_maps(reader, images)[0, 0, 0] == pytest.approx(expected, rel=1e-4)


def test_squares_cover_sides_that_they_do_not_divide(images):
    odd = ImageSet(images.images[:, :, :13, :13].copy(), [1, 0], images.class_names, images.groups)
    maps = occlusion_maps(CornerReader(), odd, cells=5)  # squares end at 3, 5, 8, 10 and 13
    assert (maps[0, :2, :2] > 0).all()
    assert maps[0, 2:].sum() == maps[0, :, 2:].sum() == 0
    with pytest.raises(ValueError, match="cells must be a whole number from 1 to 13, the pixels, found 14"):
        occlusion_maps(CornerReader(), odd, cells=14)


def test_the_part_of_the_corner_is_that_of_its_squares():
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, 0, 1] = 2
    maps[0, 5, 5] = 6
    maps[1] = 1
    assert corner_shares(maps, 0.25).tolist() == pytest.approx([0.25, 4 / 64, 4 / 64])


def test_what_matters_most_is_red_and_what_does_not_stays_as_it_is():
    image = np.full((1, 16, 16), 100, np.uint8)
    weights = np.zeros((8, 8))
    weights[0, 1], weights[7, 7] = 4.0, 2.0
    drawn = overlaid(image, weights)
    assert drawn[:, 0, 2].tolist() == [255, 0, 0]
    assert drawn[:, 15, 15].tolist() == [178, 50, 50]
    assert (drawn[:, 2:14] == 100).all()
    assert (overlaid(image, np.zeros((8, 8))) == 100).all()
