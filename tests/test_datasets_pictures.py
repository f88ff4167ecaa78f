"""Borders and squares of images; how files of all modes are read is tested with the folders."""

import numpy as np
import pytest

from nbutils.datasets.pictures import padded_square, without_black_border


def test_border_is_cut_to_the_last_pixel_above_black():
    image = np.zeros((9, 12), np.uint8)
    image[2, 3], image[6, 10] = 1, 200
    assert without_black_border(image, "image").shape == (5, 8)
    assert without_black_border(image, "image", black=1).shape == (1, 1)
    with pytest.raises(ValueError, match="x-ray 5 is black all over"):
        without_black_border(image * 0, "x-ray 5")


def test_one_channel_is_enough_not_to_be_border():
    image = np.zeros((9, 12, 3), np.uint8)
    image[2, 3, 0], image[6, 10, 2] = 50, 50
    assert without_black_border(image, "image", black=10).shape == (5, 8, 3)


def test_aspect_is_kept():
    square = padded_square(np.full((100, 60), 90, np.uint8), 50)
    assert square.shape == (1, 50, 50)
    assert (square[:, :, 10:40] == 90).all()
    assert square[:, :, :10].max() == square[:, :, 40:].max() == 0
    assert (padded_square(np.full((40, 400), 90, np.uint8), 50) > 0).any(axis=2).sum() == 5
    assert padded_square(np.full((1, 400), 90, np.uint8), 50).shape == (1, 50, 50)


def test_colours_stay_in_their_channels():
    colours = np.broadcast_to(np.array([10, 120, 250], np.uint8), (30, 60, 3))
    square = padded_square(colours, 20)
    assert square.shape == (3, 20, 20)
    assert [np.unique(channel).tolist() for channel in square] == [[0, 10], [0, 120], [0, 250]]
