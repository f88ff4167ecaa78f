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


def test_distances_of_a_class_are_among_its_own_images(monkeypatch):
    middle = Extractor(lambda: "1" * 64, lambda: lambda images: images[:, 0, 8, 7:10].float(), image_size=None)
    monkeypatch.setitem(features.EXTRACTORS, "middle", middle)
    train, test, good = make_blobs(60, 0), make_blobs(40, 1), make_blobs(50, 2)
    swapped = type(good)(good.images, 1 - good.labels, good.class_names, good.groups, "swapped")
    table = fidelity.class_distances({"good": good, "swapped": swapped}, train, test, "middle")
    table = table.set_index("source")
    assert table["class"].tolist() == [name for name in train.class_names for _ in range(3)]
    assert (table.loc["swapped", "fd_test"].to_numpy() > 3 * table.loc["good", "fd_test"].to_numpy()).all()
    assert table.loc["real (train)", ["fd_train", "kd_train"]].isna().all(axis=None)
    assert table.drop(index="real (train)").notna().all(axis=None)


def test_of_a_class_every_source_gives_as_many_images_as_the_smallest():
    train, test, few = make_blobs(60, 0), make_blobs(40, 1), make_blobs(20, 2)
    table = fidelity.class_distances({"few": few}, train, test, "pixels").set_index("source")
    assert table["n"].tolist() == [count for count in few.class_counts() for _ in range(2)]
    assert table["n_test"].tolist() == [count for count in test.class_counts() for _ in range(2)]
    mine, theirs = (features.extract(images.of_class(0), "pixels") for images in (few, test))
    assert table.loc["few", "fd_test"].iloc[0] == pytest.approx(metrics.frechet_distance(mine, theirs))


def test_precision_and_recall_over_k_are_of_the_images_of_the_table():
    train, test, few = make_blobs(60, 0), make_blobs(40, 1), make_blobs(20, 2)
    table = fidelity.neighbour_sensitivity({"few": few}, train, test, "pixels", seed=3, ks=(1, 5, 7))
    assert table["k"].tolist() == [1, 5, 7] * 2
    assert set(table["n"]) == {20}
    assert set(table["n_reference"]) == {40}
    whole = fidelity.fidelity({"few": few}, train, test, "pixels", seed=3).set_index("source")
    at_five = table[table["k"] == 5].set_index("source")
    assert (at_five[["precision", "recall"]] == whole.loc[at_five.index, ["precision", "recall"]]).all(axis=None)
    assert table.groupby("source")["precision"].nunique().max() > 1


def test_a_classifier_tells_what_is_not_real_and_not_what_is():
    train, test, good = make_blobs(60, 0), make_blobs(60, 1), make_blobs(60, 2)
    noise = type(good)(255 - good.images // 2, good.labels, good.class_names, good.groups, "noise")
    table = fidelity.two_sample_tests({"good": good, "noise": noise}, train, test, "pixels").set_index("source")
    assert table.index.tolist() == ["real (train)", "good", "noise"]
    assert table.loc["noise", "c2st_pixels"] > 0.9
    assert table.loc["noise", "p"] < 1e-6
    assert (table.loc[["real (train)", "good"], "p"] > 0.01).all()
    assert set(table["n"]) == {120}
