"""nbutils.aspects: rank correlations over generators, and the rule behind Fig. 1 of the utility paper."""

import numpy as np
import pandas as pd
import pytest

from nbutils.aspects import ASPECTS, NO_TREND, correlations_by_seed, rank_correlations, ticks
from nbutils.claims import printed_aspects
from nbutils.verdicts import holm


def printed(data):
    """Return Table I or II of the utility paper as `ticks` takes it."""
    table = printed_aspects(data).drop(index="traditional")
    return table.rename(columns={"fd_shipped": "distance", "peak_memory_mb": "peak_memory"})


def test_the_rule_gives_fig_1_from_the_papers_own_tables():
    found = ticks({data: printed(data) for data in ("histology", "xray")})
    assert {name: row.tolist() for name, row in found.iterrows()} == {
        "vqvae2": [False, True, False, False],
        "stylegan2-ada": [True, False, False, True],
        "ldm": [False, True, True, False],
    }
    assert tuple(found) == ASPECTS


@pytest.mark.parametrize(
    ("column", "value", "lost"),
    [
        ("distance", 5.0, "fidelity"),
        ("mean_image_kb", 16.0, "variety"),
        ("augmentation", -0.01, "utility"),
        ("p", 0.2, "utility"),
        ("seconds_per_1000", 20.0, "efficiency"),
        ("peak_memory", 20.0, "efficiency"),
    ],
)
def test_each_tick_hangs_on_its_own_number(column, value, lost):
    good = {"distance": 1.0, "mean_image_kb": 10.0, "augmentation": 0.02, "p": 0.01, "seconds_per_1000": 1.0,
            "peak_memory": 1.0}  # fmt: skip
    table = pd.DataFrame({"real": good, "a": good, "b": good}).T
    assert ticks({"x": table}).all(axis=None)
    table.loc["a", column] = value
    found = ticks({"x": table})
    assert found.loc["b"].all()
    assert [aspect for aspect in ASPECTS if not found.loc["a", aspect]] == [lost]


def test_a_loss_on_one_data_set_undoes_a_gain_on_another():
    table = printed("histology")
    other = table.copy()
    other.loc["ldm", ["augmentation", "p"]] = [-0.05, 0.01]
    assert ticks({"x": table}).loc["ldm", "utility"]
    assert not ticks({"x": table, "y": other}).loc["ldm", "utility"]


def test_every_quality_is_held_against_both_utilities():
    table = pd.DataFrame(
        {"fd": [1.0, 2, 3, 4, 5], "recall": [0.1, 0.3, 0.2, 0.5, np.nan], "augmentation": [5.0, 4, 3, 2, 1],
         "extraction": [1.0, 2, 3, 4, 5]}
    )  # fmt: skip
    found = rank_correlations(table, ["fd", "recall"]).set_index(["quality", "utility"])
    assert found["rho"].tolist() == pytest.approx([-1, 1, -0.8, 0.8])
    assert found["n"].tolist() == [5, 5, 4, 4]
    assert found.loc[("fd", "augmentation"), "p"] == pytest.approx(2 / 120)
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p"]))


def test_correlations_by_seed_rank_the_sources_behind_each_classifier():
    table = pd.DataFrame(
        {"source": ["a", "b", "c"] * 2, "generator_seed": [0] * 3 + [1] * 3, "fd_x": [1.0, 2, 3, 3, 2, 1],
         "recall": [0.1, 0.2, 0.3] * 2}
    )  # fmt: skip
    rows = [
        {"method": name, "seed": seed, "generator_seed": seed % 2, "augmentation": gain}
        for seed in range(2)
        for name, gain in (("real", 9.0), ("a", 3.0), ("b", 2.0), ("c", 1.0))
    ]
    found = correlations_by_seed(pd.DataFrame(rows), table, ["fd_x", "recall"], ["augmentation"])
    wide = found.pivot(index="seed", columns="method", values="rank_correlation")
    assert wide["fd_x (augmentation)"].tolist() == pytest.approx([1, -1])  # the nearer, the better; then the farther
    assert wide["recall (augmentation)"].tolist() == pytest.approx([-1, -1])
    assert wide[NO_TREND].tolist() == [0, 0]
    assert found["generator_seed"].tolist() == [0] * 3 + [1] * 3
