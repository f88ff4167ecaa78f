"""nbutils.tuning: the settings of the tables, and distances on them."""

import numpy as np
import pandas as pd
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


def test_other_rows_may_be_drawn_with_fewer_steps():
    rows = tuning.settings(100, steps=25)
    assert [rows[f"steps {n}"].steps for n in tuning.STEPS] == list(tuning.STEPS)
    assert {setting.steps for name, setting in rows.items() if not name.startswith("steps")} == {25}
    assert rows["steps 25"] == rows["guidance 2"] == rows["vectors 64"] == rows["cases 100"]


def test_settings_are_drawn_once_each_by_the_papers_sampler(blobs, monkeypatch):
    asked = []

    class Generator:
        card: dict = {"class_names": list(tuning.concepts(blobs)[0].class_names)}  # noqa: RUF012

        def drawn_with(self, **sampling):
            return sampling

    def samples(generator, labels, seed):
        asked.append(generator)
        return (generator["num_sampling_steps"], generator["guidance_scale"], labels.tolist(), seed)

    monkeypatch.setattr(tuning.generators, "samples", samples)
    found = tuning.drawn(Generator(), len(blobs), count=3, seed=5, sizes=tuning.TuningScale(3, steps=25))
    assert len(asked) == 14
    assert {sampling["sampler"] for sampling in asked} == {"euler-ancestral"}
    assert found["guidance 3"] == (25, 3.0, [0, 0, 0], 5)
    assert found["steps 75"][0] == 75
    assert found["cases 5"] == (25, 2.0, [4, 4, 4], 5)
    assert found["steps 25"] == found["vectors 64"]
    shortened = tuning.drawn(Generator(), len(blobs), 3, 5, tuning.TuningScale(3, steps=25, shortened=12))
    assert (shortened["steps 100"][0], shortened["cases 5"][0]) == (8, 2)


def test_healthy_slices_are_the_first_channel_of_the_first_class():
    images = make_blobs(6, 0, image_size=16, channels=3)
    slices = tuning.healthy_slices(images)
    assert np.array_equal(slices.images, images.images[images.labels == 0][:, :1])
    other = tuning.healthy_slices(images, "dark", count=2)
    assert len(other) == 2
    assert set(other.labels) == {1}
    with pytest.raises(ValueError, match=r"Unknown class 'darc'.*Did you mean 'dark'"):
        tuning.healthy_slices(images, "darc")


def test_too_few_images_for_a_distance_are_named_at_once(blobs):
    assert tuning.checked_count(None, "demo", blobs) == 100
    with pytest.raises(ValueError, match="Distances need 6 images: num_images is 5"):
        tuning.checked_count(5, "demo", blobs)
    with pytest.raises(ValueError, match="there are 3 test images"):
        tuning.checked_count(None, "demo", blobs.subset([0, 1, 2]))


def test_distances_stand_beside_the_printed_ones():
    rows = [
        {"method": method, "fd_shipped": value, "fd_shipped_train": 1.0, "precision": 0.5, "seed": seed}
        for method, values in {"real (train)": (1.0, 3.0), "steps 50": (4.0, 4.0)}.items()
        for seed, value in enumerate(values)
    ]
    table = tuning.beside_reported(pd.DataFrame(rows)).set_index("setting")
    assert table.loc["real (train)", "to test ↓"] == "2.00 ± 1.41"
    assert table["paper FID"].tolist() == ["", "184"]
    assert tuning.beside_reported(pd.DataFrame(rows[:1])).loc[0, "to test ↓"] == "1.00"


def test_each_setting_changes_one_value_of_the_best():
    best = tuning.BEST
    for setting in tuning.settings(100).values():
        assert sum(getattr(setting, name) != value for name, value in best.items()) <= 1


def test_few_cases_leave_out_the_rows_that_need_more():
    assert [name for name in tuning.settings(30) if name.startswith("cases")] == ["cases 5", "cases 10", "cases 30"]
    assert tuning.settings(30)["steps 100"].cases == 30
    assert [name for name in tuning.settings(4) if name.startswith("cases")] == ["cases 4"]


def test_the_concepts_share_their_cases(blobs):
    images, vectors = tuning.concepts(blobs)
    assert vectors == (64, 8, 16, 32, 64, 64, 64)
    assert images.class_counts().tolist() == [60, 60, 60, 60, 5, 10, 50]
    five, ten, all_of_them = (set(images.of_class(label).groups) for label in (4, 5, 0))
    assert five < ten < all_of_them == set(blobs.groups)


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
    fewer = tuning.distances({"few": dark.subset(range(20))}, train, test)
    assert fewer["n"].tolist() == [20]
    assert fewer["fd_shipped"].iloc[0] == tuning.distances({"a": dark.subset(range(20))}, train, test).iloc[0, 1]
