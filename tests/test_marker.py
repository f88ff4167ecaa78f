"""nbutils.marker: who carries one, who draws one, and what it does to classifiers; on blobs with a white square."""

import numpy as np
import pandas as pd
import pytest
from conftest import few_phantoms, make_blobs
from scipy import stats

from nbutils import marker
from nbutils.comparison import Job
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.images import ImageSet
from nbutils.phantoms.pneumonia import MARKER_CORNER
from nbutils.protocols import ClassifierConfig
from nbutils.utility import Utility

CONFIG = ClassifierConfig(
    "test_byobnet", num_epochs=15, batch_size=16, learning_rate=3e-3, patience=15, initial_weights="prior"
)


def written(images: ImageSet, label: int) -> ImageSet:
    """Return images with a white square in the corner of each of one class."""
    pixels = images.images.copy()
    pixels[images.labels == label, :, 1:3, 1:3] = 255
    return ImageSet(pixels, images.labels, images.class_names, images.groups, images.name)


@pytest.fixture
def variants():
    """Blobs in the three variants: all of class 0 carry the marker, none of class 1; and the other way round."""
    plain = Splits("blobs", train=make_blobs(60, 0), val=make_blobs(30, 1), test=make_blobs(30, 2))
    by_label = {marker.WITH: 0, marker.SWAPPED: 1}
    marked = {
        variant: Splits("blobs", **{split: written(images, label) for split, images in plain.splits().items()})
        for variant, label in by_label.items()
    }
    return {marker.WITH: marked[marker.WITH], marker.WITHOUT: plain, marker.SWAPPED: marked[marker.SWAPPED]}


def test_only_one_phantom_has_variants(monkeypatch):
    asked, whole = [], Splits("blobs", *(make_blobs(130, seed) for seed in range(3)))
    monkeypatch.setattr(marker.datasets, "load", lambda name, image_size: asked.append((name, image_size)) or whole)
    found = marker.variants("phantom:pneumonia", "smoke")
    assert list(found) == [marker.WITH, marker.WITHOUT, marker.SWAPPED]
    assert asked[1] == ("phantom:pneumonia_unmarked", 16)
    assert [len(part) for part in found[marker.SWAPPED].splits().values()] == [100] * 3
    assert marker.load("folder:/x", "demo") is whole
    for other in ("phantom:pneumonia_unmarked", "pneumonia:/x", "folder:/x"):
        assert marker.variants(other, "smoke") is None


def test_any_marker_of_the_phantom_lies_in_the_corner_and_none_survives_the_crop():
    usual, plain = (few_phantoms(name, "test", each=32, image_size=64) for name in ("pneumonia", "pneumonia_unmarked"))
    edge = round(64 * MARKER_CORNER)
    found = marker.carries(usual, plain)
    assert 0 < found[usual.labels == 1].sum() < found[usual.labels == 0].sum()
    differs = (usual.images != plain.images).any((0, 1))
    assert differs[:edge, :edge].any()
    assert not differs[edge:].any()
    assert not differs[:, edge:].any()
    assert np.array_equal(marker.cropped(usual).images, marker.cropped(plain).images)
    assert (marker.corners(usual).images != marker.corners(plain).images).any((1, 2, 3)).tolist() == found.tolist()


def test_marked_images_and_their_twins(variants):
    images, plain = variants[marker.WITH].test, variants[marker.WITHOUT].test
    assert marker.carries(images, plain).tolist() == (images.labels == 0).tolist()
    marked, twins = marker.twins(images, plain, 4)
    assert len(marked) == 4
    assert marked.groups.tolist() == twins.groups.tolist()
    assert marker.carries(marked, twins).all()
    with pytest.raises(ValueError, match="must show the same patients in the same order"):
        marker.carries(images, plain.subset(range(29, -1, -1)))


def test_the_detector_tells_markers_and_sees_no_test_image(variants):
    data, audit = variants[marker.WITH], LeakAudit(variants[marker.WITH])
    found_by = marker.detector(variants, CONFIG, audit, seed=0)
    assert [seen["allowed"] for seen in audit.seen] == [[], ["val"]]
    assert audit.seen[0]["images"] == 60 + 60  # all without, and those of both classes with
    table = marker.marker_shares(found_by, {"real": data.test, "none": variants[marker.WITHOUT].test}, variants)
    shares = table.set_index(["source", "class"])["marked"]
    assert shares[marker.TRUTH].tolist() == [1.0, 0.0]
    assert shares["real", "bright"] > 0.8 > 0.2 > shares["real", "dark"]
    assert shares["none"].max() < 0.2
    assert table.loc[0, "low"] == pytest.approx(0.025 ** (1 / 15))  # 15 of 15
    gaps = marker.gap_results([table], data.train.class_names).set_index("method")["marker_gap"]
    assert gaps[marker.TRUTH] == 1.0
    assert gaps[marker.ABSENT] == 0.0


class Fixed:
    """Stands for TrainedArms: every classifier calls bright what has a white square, or is wrong."""

    jobs = (Job("real", 0, 0), Job("real", 1, 0))

    def classifier(self, job):
        return self

    def predict(self, images):
        return 1 - (images.images[:, 0, 1, 1] == 255).astype(int)


def test_who_goes_by_the_marker_falls_with_it(variants):
    found = marker.tested(Fixed(), {variant: splits.test for variant, splits in variants.items()})
    table = marker.variant_table(found)
    assert table[[marker.WITH, marker.WITHOUT, marker.SWAPPED]].to_numpy().tolist() == [[1.0, 0.5, 0.0]] * 2
    lost = marker.changes(found).set_index("variant")
    assert lost["change"].tolist() == [-0.5, -1.0]
    assert lost.loc[marker.SWAPPED, ["gained", "lost", "seeds"]].tolist() == [0, 30, 2]
    assert lost.loc[marker.WITHOUT, "p_mcnemar"] == pytest.approx(2 * stats.binomtest(0, 15).pvalue)
    methods = marker.as_methods(found, "real")
    assert methods["method"].tolist() == [v for v in variants for _ in range(2)]


class ByTheMarker:
    """Is the surer of class 1 the brighter the place of the marker is, and a little by the middle."""

    def probabilities(self, images):
        pixels = (images.images if isinstance(images, ImageSet) else images).astype(float)
        logit = pixels[:, 0, 1:3, 1:3].mean((1, 2)) / 100 + pixels[:, 0, 7:9, 7:9].mean((1, 2)) / 400
        p = 1 / (1 + np.exp(3 - logit))
        return np.stack([1 - p, p], 1).astype(np.float32)


def test_attention_to_the_marker_is_more_where_there_is_one(variants):
    marked, plain = marker.twins(variants[marker.WITH].test, variants[marker.WITHOUT].test, 12)
    found = marker.attention({"real": [ByTheMarker(), ByTheMarker()]}, marked, plain)
    assert found["classifier"].tolist() == [0, 1]
    assert found.loc[0, "with_marker"] > found.loc[0, "without_marker"] + 0.2
    assert found.loc[0, "p"] == pytest.approx(2 / 2**12)  # all twelve patients the same way
    assert found.loc[0, "maps"].shape == (2, 8, 8)
    assert found.loc[0, "maps"][1].sum() == pytest.approx(1, rel=1e-4)
    tests = marker.attention_tests(found)
    assert tests.loc[0, ["area", "classifiers"]].tolist() == [1 / 16, 2]
    assert tests.loc[0, "p"] == pytest.approx(2 * found.loc[0, "p"])


def test_images_of_one_patient_are_one_pair():
    differences, patients = np.array([1.0, 3.0, -3.0, 5.0, 6.0, 7.0]), np.array(list("aabcde"))
    assert marker._paired_p(differences, patients) == pytest.approx(stats.wilcoxon([2.0, -3.0, 5.0, 6.0, 7.0]).pvalue)
    assert marker._paired_p(np.zeros(6), patients) == 1.0


def test_gains_of_both_utilities_stand_beside_each_other():
    rows = {"seed": [0, 0], "generator_seed": [0, 0]}
    augmentation = pd.DataFrame({"method": ["real", "traditional"], **rows, "gain": [0.0, 0.1]})
    extraction = pd.DataFrame({"method": ["real", "scratch"], **rows, "gain": [0.0, -0.3]})
    table = marker.gains(*(Utility(gains, pd.DataFrame()) for gains in (augmentation, extraction)))
    assert table["method"].tolist() == ["real", "traditional", "scratch"]
    assert table["augmentation"].tolist()[:2] == [0.0, 0.1]
    assert np.isnan(table.loc[1, "extraction"])
    assert table.loc[2, "extraction"] == -0.3
