"""nbutils.efficiency: memory of weights and drawing, time, a fresh process for each generator."""

import os
from time import sleep

import numpy as np
import pytest
from conftest import make_blobs

from nbutils import efficiency, generators
from nbutils.generators.base import Generator


@pytest.fixture(scope="module")
def dcgan():
    generator = generators.create("dcgan", "smoke", num_steps=1)
    generator.fit(make_blobs(20, 0))
    return generator


@pytest.fixture
def folder(dcgan, tmp_path):
    dcgan.save(tmp_path)
    return tmp_path


def test_a_generator_is_measured_in_another_process_and_refused_without_weights(dcgan, monkeypatch):
    monkeypatch.setattr(efficiency, "_measured", _process_id)
    found = efficiency.efficiency({"a": dcgan})
    assert found["source"].tolist() == ["a"]
    assert found["process"].tolist() != [os.getpid()]
    with pytest.raises(RuntimeError, match="b has no weights yet"):
        efficiency.efficiency({"b": generators.create("dcgan", "smoke")})
    with pytest.raises(ValueError, match="timed_images must be a whole number from 1, found 0"):
        efficiency.efficiency({"a": dcgan}, timed_images=0)


def _process_id(folder, name, timed_images, threads):
    return {"process": os.getpid()}


def test_memory_that_drawing_holds_for_a_moment_is_counted(folder, monkeypatch):
    drawn, original = [], Generator.sample

    def sample(self, labels, seed, megabytes=0):
        drawn.append(np.asarray(labels).tolist())
        held = np.ones(megabytes * 10**6, np.uint8)
        return original(self, labels, seed + 0 * int(held[:1].sum()))

    monkeypatch.setattr(Generator, "sample", sample)
    little = efficiency._measured(folder, "dcgan", 3, 1)
    assert drawn == [[0, 1] * 4, [0, 1, 0]]
    monkeypatch.setattr(Generator, "sample", lambda self, labels, seed: sample(self, labels, seed, megabytes=300))
    much = efficiency._measured(folder, "dcgan", 3, 1)
    assert little["peak_memory_mb"] < 100
    assert much["peak_memory_mb"] == pytest.approx(300 + little["peak_memory_mb"], abs=60)


def test_drawing_is_timed_in_this_process_after_the_first_images(dcgan, monkeypatch):
    drawn = []
    monkeypatch.setattr(Generator, "sample", lambda self, labels, seed: drawn.append((len(labels), seed)) or sleep(0.1))
    found = efficiency.drawing_times({"a": dcgan}, timed_images=20, seed=5)
    assert drawn == [(efficiency.MEMORY_IMAGES, 0), (20, 5)]
    assert found["seconds_per_1000"].tolist() == pytest.approx([5], rel=0.5)
    with pytest.raises(RuntimeError, match="b has no weights yet"):
        efficiency.drawing_times({"b": generators.create("dcgan", "smoke")})


def test_the_time_is_that_of_a_thousand_images(folder, monkeypatch):
    monkeypatch.setattr(Generator, "sample", lambda self, labels, seed: sleep(0.01 * len(labels)))
    found = efficiency._measured(folder, "dcgan", 20, 1)
    assert found["seconds_per_1000"] == pytest.approx(10, rel=0.5)
    assert (found["timed_images"], found["threads"]) == (20, 1)
