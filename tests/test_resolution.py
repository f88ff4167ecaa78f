"""nbutils.resolution: every size against real images of that size, and all of them at one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_blobs

from nbutils import fidelity, generators, resolution
from nbutils.datasets import Splits
from nbutils.images import resized
from nbutils.scales import SCALES


@pytest.fixture
def data():
    sizes = {16: (0, 1, 2), 32: (3, 4, 5)}
    return {
        size: Splits("blobs", *(make_blobs(40, seed, image_size=size) for seed in seeds))
        for size, seeds in sizes.items()
    }


@pytest.fixture
def sources():
    return {
        size: {name: make_blobs(30, seed, image_size=size) for name, seed in (("a", 9), ("b", 8))} for size in (16, 32)
    }


def test_every_scale_has_sizes_that_both_generators_take():
    for scale in SCALES:
        sizes = resolution.SIZES[scale]
        assert list(sizes) == sorted(sizes)
        assert {size & (size - 1) for size in sizes} == {0}  # powers of two, for StyleGAN2
        assert resolution.common_size(scale) in sizes
        assert sizes[-1] > sizes[0]


def test_native_distances_are_of_images_as_they_are_and_common_ones_of_one_size(data, sources):
    table = resolution.distances(sources, data, 16, seed=0).set_index(["image_size", "source"])
    assert table.index.tolist() == [(size, name) for size in (16, 32) for name in (fidelity.REAL, "a", "b")]
    small, large = table.loc[16], table.loc[32]
    np.testing.assert_allclose(small["fd_native"], small["fd_common"])
    assert (large["fd_native"] != large["fd_common"]).all()
    reduced = {name: resized(images, 16) for name, images in sources[32].items()}
    parts = (resized(images, 16) for images in (data[32].train, data[32].test))
    expected = fidelity.fidelity(reduced, *parts, seed=0)
    np.testing.assert_allclose(large["fd_common"], expected["fd_shipped"])
    as_they_are = fidelity.fidelity(sources[32], data[32].train, data[32].test)
    np.testing.assert_allclose(large["precision"], as_they_are["precision"])


def test_resized_images_are_others_to_a_cache():
    images = replace(make_blobs(4, 0), origin="blobs size=16")
    assert resized(images, 16) is images
    assert resized(images, 32).images.shape == (4, 1, 32, 32)
    assert resized(images, 32).fingerprint() != images.fingerprint()


def test_the_table_has_a_row_for_each_size_and_source(data, sources):
    table = resolution.measured(sources, data, "smoke", seed=0)
    assert table[["image_size", "source"]].to_numpy().tolist() == [
        [size, name] for size in (16, 32) for name in (fidelity.REAL, "a", "b")
    ]
    assert not table.drop(columns="d_prime").isna().any().any()
    assert (table["n_read"] == 2 * resolution.READ_PER_CLASS["smoke"]).all()
    wide = resolution.wide(table, ["fd_native", "fir"], "ct:")
    assert wide.columns.tolist() == ["ct:fd_native:16", "ct:fd_native:32", "ct:fir:16", "ct:fir:32"]
    assert wide.loc["b", "ct:fir:32"] == table["fir"].iloc[-1]


def test_drawing_is_timed_at_every_size_and_compared_at_both_ends():
    trained = {}
    for size in (16, 32):
        generator = generators.create("dcgan", "smoke", num_steps=1)
        generator.fit(make_blobs(8, 0, image_size=size))
        trained[size] = {"dcgan": generator}
    times = resolution.drawing_times(trained, "smoke", seeds=[0, 1])
    assert times[["image_size", "seed"]].to_numpy().tolist() == [[16, 0], [32, 0], [16, 1], [32, 1]]
    assert (times["seconds_per_1000"] > 0).all()
    assert (times["timed_images"] == resolution.TIMED_IMAGES["smoke"]).all()
    table = pd.concat([times, times.assign(source="other", image_size=24)])
    ends = resolution.smallest_and_largest(table, "dcgan")
    assert ends[["method", "seed"]].to_numpy().tolist() == [["small", 0], ["large", 0], ["small", 1], ["large", 1]]
