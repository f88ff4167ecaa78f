"""nbutils.reading: what is drawn and shuffled, what a reader's answers tell, and the automatic one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_blobs

from nbutils import features, reading
from nbutils.features import Extractor
from nbutils.images import synthetic_set
from nbutils.metrics.detection import d_prime, exact_interval
from nbutils.papers import protocol
from nbutils.reading import PER_CLASS, automatic_reading, fake_identification, reading_test, spared


@pytest.fixture(autouse=True)
def pixels(monkeypatch):
    """An extractor "pixels" of three places."""
    network = Extractor(lambda: "0" * 64, lambda: lambda images: images[:, 0, 3, 3:6].float(), image_size=None)
    monkeypatch.setitem(features.EXTRACTORS, "pixels", network)
    features._network.cache_clear()


def fakes(count, seed, shift=0):
    images = make_blobs(count, seed)
    moved = (images.images.astype(int) + shift).clip(0, 255).astype(np.uint8)
    return synthetic_set(moved, images.labels, images.class_names, "fakes")


@pytest.fixture
def sources():
    return {"real": make_blobs(60, 0), "good": fakes(60, 1), "bad": fakes(60, 2, shift=90)}


def test_so_many_of_each_class_and_source_are_shown_in_an_order_that_the_seed_decides(sources):
    test = reading_test(sources, per_class=4, seed=0)
    assert len(test) == 3 * 2 * 4
    shown = pd.crosstab(test.sources, test.images.labels)
    assert (shown == 4).all(axis=None)
    for source, index, image in zip(test.sources, test.indices, test.images.images, strict=True):
        assert (sources[source].images[index] == image).all()
    again, other = reading_test(sources, 4, seed=0), reading_test(sources, 4, seed=1)
    assert (again.indices == test.indices).all()
    assert set(zip(other.sources, other.indices, strict=True)) != set(zip(test.sources, test.indices, strict=True))
    runs = np.flatnonzero(test.sources[1:] != test.sources[:-1])
    assert len(runs) > 8  # shuffled: sources do not come one after the other


def test_the_paper_reads_sixty_images_of_tissue_and_fifty_of_the_others():
    counts = {"histology": 6, "xray": 2, "ct": 1}
    for name, classes in counts.items():
        assert protocol("beauty_or_beast")[f"reading.{name}"] == PER_CLASS[name]
        assert 5 * classes * PER_CLASS[name] == {"histology": 60}.get(name, 50)


def test_half_of_the_rarest_class_of_any_source_can_be_spared(sources):
    assert spared(sources, wanted=10) == 10
    few = {**sources, "bad": sources["bad"].subset([*range(0, 60, 2), 1, 3, 5, 7])}
    assert spared(few, wanted=10) == 2
    assert spared({"one": sources["real"].of_class(1)}, wanted=99) == 15  # a class that nobody has does not count


def test_too_few_images_and_classes_without_any_are_named_or_left_out(sources):
    with pytest.raises(ValueError, match="takes 4 images of each class, found 3 of 'dark' in fakes"):
        reading_test({**sources, "bad": sources["bad"].subset([*range(0, 60, 2), 1, 3, 5])}, 4, seed=0)
    bright = {source: images.of_class(0) for source, images in sources.items()}
    assert len(reading_test(bright, 4, seed=0)) == 12


def test_shares_have_exact_intervals_and_fakes_a_distance_from_real_ones(sources):
    test = reading_test(sources, per_class=6, seed=0)
    called = (test.sources == "bad") | ((test.sources == "real") & (np.cumsum(test.sources == "real") <= 3))
    table = fake_identification(test.answered(called, "someone"), real="real").set_index("source")
    assert table.loc["bad", ["fake", "n", "fir"]].tolist() == [12, 12, 1]
    assert table.loc["real", ["fake", "n", "fir"]].tolist() == [3, 12, 0.25]
    assert (table.loc["real", "low"], table.loc["real", "high"]) == exact_interval(3, 12)
    assert table.loc["bad", "d_prime"] == d_prime(12, 12, 3, 12)
    assert table.loc["good", "d_prime"] == d_prime(0, 12, 3, 12)
    assert np.isnan(table.loc["real", "d_prime"])
    assert set(table["reader"]) == {"someone"}
    with pytest.raises(ValueError, match="Unknown source 'training'"):
        fake_identification(test.answered(called, "someone"), real="training")


def test_answers_are_of_the_images_shown_so_far(sources):
    test = reading_test(sources, per_class=2, seed=0)
    found = test.answered([True, False], "someone")
    assert found["fake"].tolist() == [True, False]
    assert found["source"].tolist() == test.sources[:2].tolist()
    assert found["position"].tolist() == [0, 1]
    assert found["class"].tolist() == [("bright", "dark")[label] for label in test.images.labels[:2]]


def test_the_automatic_reader_spots_what_looks_different_and_says_what_it_is(sources):
    test = reading_test(sources, per_class=10, seed=0)
    only_bad = {name: images for name, images in sources.items() if name != "good"}
    shown = reading_test(only_bad, per_class=10, seed=0)
    answers = automatic_reading(shown, only_bad, "real", extractor="pixels")
    table = fake_identification(answers, "real").set_index("source")
    assert table.loc["bad", "fir"] > 0.9
    assert table.loc["real", "fir"] < 0.1
    assert set(answers["reader"]) == {"automatic reader (logistic regression on pixels features)"}
    untold = automatic_reading(test, sources, "real", untold=["good"], extractor="pixels")
    assert fake_identification(untold, "real").set_index("source").loc["good", "fir"] < 0.2


def test_the_automatic_reader_learns_from_no_image_nor_patient_that_is_read(sources, monkeypatch):
    patients = np.repeat(np.arange(12), 5).astype(str)
    sources["real"] = replace(sources["real"], groups=patients)
    test = reading_test(sources, per_class=2, seed=0)
    learned = []
    monkeypatch.setattr(reading, "extract", lambda images, _: learned.append(images) or np.zeros((len(images), 2)))
    automatic_reading(test, sources, "real")
    *told, shown = learned
    assert shown is test.images
    read = set(test.images.hashes())
    assert not any(read & set(images.hashes()) for images in told)
    assert not set(told[0].groups) & set(test.images.groups)
    assert [len(images) for images in told[1:]] == [56, 56]


def test_nothing_to_learn_from_is_said(sources):
    test = reading_test(sources, per_class=30, seed=0)
    with pytest.raises(ValueError, match="found 0 real and 0 fake ones beside the test"):
        automatic_reading(test, sources, "real")
    with pytest.raises(ValueError, match="Unknown source 'traditional'"):
        automatic_reading(test, sources, "real", untold=["traditional"])
