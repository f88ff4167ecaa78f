"""nbutils.composition: weights, ranks, masks."""

from types import SimpleNamespace

import numpy as np
import pytest

from nbutils import composition, pipelines
from nbutils.composition import box_masks, change_outside, gradual, rank_correlations, shares
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


def test_an_interpolation_is_gradual_on_average():
    rising = np.linspace(0, 1, 5)[:, None] + np.zeros((5, 12))
    found = gradual(rising + np.random.default_rng(0).normal(0, 0.2, rising.shape))
    assert found["low"] < found["rho"] < found["high"]
    assert found["rho"] > 0.5
    assert found["p"] < 0.01
    assert gradual(np.zeros((5, 4)))["p"] == 1.0


def test_masks_are_squares_at_the_asked_place():
    masks = box_masks(2, 16, centre=(0.75, 0.25), extent=0.25)
    assert masks.shape == (2, 16, 16)
    assert (np.argwhere(masks[0]).min(0).tolist(), np.argwhere(masks[0]).max(0).tolist()) == ([10, 2], [13, 5])
    assert np.array_equal(masks[0], masks[1])


def test_only_what_is_outside_counts_and_the_autoencoder_is_the_measure(monkeypatch):
    before, masks = np.full((1, 1, 8, 8), 100, np.uint8), box_masks(1, 8, (0.5, 0.5), 0.5)
    after = before.copy()
    after[0, 0][masks[0]] = 0
    after[0, 0, 2, 1] = 180  # beside the mask
    monkeypatch.setattr(pipelines, "reconstruct", lambda autoencoder, images: images + np.uint8(3))
    generator = SimpleNamespace(working_size=8, autoencoder=None)
    found = change_outside(generator, before, after, masks)
    assert found["inpainted"] == pytest.approx(80 / 48)
    assert found["autoencoder"] == pytest.approx(3)
    assert change_outside(generator, before, after, masks, border=1)["inpainted"] == 0
