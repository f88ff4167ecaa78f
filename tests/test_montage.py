"""nbutils.montage: which slices of a CT volume are shown, and how they are tiled."""

import numpy as np
import pytest
import torch

from nbutils.montage import choose_slices, clusters, lung_shares, tiled

SHARES = np.array([0.0, 0.10, 0.3, 0.3, 0.05, 0.3, 0.3, 0.3, 0.3, 0.3, 0.101, 0.1, 0.0])


def test_slices_are_dropped_from_both_ends_only_and_the_rest_is_divided_into_four():
    parts = [part.tolist() for part in clusters(SHARES)]
    assert parts == [[2, 3, 4], [5, 6], [7, 8], [9, 10]]


def test_each_cluster_gives_one_slice_from_top_to_bottom():
    numbers = np.random.default_rng(0).random((500, 4))
    chosen = choose_slices(SHARES, numbers)
    assert chosen.shape == (500, 4)
    assert [sorted(set(column)) for column in chosen.T] == [[2, 3, 4], [5, 6], [7, 8], [9, 10]]
    assert choose_slices(SHARES, numbers[7]).tolist() == chosen[7].tolist()


@pytest.mark.parametrize("shares", [np.zeros(20), np.array([0, 0.2, 0.2, 0.2, 0.0])])
def test_too_few_slices_with_lung_are_refused(shares):
    found = (shares > 0.1).sum()
    with pytest.raises(ValueError, match=rf"needs 4 slices .* more than 10 % of lung, found {found} of {len(shares)}"):
        clusters(shares)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_four_slices_are_tiled_in_rows(kind):
    slices = kind([[[[n, n, n], [n, n, n]] for n in range(first, first + 4)] for first in (0, 10)])  # (2, 4, 2, 3)
    shown = tiled(slices)
    assert tuple(shown.shape) == (2, 4, 6)
    assert shown[1, ::2, ::3].tolist() == [[10, 11], [12, 13]]


def test_lung_is_air_inside_the_body():
    hu = np.full((2, 20, 20), -1000.0)
    hu[:, 2:18, 2:18] = 40
    hu[1, 5:13, 5:10] = -850
    hu[1, 2:4, 14] = -900  # a notch of the skin, joined to the air around
    assert lung_shares(hu).tolist() == [0, 40 / 400]
