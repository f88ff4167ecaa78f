"""nbutils.papers: printed numbers, protocols, verdicts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nbutils import generators, papers, phantoms
from nbutils.classification import CLASSIFIERS
from nbutils.papers import Claim, check_claims, genmix_claims, protocol, reported, reported_value, summarise


def results(**methods):
    rows = [
        {"method": name, "seed": seed, "generator_seed": 0, "accuracy": value}
        for name, values in methods.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def verdict(ours, rival, expects="more"):
    claim = Claim("genmix", "a beats b", "a", ("b",), "accuracy", expects)
    return check_claims([claim], results(a=ours, b=rival)).iloc[0]


NOISE = np.random.default_rng(0).normal(0, 0.01, 12)


@pytest.mark.parametrize(
    ("shift", "expects", "expected"),
    [
        (0.05, "more", "replicated"),
        (-0.05, "more", "not replicated"),
        (-0.05, "less", "replicated"),
        (0.05, "less", "not replicated"),
        (0.05, "no gain", "not replicated"),
        (-0.05, "no gain", "replicated"),
        (0.0, "no gain", "replicated"),
        (0.0, "more", "not replicated"),
    ],
)
def test_verdicts_follow_the_direction_of_the_claim(shift, expects, expected):
    noise = NOISE - NOISE.mean()
    assert verdict(0.7 + shift + noise, np.full(12, 0.7), expects)["verdict"] == expected


def test_a_small_effect_among_noise_is_inconclusive():
    wide = 5 * (NOISE - NOISE.mean())
    assert verdict(0.71 + wide, np.full(12, 0.7))["verdict"] == "inconclusive"


def test_three_pairs_are_never_enough():
    row = verdict([0.9, 0.91, 0.92], [0.1, 0.12, 0.11])
    assert row["verdict"] == "inconclusive"
    assert row["pairs"] == 3


def test_the_test_is_paired_and_its_numbers_are_those_of_scipy():
    ours, rival = 0.7 + 0.02 + NOISE, 0.7 + NOISE[::-1]
    row = verdict(ours, rival)
    assert row["p"] == pytest.approx(stats.wilcoxon(ours - rival).pvalue)
    low, high = stats.ttest_rel(ours, rival).confidence_interval()
    assert row["interval_95"] == f"{100 * low:+.1f} .. {100 * high:+.1f}"
    assert row["effect_size_dz"] == pytest.approx(np.mean(ours - rival) / np.std(ours - rival, ddof=1))


def test_the_strongest_rival_is_the_one_that_counts():
    claim = Claim("genmix", "a is best", "a", ("b", "c", "absent"), "accuracy")
    table = check_claims([claim], results(a=0.8 + NOISE, b=0.5 + NOISE, c=0.9 + NOISE[::-1]))
    assert table["ours"].iloc[0].endswith("(c)")
    assert table["verdict"].iloc[0] == "not replicated"


def test_a_claim_about_a_method_that_did_not_run_says_so():
    claims = [Claim("genmix", "x", "absent", ("a",), "accuracy"), Claim("genmix", "y", "a", ("absent",), "accuracy")]
    assert check_claims(claims, results(a=[0.5, 0.6]))["verdict"].tolist() == ["not run", "not run"]


def test_p_values_are_corrected_over_the_table():
    claims = [Claim("genmix", str(i), "a", ("b",), "accuracy") for i in range(3)]
    table = check_claims(claims, results(a=0.72 + NOISE, b=0.7 + NOISE[::-1]))
    assert table["p_holm"].tolist() == pytest.approx([min(1, 3 * p) for p in table["p"]])
    assert papers._holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # worked by hand


def test_every_printed_number_of_table_1_is_there():
    table = reported("genmix")
    assert table.groupby("method").size().eq(8).all()
    assert table["method"].nunique() == 11
    assert reported_value("genmix", "genmix(textual-inversion)", "accuracy") == pytest.approx(0.814)
    assert np.isnan(reported_value("genmix", "stylegan2-ada", "accuracy"))


def test_the_claims_agree_with_the_papers_own_table():
    for claim in genmix_claims():
        metric = claim.printed_metric or claim.metric
        ours = reported_value("genmix", claim.method, metric)
        rivals = [reported_value("genmix", other, metric) for other in claim.others]
        holds = {"more": ours > max(rivals), "less": ours < min(rivals), "no gain": True}
        assert holds[claim.expects], claim


def test_paper_scale_has_the_numbers_of_the_protocol():
    for setting, value in protocol("genmix").items():
        part, _, field = setting.partition(".")
        if part in generators.names():
            assert getattr(generators.create(part, scale="paper").config, field) == value, setting
        elif part == "classifier":
            assert getattr(CLASSIFIERS["paper"], field) == value, setting
        elif part == "phantom":
            assert "+".join(str(n) for n in phantoms.modality("liver").counts[field]) == value, setting
        else:
            assert part in ("share", "alpha"), setting


def test_the_summary_is_mean_sd_and_n_over_seeds():
    table = summarise(results(b=[0.1, 0.3], a=[0.5, 0.5])).set_index("method")
    assert table.index.tolist() == ["b", "a"]
    assert table.loc["b", ["mean", "sd", "n"]].tolist() == pytest.approx([0.2, np.std([0.1, 0.3], ddof=1), 2])
