"""The lung CT phantoms: volumes of which montages show slices, the same slice always the same."""

import numpy as np
import pytest
import torch
from conftest import few_phantoms, streams

from nbutils.montage import MONTAGES_PER_VOLUME, clusters
from nbutils.phantoms import lung_ct
from nbutils.phantoms.canvas import axis
from nbutils.phantoms.chest_ct import draw_chest, lungs


@pytest.fixture(scope="module")
def montages():
    """3 volumes of each class, rendered once."""
    return few_phantoms("lung_ct", "test", each=3 * MONTAGES_PER_VOLUME, image_size=64)


def shares(seed: int, shrunken: bool = False) -> np.ndarray:
    """Return the part of each slice that is lung in 8 volumes, (8, NUM_SLICES)."""
    chest = draw_chest(streams(8, seed), shrunken)
    heights = lung_ct._height(torch.arange(lung_ct.NUM_SLICES).repeat(8))
    rows = torch.arange(8).repeat_interleave(lung_ct.NUM_SLICES)
    return lungs(chest.rows(rows), axis(24), heights)[0].mean((1, 2)).view(8, -1).numpy()


def test_a_patient_is_a_volume_with_twenty_montages(montages):
    assert np.unique(montages.groups, return_counts=True)[1].tolist() == [MONTAGES_PER_VOLUME] * 6


def test_volumes_begin_above_the_lungs_and_end_below_them():
    found = shares(1)
    assert (found[:, [0, -1]] == 0).all()
    assert (found.max(1) > 0.2).all()
    assert all(len(np.concatenate(clusters(volume))) < lung_ct.NUM_SLICES - 8 for volume in found)
    assert shares(1, shrunken=True).sum() < found.sum()


def test_the_same_slice_looks_the_same_in_every_montage():
    image = streams(16, 5)
    chest = draw_chest(streams(16, 3), shrunken=False)
    chosen = lung_ct._choose(chest, image)
    drawn = lung_ct.draw(lung_ct.HEALTHY, streams(16, 3), streams(16, 5), 64)
    again = lung_ct.draw(lung_ct.HEALTHY, streams(16, 3), streams(16, 6), 64)
    other = lung_ct._choose(chest, streams(16, 6))
    same = (chosen[:, 0] == other[:, 0]).nonzero()[:, 0]
    assert 0 < len(same) < 16
    upper_left = slice(None), 0, slice(0, 32), slice(0, 32)
    alike = (drawn[upper_left] - again[upper_left]).abs().amax((1, 2))
    assert (alike[same] < 1e-2).all()
    assert (alike[chosen[:, 0] != other[:, 0]] > 10).all()


def test_a_montage_is_the_same_whoever_else_is_drawn_beside_it():
    chest = draw_chest(streams(6, 3), shrunken=False)
    patients = torch.tensor([4, 1, 4, 0, 1])
    chosen = lung_ct._choose(chest.rows(patients), streams(5, 7))
    alone = [lung_ct._choose(chest.rows(patients[[i]]), streams(5, 7).rows([i])) for i in range(5)]
    assert torch.equal(chosen, torch.cat(alone))


def test_slices_go_from_top_to_bottom(montages):
    """The heart lies in the lower two slices, the trachea, black in the middle, in the first."""
    x = montages.images[:, 0].astype(float)
    upper, lower = x[:, 8:18, 34:62].mean((1, 2)), x[:, 40:50, 34:62].mean((1, 2))
    assert (lower > upper).mean() > 0.9


def test_fibrosis_lies_below_the_pleura_and_at_the_base():
    disease = lung_ct._disease(lung_ct.FIBROSIS, streams(16, 1))
    air, pixels = torch.full((16, 64, 64), -850.0), 64
    edge = axis(64).abs()[None, None].expand(16, 64, 64)
    added = [
        lung_ct._fibrosis(air, edge, disease, torch.full((16, 1, 1), t), pixels).sub(air).abs() for t in (0.1, 0.9)
    ]
    assert added[1].mean() > 1.5 * added[0].mean()
    assert added[1][..., [0, -1]].mean() > 5 * added[1][..., 28:36].mean()


def test_healthy_lungs_hold_more_air(montages):
    aired = (montages.images[:, 0] < 100).mean((1, 2))
    dense = montages.images[:, 0][:, 36:60].astype(float)
    body = ((dense > 95) & (dense < 190)).mean((1, 2))
    assert body[montages.labels == 1].mean() > body[montages.labels == 0].mean()
    assert aired[montages.labels == 0].mean() > aired[montages.labels == 1].mean()
