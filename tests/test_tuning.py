"""nbutils.tuning: the settings of the tables, and distances on them."""

import numpy as np
import pytest
from conftest import make_blobs

from nbutils import tuning
from nbutils.claims import textual_inversion_tuning_claims
from nbutils.images import ImageSet


def test_every_row_of_the_papers_tables_is_a_setting():
    claims = textual_inversion_tuning_claims()
    named = {name for claim in claims for name in (claim.method, *claim.others)}
    rows = tuning.settings(100)
    assert named == set(rows)
    assert {rows[f"{name} {value}"] for name, value in tuning.BEST.items()} == {tuning.Setting(**tuning.BEST)}


def test_each_setting_changes_one_value_of_the_best():
    best = tuning.BEST
    for setting in tuning.settings(100).values():
        assert sum(getattr(setting, name) != value for name, value in best.items()) <= 1


def test_few_cases_leave_out_the_rows_that_need_more():
    assert [name for name in tuning.settings(30) if name.startswith("cases")] == ["cases 5", "cases 10", "cases 30"]
    assert tuning.settings(30)["steps 100"].cases == 30
    assert [name for name in tuning.settings(4) if name.startswith("cases")] == ["cases 4"]


def test_the_concepts_share_their_cases(blobs):
    images, vectors = tuning.concepts(blobs, seed=0)
    assert vectors == (64, 8, 16, 32, 64, 64, 64)
    assert images.class_counts().tolist() == [60, 60, 60, 60, 5, 10, 50]
    five, ten, all_of_them = (set(images.of_class(label).groups) for label in (4, 5, 0))
    assert five < ten < all_of_them == set(blobs.groups)
    assert set(tuning.concepts(blobs, seed=1)[0].of_class(4).groups) != five


def test_z_scored_images_have_no_contrast_of_their_own():
    flat = np.full((1, 1, 16, 16), 7, np.uint8)
    noise = np.random.default_rng(0).integers(90, 110, (1, 1, 16, 16)).astype(np.uint8)
    images = ImageSet(np.concatenate([flat, noise, 2 * noise]), [0, 0, 0], ("a",), ["1", "2", "3"])
    found = tuning.z_scored(images).images.astype(float)
    assert (found[0] == 128).all()
    assert found[1].mean() == pytest.approx(128, abs=1)
    assert found[1].std() == pytest.approx(64, abs=2)
    assert np.abs(found[1] - found[2]).max() <= 1
    assert tuning.z_scored(images).fingerprint() != images.fingerprint()


def test_distances_grow_with_the_difference_and_know_their_reference():
    train, test = make_blobs(40, 1, image_size=32), make_blobs(40, 2, image_size=32)
    dark = ImageSet(train.images // 4, train.labels, train.class_names, train.groups, "dark")
    table = tuning.distances({"same": train, "dark": dark}, train, test).set_index("method")
    assert table.loc["same", "fd_shipped_train"] == pytest.approx(0, abs=1e-3)
    assert table.loc["dark", "fd_shipped"] > 2 * table.loc["same", "fd_shipped"] > 0
    assert table["n"].tolist() == [40, 40]
    scored = tuning.distances({"dark": dark}, train, test, z_score=True).set_index("method")
    assert scored.loc["dark", "fd_shipped"] < table.loc["dark", "fd_shipped"] / 2
