"""nbutils.composition: weights, ranks, masks."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nbutils import composition
from nbutils.claims import interpolation_claims
from nbutils.composition import box_masks, change_outside, rank_correlations, shares
from nbutils.papers import check_claims
from nbutils.seeds import image_seeds


def test_classes_get_the_weights_they_are_given():
    assert shares(("a", "b c", "d"), **{"b c": 0.5, "d": 0.25}).tolist() == [0, 0.5, 0.25]
    with pytest.raises(ValueError, match="Unknown class 'e'"):
        shares(("a", "b"), e=1.0)


def test_an_interpolation_keeps_the_noise_and_changes_the_weights():
    asked = {}

    def compose(weights, seeds):
        asked.update(weights=np.asarray(weights), seeds=seeds)
        return np.arange(len(weights), dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 1, 4, 4), np.uint8)

    generator = SimpleNamespace(card={"class_names": ["well", "ill", "other"]}, compose=compose)
    images = composition.interpolated(generator, "well", "ill", count=2, seed=3, levels=(0.0, 0.25, 1.0))
    assert images.shape == (3, 2, 1, 4, 4)
    assert asked["weights"][::2].tolist() == [[1, 0, 0], [0.75, 0.25, 0], [0, 1, 0]]
    assert asked["seeds"] == image_seeds(3, 2, "interpolation") * 3
    assert images[1, 1, 0, 0, 0] == 3  # the second level of the second noise


def test_ranks_say_whether_every_step_leads_towards_the_disease():
    probabilities = np.array([[0.1, 0.9, 0.5], [0.2, 0.5, 0.5], [0.15, 0.4, 0.5], [0.6, 0.2, 0.5], [0.9, 0.1, 0.5]])
    assert rank_correlations(probabilities) == pytest.approx([0.9, -1, 0])
    assert rank_correlations(probabilities / 1e4).tolist() == [0, 0, 0], "what nobody sees is no trend"


def test_grades_have_a_row_for_each_noise(monkeypatch):
    found = np.array([[0.1, 0.9], [0.2, 0.5], [0.3, 0.4], [0.6, 0.2], [0.9, 0.1]])
    monkeypatch.setattr(composition.oracle, "probability", lambda images, modality, end: found)
    table = composition.graded(np.zeros((5, 2, 1, 8, 8), np.uint8), "phantom:chest", "effusion", generator_seed=3)
    assert table["seed"].tolist() == ["3-0", "3-1"]
    assert table["rank_correlation"].tolist() == pytest.approx([1, -1])
    assert table["at 25 %"].tolist() == [0.2, 0.5]


def test_diseases_join_one_after_the_other():
    asked = []

    def compose(weights, seeds, guidance_scale):
        asked.append((np.asarray(weights)[0].tolist(), guidance_scale, seeds))
        return np.zeros((len(weights), 1, 4, 4), np.uint8)

    generator = SimpleNamespace(card={"class_names": ["well", "a", "b", "c"]}, compose=compose)
    found = composition.several(generator, "well", ["a", "b"], count=2, seed=1)
    assert list(found) == ["well", "a", "a + b"]
    assert [weights for weights, _, _ in asked] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0]]
    assert [guidance for _, guidance, _ in asked] == [3.0, 3.0, 3.0]
    assert asked[0][2] == asked[2][2]


@pytest.mark.parametrize("modality", ["chest", "prostate", None])
def test_masks_fill_whole_cells_of_the_latents(modality):
    masks = composition.all_masks(1, 64, modality)
    assert list(masks) == ["left, small", "right, small", "left, large", "right, large"]
    for name, mask in masks.items():
        cells = mask[0].reshape(8, 8, 8, 8).mean((1, 3))
        assert set(np.unique(cells)) == {0, 1}, name
        assert (mask[0][:, :32].sum() > mask[0][:, 32:].sum()) == name.startswith("left")


def test_inpainting_is_measured_against_its_control(monkeypatch):
    def inpaint(images, masks, labels, seeds):
        return np.where(masks[:, None], np.uint8(50 * labels[0]), images)

    def probability(images, modality, end):
        return (images == {"a": 50, "b": 100}[end]).mean((1, 2, 3)) * 4

    monkeypatch.setattr(composition.oracle, "probability", probability)
    generator = SimpleNamespace(
        card={"class_names": ["well", "a", "b"]},
        inpaint=inpaint,
        rebuild=lambda images: images + np.uint8(51),
        pipeline=SimpleNamespace(unet=SimpleNamespace(config=SimpleNamespace(sample_size=8))),
    )
    before = np.full((3, 1, 16, 16), 10, np.uint8)
    table, drawn = composition.inpainted(generator, "phantom:chest", before, "well", seed=4)
    assert len(table) == 2 * 4 * 3 * 3
    assert list(drawn) == ["a", "b"]
    large = table[(table["place"] == "left, large") & (table["disease"] == "b")]
    means = large.groupby("way")[["probability", "outside_change"]].mean()
    assert means["probability"].to_dict() == {"inpainted": 1.0, "inpainted healthy": 0.0, "rebuilt": 0.0}
    assert means["outside_change"].to_dict() == pytest.approx({"inpainted": 0, "inpainted healthy": 0, "rebuilt": 0.2})
    assert (drawn["b"]["left, small"] == 100).sum() == 3 * 16
    assert table["seed"].unique().tolist() == ["4-0", "4-1", "4-2"]
    other, _ = composition.inpainted(generator, "folder:x", before, "a", seed=4)
    assert other["probability"].isna().all()
    assert other["disease"].unique().tolist() == ["well", "b"]


def test_interpolations_are_compared_with_none_and_with_no_trend():
    rows = {"method": "chest: effusion", "seed": ["0-0", "0-1"], "generator_seed": 0, "rank_correlation": [1.0, 0.5]}
    results = pd.DataFrame({**rows, "at 0 %": [0.1, 0.2], "at 100 %": [0.9, 0.8]})
    table = composition.with_rivals(results)
    by_method = table.groupby("method")[["rank_correlation", "probability"]].mean()
    assert by_method.loc["chest: effusion"].tolist() == pytest.approx([0.75, 0.85])
    assert by_method.loc["chest: effusion, healthy", "probability"] == pytest.approx(0.15)
    assert by_method.loc["no trend", "rank_correlation"] == 0
    claims = check_claims(interpolation_claims(["chest: effusion"]), table)
    assert claims["pairs"].tolist() == [2, 2]


def test_outlines_lie_inside_the_border():
    images, masks = np.zeros((1, 3, 16, 16), np.uint8), box_masks(1, 16, (0.5, 0.5), 0.5)
    drawn = composition.outlined(images, masks)
    assert (drawn[0, 0] == 255).sum() == 4 * 7
    assert (drawn[0, :, ~masks[0]] == 0).all()


def test_masks_are_squares_at_the_asked_place():
    masks = box_masks(2, 16, centre=(0.75, 0.25), extent=0.25)
    assert masks.shape == (2, 16, 16)
    assert (np.argwhere(masks[0]).min(0).tolist(), np.argwhere(masks[0]).max(0).tolist()) == ([10, 2], [13, 5])
    assert np.array_equal(masks[0], masks[1])


def test_only_what_is_outside_counts():
    before, masks = np.full((1, 1, 8, 8), 100, np.uint8), box_masks(1, 8, (0.5, 0.5), 0.5)
    after = before.copy()
    after[0, 0][masks[0]] = 0
    after[0, 0, 2, 1] = 180  # beside the mask
    assert change_outside(before, after, masks).tolist() == pytest.approx([80 / 48 / 255])
    assert change_outside(before, after, masks, border=1).tolist() == [0]
