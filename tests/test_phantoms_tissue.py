"""The tissue phantoms: six classes that a pathologist tells by nuclei, fibres, holes and rings."""

import numpy as np
import pytest
import torch
from conftest import few_phantoms, streams

from nbutils import phantoms
from nbutils.phantoms.canvas import axis
from nbutils.phantoms.glands import glands
from nbutils.phantoms.tissue import HALF_UM, NEIGHBOURS, _side


@pytest.fixture(scope="module")
def tissue():
    """24 patches of each class, rendered once."""
    return few_phantoms("tissue", "test", each=24, image_size=64)


def of_each(tissue, values) -> dict[str, float]:
    return {name: float(np.median(values[tissue.labels == label])) for label, name in enumerate(tissue.class_names)}


def test_frequencies_are_those_of_the_masks_of_bcss_and_tumor_and_stroma_prevail():
    shown = phantoms.modality("tissue")
    train = dict(zip(shown.class_names, shown.counts["train"], strict=True))
    assert train["tumor"] + train["stroma"] > 0.7 * sum(train.values())
    for name, share in {"inflammatory": 7.9, "necrosis": 4.9, "stroma": 27.7}.items():
        assert train[name] / train["tumor"] == pytest.approx(share / 30.5, rel=0.03)
    assert shown.counts["test"] == shown.counts["train"]
    assert sum(shown.counts["val"]) == sum(shown.counts["train"]) / 2


def test_tissues_differ_as_a_pathologist_says(tissue):
    red, green, blue = tissue.images.astype(float).mean((2, 3)).T
    holes = (tissue.images.min(1) > 200).mean((1, 2))
    ink = of_each(tissue, red / blue)  # haematoxylin takes red
    assert of_each(tissue, holes)["fat"] > 0.4 > 0.1 > of_each(tissue, holes)["tumor"]
    assert min(ink["stroma"], ink["necrosis"]) > max(ink["inflammatory"], ink["tumor"]) + 0.05
    assert of_each(tissue, green)["tumor"] < of_each(tissue, green)["stroma"]


def test_a_class_fills_more_than_half_of_its_patch():
    own = _side(streams(200, 1), axis(64, HALF_UM)).mean((1, 2))
    assert own.min() > 0.47
    assert 0.6 < own.mean() < 0.85
    assert torch.allclose(NEIGHBOURS.sum(1), torch.ones(6))


def test_glands_are_rings_of_nuclei_round_a_pale_lumen():
    line = axis(128, HALF_UM)
    stains, inside = glands(streams(16, 2), line)
    assert 0.3 < inside.mean() < 0.9
    dark = stains[:, 0] > 0.6
    border = torch.nn.functional.max_pool2d(1 - inside[:, None], 17, 1, 8)[:, 0]  # within 8 um of the outside
    ring, core = border > 0.5, border < 0.5
    share = [(dark * inside * part).sum() / (inside * part).sum() for part in (ring, core)]
    assert share[0] > 3 * share[1]


def test_a_slide_is_stained_in_one_laboratory(tissue):
    stroma = tissue.of_class(tissue.class_names.index("stroma"))
    colour = stroma.images.astype(float).mean((2, 3))
    repeated = [group for group in np.unique(stroma.groups) if (stroma.groups == group).sum() > 1]
    within = np.mean([colour[stroma.groups == group].var(0, ddof=1).sum() for group in repeated])
    assert within < colour.var(0).sum()
