"""nbutils.images: containers, value ranges, identity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_blobs

from nbutils.images import (
    ImageSet,
    as_classes,
    check_image_size,
    concatenate,
    resize,
    to_float,
    to_uint8,
    without_border,
)


def test_values_survive_the_round_trip_between_uint8_and_float():
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    floats = to_float(every)
    assert floats.dtype == torch.float32
    assert floats.min() == -1
    assert floats.max() == 1
    assert np.array_equal(to_uint8(floats), every)


def test_conversions_refuse_what_would_be_scaled_twice():
    with pytest.raises(ValueError, match="takes uint8 images"):
        to_float(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="takes float images"):
        to_uint8(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="not finite"):
        to_uint8(torch.full((1, 1, 8, 8), float("nan")))


def test_float_values_are_rounded_and_clipped():
    assert to_uint8(torch.tensor([-3.0, 3.0, 0.0]).view(1, 1, 1, 3)).ravel().tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 1, 8, 8), np.float32)}, "must be a uint8 array"),
        ({"images": np.zeros((2, 2, 8, 8), np.uint8)}, "1 or 3 channels, found 2"),
        ({"images": np.zeros((2, 1, 8, 9), np.uint8)}, "square, found 8 x 9"),
        ({"labels": [0]}, "2 images need 2 labels"),
        ({"labels": [0, 2]}, "labels must be 0..1"),
    ],
)
def test_an_image_set_that_does_not_fit_together_is_refused(change, message):
    good = {
        "images": np.zeros((2, 1, 8, 8), np.uint8),
        "labels": [0, 1],
        "class_names": ("a", "b"),
        "groups": ["x", "y"],
    }
    ImageSet(**good)
    with pytest.raises(ValueError, match=message):
        ImageSet(**{**good, **change})


def test_subsets_keep_images_labels_and_groups_together(blobs):
    subset = blobs.subset([3, 0])
    assert np.array_equal(subset.images, blobs.images[[3, 0]])
    assert subset.groups.tolist() == blobs.groups[[3, 0]].tolist()
    assert blobs.of_class(1).class_counts().tolist() == [0, 30]
    assert len(blobs.subset([])) == 0


def test_hashes_find_exact_copies_only(blobs):
    twice = concatenate([blobs, blobs.subset([5])], "twice")
    assert twice.hashes()[-1] == twice.hashes()[5]
    assert len(set(twice.hashes())) == len(blobs)


def test_the_fingerprint_is_the_origin_or_the_content(blobs):
    other = make_blobs(60, seed=1)
    assert blobs.fingerprint() == make_blobs(60, seed=0).fingerprint() != other.fingerprint()
    named = [ImageSet(s.images, s.labels, s.class_names, s.groups, origin="same recipe") for s in (blobs, other)]
    assert named[0].fingerprint() == named[1].fingerprint()
    assert named[0].subset(range(5)).fingerprint() != named[1].subset(range(5)).fingerprint()


def test_joining_needs_one_shape_and_the_same_classes(blobs):
    with pytest.raises(ValueError, match="same shape and classes"):
        concatenate([blobs, make_blobs(4, seed=1, image_size=32)], "mixed")


def test_resizing_is_antialiased():
    stripes = np.zeros((1, 1, 64, 64), np.uint8)
    stripes[..., ::2] = 255
    assert np.ptp(resize(stripes, 16)[0, 0, 4:-4, 4:-4]) <= 2  # without antialiasing the stripes alias to 0 or 255


@pytest.mark.parametrize("size", [0, -4, 7, 2048, 32.0, True, "32"])
def test_an_impossible_image_size_is_refused(size):
    with pytest.raises(ValueError, match="whole number of pixels from 8 to 1024"):
        check_image_size(size)


def test_thinned_keeps_shares_and_every_class():
    images = make_blobs(200, 0)
    images = ImageSet(images.images, np.r_[np.zeros(189), np.ones(11)], ("a", "b"), images.groups)
    thinned = images.thinned(20, seed=0)
    assert thinned.class_counts().tolist() == [19, 1]
    assert set(thinned.hashes()) <= set(images.hashes())
    assert thinned.fingerprint() == images.thinned(20, seed=0).fingerprint() != images.thinned(20, seed=1).fingerprint()
    assert images.thinned(2, seed=0).class_counts().tolist() == [2, 1]
    assert images.thinned(200, seed=0) is images
    with pytest.raises(ValueError, match="1 images cannot show 2 classes"):
        images.thinned(1, seed=0)


def test_a_border_is_cut_off_and_the_rest_enlarged():
    framed = make_blobs(3, 0, image_size=16)
    framed.images[:, :, :2], framed.images[:, :, -2:] = 255, 255
    framed.images[:, :, :, :2], framed.images[:, :, :, -2:] = 255, 255
    framed.images[:, :, 2:-2, 2:-2] = np.arange(100, 112, dtype=np.uint8)
    cut = without_border(replace(framed, origin="drawn"), 1 / 8)
    assert cut.images.shape == framed.images.shape
    assert 98 <= cut.images.min() <= 101
    assert 110 <= cut.images.max() <= 113
    assert (np.diff(cut.images[0, 0, 8].astype(int)) >= 0).all()
    assert cut.origin == "drawn without 2 px of border"
    assert cut.labels.tolist() == framed.labels.tolist()
    assert np.array_equal(without_border(framed, 0).images, framed.images)
    with pytest.raises(ValueError, match=r"must be 0 or more and less than 0\.5, found 0\.5"):
        without_border(framed, 0.5)


def test_one_channel_becomes_a_grey_image(blobs):
    colour = make_blobs(4, 0, channels=3)
    assert np.array_equal(colour.channel(2).images, colour.images[:, 2:])
    with pytest.raises(ValueError, match=r"has channels 0\.\.0, asked for channel 1"):
        blobs.channel(1)


def test_sets_become_classes():
    one, other = make_blobs(4, 0), make_blobs(6, 1)
    joined = as_classes({"first": one, "both": one.subset([0]), "second": other}, "by setting")
    assert joined.class_names == ("first", "both", "second")
    assert joined.class_counts().tolist() == [4, 1, 6]
    assert np.array_equal(joined.of_class(2).images, other.images)


def test_fewer_images_are_among_the_more_and_each_class_keeps_some():
    images = make_blobs(120, 0, image_size=8)
    images = images.subset(np.r_[np.flatnonzero(images.labels == 0)[:4], np.flatnonzero(images.labels == 1)])
    five, fifteen = images.at_most(5), images.at_most(15)
    assert five.class_counts().tolist() == [4, 5]
    assert fifteen.class_counts().tolist() == [4, 15]
    assert set(five.hashes()) < set(fifteen.hashes()) < set(images.hashes())
