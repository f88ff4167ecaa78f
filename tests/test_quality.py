"""nbutils.quality: the measures beside each other are those of their own modules, pooled and by class."""

import numpy as np
import pytest
from conftest import make_blobs

from nbutils import features, quality
from nbutils.features import Extractor
from nbutils.fidelity import fidelity
from nbutils.images import synthetic_set
from nbutils.mean_images import POOLED, mean_image_sizes


@pytest.fixture(autouse=True)
def pixels(monkeypatch):
    """An extractor "pixels" of nine places."""
    network = Extractor(lambda: "0" * 64, lambda: lambda images: images[:, 0, 2, 1:10].float(), image_size=None)
    monkeypatch.setitem(features.EXTRACTORS, "pixels", network)
    features._network.cache_clear()


def fakes(seed, shift=0, count=40):
    images = make_blobs(count, seed)
    moved = (images.images.astype(int) + shift).clip(0, 255).astype(np.uint8)
    return synthetic_set(moved, images.labels, images.class_names, "fakes")


@pytest.fixture
def data():
    return make_blobs(40, 0), make_blobs(40, 1), {"good": fakes(2), "bad": fakes(3, shift=60)}


def measured(function, data, seed=0):
    train, test, sources = data
    answers = quality.automatic_answers(sources, train, untold=["good"], extractor="pixels", seed=seed)
    sizes = mean_image_sizes({"real": train, **sources}, seed=seed)
    return answers, function(sources, train, test, answers, sizes, extractor="pixels", seed=seed)


def test_each_source_has_all_measures_real_images_first(data):
    train, test, sources = data
    answers, table = measured(quality.qualities, data)
    assert table["source"].tolist() == ["real", "good", "bad"]
    assert table.notna().all(axis=None)
    alone = fidelity(sources, train, test, "pixels")
    np.testing.assert_array_equal(table["fd_pixels"], alone["fd_pixels"])
    sizes = mean_image_sizes({"real": train, **sources}).set_index(["class", "source"])["mean_image_kb"]
    assert table["mean_image_kb"].tolist() == sizes[POOLED][["real", "good", "bad"]].tolist()
    called = answers.groupby("source")["fake"].mean()
    assert table.set_index("source")["fir"].to_dict() == called.to_dict()
    assert table.set_index("source").loc["bad", "c2st_pixels"] > 0.9


def test_the_automatic_reader_reads_so_many_of_each_class_and_spots_the_bad_ones(data):
    answers, _ = measured(quality.qualities, data)
    assert (answers.groupby(["source", "class"]).size() == quality.READ_PER_CLASS).all()
    rates = answers.groupby("source")["fake"].mean()
    assert rates["bad"] > 0.9 > 0.3 > rates["real"]


def test_within_a_class_sources_are_held_against_real_images_of_that_class(data):
    train, test, sources = data
    answers, table = measured(quality.class_qualities, data)
    assert table.groupby("class")["source"].apply(list).tolist() == [["real", "good", "bad"]] * 2
    own = {name: images.of_class(1) for name, images in sources.items()}
    alone = fidelity(own, train.of_class(1), test.of_class(1), "pixels")
    dark = table[table["class"] == "dark"]
    for column in ("fd_pixels", "recall", "n"):
        np.testing.assert_array_equal(dark[column], alone[column])
    called = answers[answers["class"] == "dark"].groupby("source")["fake"].mean()
    assert dark.set_index("source")["fir"].to_dict() == called.to_dict()
    sizes = mean_image_sizes({"real": train, **sources}).set_index(["class", "source"])["mean_image_kb"]
    assert dark["mean_image_kb"].tolist() == sizes["dark"][["real", "good", "bad"]].tolist()


def test_a_class_with_too_few_images_is_left_out_and_none_at_all_is_an_error(data):
    train, test, sources = data
    few = test.subset(np.concatenate([np.flatnonzero(test.labels == 0), np.flatnonzero(test.labels == 1)[:5]]))
    _, table = measured(quality.class_qualities, (train, few, sources))
    assert set(table["class"]) == {"bright"}
    with pytest.raises(ValueError, match="by 6 images of each source and of the test set or more, found fewer"):
        measured(quality.class_qualities, (train, few.of_class(1), sources))
