"""The table of fidelity: real images as the floor, equal numbers, one recipe."""

import numpy as np
import pytest
from conftest import make_blobs

from nbutils import features, fidelity, metrics
from nbutils.features import Extractor


@pytest.fixture(autouse=True)
def pixels(monkeypatch, tmp_path):
    """An extractor whose features are the pixels of three places."""
    monkeypatch.setenv("NBUTILS_CACHE", str(tmp_path))
    network = Extractor(lambda: "0" * 64, lambda: lambda images: images[:, 0, 3, 3:6].float(), image_size=None)
    monkeypatch.setitem(features.EXTRACTORS, "pixels", network)


def test_the_first_row_is_what_real_images_reach_and_noise_is_worse():
    train, test, copies = (make_blobs(60, seed) for seed in (0, 1, 0))
    noise = make_blobs(90, 2)
    noise = type(noise)(255 - noise.images, noise.labels, noise.class_names, noise.groups, "noise")
    table = fidelity.fidelity({"copies": copies, "noise": noise}, train, test, "pixels").set_index("source")
    assert list(table.index) == ["real (train)", "copies", "noise"]
    assert set(table["n"]) == set(table["n_reference"]) == {60}
    np.testing.assert_allclose(
        table.loc["copies", ["fd_pixels", "kd_pixels"]].astype(float),
        table.loc["real (train)", ["fd_pixels", "kd_pixels"]].astype(float),
        atol=1e-6,
    )
    assert table.loc["noise", "fd_pixels"] > 2 * table.loc["copies", "fd_pixels"]
    assert "60 images of each source against 60 real test images" in fidelity.fidelity_recipe(table)


def test_every_source_gives_as_many_images_as_the_smallest():
    train, test, few = make_blobs(60, 0), make_blobs(40, 1), make_blobs(20, 2)
    table = fidelity.fidelity({"few": few}, train, test, "pixels", seed=3).set_index("source")
    assert set(table["n"]) == {20}
    expected = metrics.frechet_distance(features.extract(few, "pixels"), features.extract(test, "pixels"))
    assert table.loc["few", "fd_pixels"] == pytest.approx(expected)
