"""The mean image, how it is written, and its size per class and pooled."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_blobs
from PIL import Image

from nbutils.mean_images import POOLED, mean_image_sizes, mean_images
from nbutils.metrics.mean_image import Encoding, lossless_kilobytes, mean_image


def test_the_mean_counts_every_image_once():
    images = np.zeros((21, 1, 8, 8), np.uint8)  # the published code leaves out the last, and divides by 21 still
    images[-1] = 210
    assert (mean_image(images) == 10).all()
    with pytest.raises(ValueError, match="needs images, found none"):
        mean_image(images[:0])


def test_images_alike_have_a_larger_mean_than_various_ones():
    noise = np.random.default_rng(0).integers(0, 256, (200, 1, 32, 32), dtype=np.uint8)
    collapsed = np.repeat(noise[:1], 200, axis=0)
    sizes = [lossless_kilobytes(mean_image(images)) for images in (collapsed, noise)]
    assert sizes[0] > 1.2 * sizes[1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", ["png", "jpeg2000"])
def test_what_is_written_can_be_read_back_unchanged(codec, channels, monkeypatch):
    mean = np.random.default_rng(0).integers(0, 256, (channels, 64, 64), dtype=np.uint8)
    written = {}
    original = Image.Image.save

    def keep(self, file, *arguments, **options):
        original(self, file, *arguments, **options)
        written["bytes"], written["pixels"] = file.getvalue(), np.asarray(Image.open(file))

    monkeypatch.setattr(Image.Image, "save", keep)
    kilobytes = lossless_kilobytes(mean, Encoding(image_size=64, codec=codec))
    assert kilobytes == len(written["bytes"]) / 1000
    assert (written["pixels"] == np.broadcast_to(mean, (3, 64, 64)).transpose(1, 2, 0)).all()


def test_size_colour_mode_and_grey_scale_are_settings_and_stand_in_the_recipe():
    mean = np.random.default_rng(0).integers(100, 120, (1, 32, 32), dtype=np.uint8)
    plain = Encoding(image_size=64)
    sizes = {lossless_kilobytes(mean, plain)} | {
        lossless_kilobytes(mean, replace(plain, **{name: value}))
        for name, value in (("image_size", 32), ("mode", "L"), ("codec", "jpeg2000"), ("normalisation", "stretched"))
    }
    assert len(sizes) == 5
    assert str(Encoding()) == (
        "mean over the true count, 8 bit, resized to 256 px (bicubic), mode RGB, normalisation none, codec png "
        "(compress_level 9)"
    )
    for setting in ("mode", "codec", "normalisation"):
        with pytest.raises(ValueError, match=r"Unknown .* 'grey'"):
            replace(plain, **{setting: "grey"})


def test_a_picture_of_one_value_can_be_stretched():
    assert lossless_kilobytes(np.full((1, 8, 8), 7, np.uint8), Encoding(normalisation="stretched")) > 0


def test_sizes_are_of_equally_many_images_in_each_class_and_pooled():
    many, few = make_blobs(60, 0), make_blobs(60, 1).subset([*range(0, 60, 2), 1, 3, 5])  # 30 bright, 3 dark
    table = mean_image_sizes({"many": many, "few": few}, Encoding(image_size=32), seed=1)
    assert table["class"].tolist() == ["bright"] * 2 + ["dark"] * 2 + [POOLED] * 2
    assert table["n"].tolist() == [30, 30, 3, 3, 33, 33]
    assert table["source"].tolist() == ["many", "few"] * 3
    assert set(table["recipe"]) == {str(Encoding(image_size=32))}
    means = mean_images({"many": many, "few": few}, seed=1)
    assert (means["dark"]["few"] == mean_image(few.of_class(1).images)).all()
    assert (means[POOLED]["few"] == mean_image(few.images)).all()
    assert table["mean_image_kb"].iloc[-1] == lossless_kilobytes(means[POOLED]["few"], Encoding(image_size=32))


def test_sources_without_a_common_class_cannot_be_compared():
    images = make_blobs(20, 0)
    with pytest.raises(ValueError, match="none of bright, dark has images in each of a, b"):
        mean_images({"a": images.of_class(0), "b": images.of_class(1)})
