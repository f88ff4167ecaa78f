"""nbutils.papers: printed numbers, protocols, verdicts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nbutils import generators, phantoms
from nbutils.claims import (
    ANY_DATA,
    BEAUTY_DATA,
    BEAUTY_GENERATORS,
    IOIS_COPIES,
    IOIS_DATA,
    IOIS_METHODS,
    IOIS_METRICS,
    PRINTED_DATA,
    attention_claim,
    beauty_data,
    correlation_claims,
    genmix_claims,
    inheritance_claims,
    iois_claims,
    iois_class_claims,
    iois_copy_questions,
    iois_data,
    iois_questions,
    mage_classification_claims,
    mage_generation_claims,
    mage_questions,
    marker_claims,
    printed_aspects,
    printed_data,
    quality_claims,
    resolution_claims,
    shortcut_claims,
    textual_inversion_claims,
    textual_inversion_tuning_claims,
    time_claim,
    utility_claims,
    utility_questions,
)
from nbutils.datasets import aptos, ham10000
from nbutils.datasets.assembly import TEST_SHARE
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.guidance import GUIDANCE
from nbutils.metrics.manifold import NEIGHBOURS
from nbutils.online import REAL_FOR_EACH
from nbutils.oracle import modality_of
from nbutils.papers import (
    Claim,
    check_claims,
    mean_over,
    printed_table,
    protocol,
    reported,
    reported_means,
    reported_value,
    summarise,
    synthetic_share,
)
from nbutils.protocols import CLASSIFIERS, SHOWPIECE, TUNING_SHARE, config_at, tuning_config
from nbutils.reading import PER_CLASS
from nbutils.traditional import Traditional
from nbutils.verdicts import holm


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
        (0.003, "no gain", "replicated"),  # surely above, and surely less than an effect
        (0.003, "more", "replicated"),
    ],
)
def test_verdicts_follow_the_direction_of_the_claim(shift, expects, expected):
    noise = 0.1 * (NOISE - NOISE.mean())
    assert verdict(0.7 + shift + noise, np.full(12, 0.7), expects)["verdict"] == expected


def test_a_small_effect_among_noise_is_inconclusive():
    wide = 5 * (NOISE - NOISE.mean())
    assert verdict(0.71 + wide, np.full(12, 0.7))["verdict"] == "inconclusive"


def test_three_pairs_are_never_enough_to_replicate():
    row = verdict([0.9, 0.91, 0.92], [0.1, 0.12, 0.11])
    assert row["verdict"] == "inconclusive"
    assert row["pairs"] == 3


def test_one_pair_decides_nothing():
    assert verdict([0.9], [0.1])["verdict"] == "inconclusive"


@pytest.mark.parametrize("expects", ["more", "less", "no gain"])
@pytest.mark.parametrize("count", [2, 5, 12])
def test_equal_scores_decide_nothing(count, expects):
    assert verdict(np.full(count, 0.4), np.full(count, 0.4), expects)["verdict"] == "inconclusive"


@pytest.mark.parametrize("expects", ["more", "no gain"])
def test_five_pairs_are_not_enough_to_exclude_an_effect(expects):
    row = verdict(0.7 + 0.001 * NOISE[:5], 0.8 + 0.001 * NOISE[5:10], expects)
    assert row["verdict"] == "inconclusive"
    assert np.isnan([row["p"], row["p_excluded_holm"]]).all()


def test_generators_that_differ_are_the_units_of_the_test():
    """Three generators of four classifiers each, whose means are far apart: two degrees of freedom, not eleven."""
    generators = np.arange(12) % 3
    gains = np.array([0.002, -0.039, -0.019])
    table = results(a=0.8 + gains[generators] + 0.05 * NOISE, b=np.full(12, 0.8)).assign(
        generator_seed=lambda t: t["seed"] % 3
    )
    row = check_claims([Claim("genmix", "a beats b", "a", ("b",), "accuracy")], table).iloc[0]
    means = (0.05 * NOISE).reshape(4, 3).mean(0) + gains
    low, high = stats.ttest_1samp(means, 0).confidence_interval()
    assert row["interval_95"] == f"{100 * low:+.1f} .. {100 * high:+.1f}"
    assert row["p"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert row["p_excluded_holm"] == pytest.approx(stats.ttest_1samp(means, 0.01, alternative="less").pvalue)
    assert row["verdict"] == "inconclusive"


def test_our_own_questions_are_answered_with_yes_and_no():
    claims = [Claim(None, "a beats b", "a", ("b",), "accuracy"), Claim(None, "b beats a", "b", ("a",), "accuracy")]
    table = check_claims(claims, results(a=0.8 + NOISE, b=0.7 + NOISE[::-1]))
    assert table["verdict"].tolist() == ["yes", "no"]
    assert table["paper"].tolist() == ["our question"] * 2


def test_no_gain_must_hold_against_the_rival_that_is_easiest_to_beat():
    claim = Claim("genmix", "a helps over neither", "a", ("b", "c"), "accuracy", "no gain")
    row = check_claims([claim], results(a=0.8 + NOISE, b=0.9 + NOISE[::-1], c=0.7 + NOISE[::-1])).iloc[0]
    assert row["ours"].endswith("(c)")
    assert row["verdict"] == "not replicated"


def test_a_gain_behind_one_generator_only_decides_nothing():
    table = results(a=np.where(np.arange(12) % 3 == 0, 1.0, 0.79), b=0.8 + 0.001 * NOISE)
    claim = [Claim("genmix", "a beats b", "a", ("b",), "accuracy")]
    row = check_claims(claim, table.assign(generator_seed=table["seed"] % 3)).iloc[0]
    assert row["generators_agree"] == "1 of 3"
    assert row["verdict"] == "inconclusive"


def test_the_test_is_paired_and_its_numbers_are_those_of_scipy():
    ours, rival = 0.7 + 0.02 + NOISE, 0.7 + NOISE[::-1]
    row = verdict(ours, rival)
    assert row["p"] == pytest.approx(stats.wilcoxon(ours - rival).pvalue)
    low, high = stats.ttest_rel(ours, rival).confidence_interval()
    assert row["interval_95"] == f"{100 * low:+.1f} .. {100 * high:+.1f}"
    assert row["effect_size_dz"] == pytest.approx(np.mean(ours - rival) / np.std(ours - rival, ddof=1))


def test_the_rival_against_which_the_claim_is_weakest_counts():
    claim = Claim("genmix", "a is best", "a", ("b", "c"), "accuracy")
    steady = check_claims([claim], results(a=0.8 + NOISE, b=0.5 + NOISE, c=0.9 + NOISE[::-1])).iloc[0]
    assert steady["ours"].endswith("(c)")
    assert steady["verdict"] == "not replicated"
    wild = 0.7 + 50 * (NOISE - NOISE.mean())  # a lower mean than b's, but a is not surely above it
    row = check_claims([claim], results(a=0.8 + NOISE, b=0.75 + NOISE, c=wild)).iloc[0]
    assert row["ours"].endswith("(c)")
    assert row["verdict"] == "inconclusive"


def test_a_claim_with_a_missing_rival_cannot_be_replicated():
    claim = Claim("genmix", "a is best", "a", ("b", "absent"), "accuracy")
    row = check_claims([claim], results(a=0.8 + NOISE, b=0.5 + NOISE)).iloc[0]
    assert row["ours"].endswith("(b; not run: absent)")
    assert row["verdict"] == "inconclusive"


def test_a_claim_about_a_method_that_did_not_run_says_so():
    claims = [Claim("genmix", "x", "absent", ("a",), "accuracy"), Claim("genmix", "y", "a", ("absent",), "accuracy")]
    assert check_claims(claims, results(a=[0.5, 0.6]))["verdict"].tolist() == ["not run", "not run"]


def test_p_values_are_corrected_over_the_table():
    claims = [Claim("genmix", str(i), "a", ("b",), "accuracy") for i in range(3)]
    table = check_claims(claims, results(a=0.72 + NOISE, b=0.7 + NOISE[::-1]))
    assert table["p_holm"].tolist() == pytest.approx([min(1, 3 * p) for p in table["p"]])
    assert holm([0.01, np.nan, 0.04, 0.03]) == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)  # by hand


def test_every_printed_number_of_table_1_is_there():
    table = reported("genmix")
    assert table.groupby("method").size().eq(8).all()
    assert table["method"].nunique() == 11
    assert reported_value("genmix", "genmix(textual-inversion)", "accuracy") == pytest.approx(0.814)
    assert np.isnan(reported_value("genmix", "stylegan2-ada", "accuracy"))


MAGE_CLAIMS = [
    claim
    for data in PRINTED_DATA.values()
    for claim in (*mage_generation_claims(data), *mage_classification_claims(data))
    if claim.printed() != "in words only"  # its numbers cannot be read in our copy of the paper
]


IOIS_CLAIMS = [claim for data in IOIS_DATA.values() for claim in iois_claims(data)]


BEAUTY_CLAIMS = [claim for data in BEAUTY_DATA for claim in (*utility_claims(data), *quality_claims(data))] + [
    claim for data in ("xray", "ct") for claim in resolution_claims(data)
]


@pytest.mark.parametrize(
    "claim",
    [
        *(*genmix_claims(), *textual_inversion_claims(), *textual_inversion_tuning_claims()),
        *(*MAGE_CLAIMS, *IOIS_CLAIMS, *BEAUTY_CLAIMS),
    ],
)
def test_the_claims_agree_with_the_papers_own_table(claim):
    means = reported_means(claim.paper, (claim.method, *claim.others), claim.printed_metric or claim.metric)
    ours = means.pop(claim.method)
    rivals = [value for value in means.values() if not np.isnan(value)]
    margin = claim.margin * max(rivals) if claim.relative else 0.05
    holds = {"more": ours > max(rivals), "less": ours < min(rivals), "no gain": ours < max(rivals) + margin}
    assert holds[claim.expects], claim


def test_of_illegible_tables_the_legible_cells_are_compared():
    methods = ("fastgan", "mage", "mage-adapter", "mage-adapter-vq")
    means = reported_means("mage_adapter", methods, "ham10000:fid_test:*")
    assert means["mage-adapter"] == pytest.approx(np.mean([133.7, 90.0, 170.4, 125.5, 203.2, 203.3]))  # bcc is not
    assert means["mage"] == pytest.approx(np.mean([121.4, 77.7, 161.8, 114.2, 194.8, 197.7]))
    assert np.isnan(reported_means("mage_adapter", methods, "odir:fid_test:*")["fastgan"])
    assert len(MAGE_CLAIMS) == 33


def test_table_1_of_iois_is_there_with_the_gains_that_its_text_states():
    table = reported("iois")
    assert table["method"].unique().tolist() == list(IOIS_METHODS)
    columns = [f"{data}:{metric}" for data in IOIS_DATA.values() for metric in IOIS_METRICS]
    assert table.groupby("method")["metric"].apply(list).map(columns.__eq__).all()
    gains = {
        ("ois+aas", "real", "ham10000:mcc"): 4.53, ("ois+aas", "real", "aptos:mcc"): 3.97,
        ("offline", "real", "ham10000:macro_f1"): 2.31, ("offline", "real", "ham10000:balanced_accuracy"): 3.19,
        ("offline", "real", "ham10000:mcc"): 2.68, ("ois", "offline", "ham10000:mcc"): 0.24,
        ("ois", "offline", "aptos:mcc"): 0.22, ("ois+aas", "ois", "ham10000:mcc"): 1.61,
        ("ois+aas", "ois", "aptos:mcc"): 0.59, ("cb-focal", "real", "ham10000:balanced_accuracy"): 3.12,
        ("cb-focal", "real", "ham10000:mcc"): -0.80,
    }  # fmt: skip
    for (method, other, metric), gain in gains.items():
        found = 100 * (reported_value("iois", method, metric) - reported_value("iois", other, metric))
        assert found == pytest.approx(gain, abs=1e-6), (method, other, metric)


@pytest.mark.parametrize(("data", "count"), [("ham10000", 4), ("aptos", 3)])
def test_what_the_table_of_iois_contradicts_is_asked_and_not_claimed(data, count):
    questions = iois_questions(data)
    assert len(questions) == count
    for question in questions:
        methods = (question.method, *question.others)
        ours, rival = (reported_value("iois", method, f"{data}:{question.metric}") for method in methods)
        assert ours < rival, question


def test_the_tables_of_beauty_or_beast_are_there_with_the_numbers_its_text_states():
    stated = {
        ("ldm", "histology:augmentation"): 0.0364, ("traditional", "histology:augmentation"): 0.0407,
        ("vqvae2", "histology:fir"): 0.83, ("vqvae2", "xray:fir"): 1, ("stylegan2-ada", "histology:fir"): 0.08,
        ("vqvae2", "histology:fid"): 201.85, ("vqvae2", "xray:fid"): 45.59, ("real", "xray:mean_image_kb"): 50.46,
        ("stylegan2-ada", "xray:mean_image_kb"): 115.62, ("ldm", "xray:fir"): 0.8, ("ldm", "ct:256:fid"): 51.69,
    }  # fmt: skip
    for (method, metric), value in stated.items():
        assert reported_value("beauty_or_beast", method, metric) == pytest.approx(value), (method, metric)
    printed = reported("beauty_or_beast").groupby("item")["value"].count()
    assert printed.to_dict() == {"Table I": 48, "Table II": 48, "Table III": 50, "Table IV": 45}


def test_what_cannot_be_right_in_the_tables_of_beauty_or_beast_is_noted():
    table = reported("beauty_or_beast").set_index(["item", "method", "metric"])
    assert table.loc[("Table IV", "stylegan2-ada", "xray-cropped:fir"), ["value", "note"]].tolist() == [
        0.70,
        "prints 70.00",
    ]
    copied = table.loc["Table IV"].loc["traditional"]
    for metric in ("fid", "precision", "recall"):
        assert np.isnan(copied.loc[f"xray-cropped:{metric}", "value"])
        printed = reported_value("beauty_or_beast", "traditional", f"histology:{metric}")
        assert copied.loc[f"xray-cropped:{metric}", "note"].startswith(f"prints {printed:g}: equals the pathology row")
    contradicted = table[table["note"].str.contains("in Table I", na=False)]
    assert contradicted["value"].tolist() == [0.7, 115.62, 0.5, 92.84]


def test_claims_of_beauty_or_beast_without_a_table_are_in_words_only():
    words = [*shortcut_claims("with", ["without"]), *inheritance_claims(), attention_claim("a", "b")]
    claims = [*marker_claims(), time_claim(), *correlation_claims(["precision"]), *words]
    assert [claim.printed() for claim in claims] == ["in words only"] * 9


def test_our_sizes_stand_in_the_place_of_those_that_were_printed():
    claims = resolution_claims("ct", "fd_native", (32, 64, 128), "ct:")
    assert [claim.metric for claim in claims] == ["ct:fd_native:32", "ct:fir:32", "ct:fd_native:64", "ct:fir:64"]
    assert [claim.printed() for claim in claims[:2]] == ["41.76 vs 51.69", "100.0 vs 25.0"]
    assert claims[2].printed() == "8.24 vs 14.16"
    assert "at 64 px" in claims[2].text


def test_each_generator_of_beauty_or_beast_is_asked_against_what_the_paper_lacks():
    asked = {(question.method, *question.others, question.metric) for question in utility_questions()}
    rivals = [("traditional", "augmentation"), ("scratch", "extraction"), ("prior", "extraction")]
    assert asked == {(generator, *rival) for generator in BEAUTY_GENERATORS for rival in rivals}


def test_data_are_those_of_iois_by_name_or_by_the_phantom_drawn_after_them():
    asked = ("phantom:dermoscopy", "phantom:retinopathy", "aptos:/data/x", "phantom:liver", "folder:/data/aptos")
    assert [iois_data(name) for name in asked] == ["ham10000", "aptos", "aptos", None, None]


def test_of_other_data_iois_claims_nothing_and_all_is_asked():
    claims = [*iois_claims(None), *iois_questions(None), *iois_class_claims(None, ["a", "b"]), *iois_copy_questions()]
    assert {claim.paper for claim in claims} == {None}
    assert {claim.printed() for claim in claims} == {"our question"}
    assert all(claim.text.endswith("?") for claim in claims)
    assert len(iois_claims(None)) == len(iois_claims("ham10000"))
    assert {claim.metric for claim in iois_class_claims(None, ["a", "b"])} == {"sensitivity:a", "sensitivity:b"}
    for of in (iois_claims, iois_questions, lambda data: iois_class_claims(data, ["a"])):
        with pytest.raises(ValueError, match=r"Unknown data of Li et al\. 'liver'; allowed: 'ham10000', 'aptos'"):
            of("liver")


def test_fig_2_of_iois_is_claimed_in_words_of_the_classes_of_ham10000():
    names = phantoms.modality("dermoscopy").class_names
    claims = iois_class_claims("ham10000", names)
    assert {claim.metric.removeprefix("sensitivity:") for claim in claims} == set(names)
    assert {claim.printed() for claim in claims} == {"in words only"}
    focal = {claim.metric: claim.expects for claim in claims if claim.method == "focal"}
    assert focal["sensitivity:mel"] == "less"
    assert focal["sensitivity:df"] == "more"
    assert {claim.paper for claim in iois_class_claims("aptos", ["0"])} == {None}


def test_synthetic_images_are_asked_what_they_have_over_both_kinds_of_copies():
    asked = {(claim.method, claim.others) for claim in iois_copy_questions()}
    assert {("ois+aas", (rival,)) for rival in IOIS_COPIES} < asked
    assert {(copies, ("real",)) for copies in IOIS_COPIES} < asked


def test_distances_are_compared_by_their_ratio_and_shown_as_they_are():
    claim = Claim("textual_inversion", "x", "steps 100", ("steps 25",), "fd", "less", "fid", relative=True)
    table = results(**{"steps 100": 100 * np.exp(0.1 * NOISE), "steps 25": np.full(12, 110.0)})
    row = check_claims([claim], table.rename(columns={"accuracy": "fd"})).iloc[0]
    assert row["paper"] == "171 vs 194"
    assert row["ours"].startswith("100 ± 0.0")
    assert row["difference"] == pytest.approx(100 * np.log(100 / 110), abs=0.1)
    assert row["verdict"] == "replicated"


def test_a_data_set_is_printed_under_the_name_of_what_it_is_drawn_after():
    asked = ("phantom:dermoscopy", "phantom:cornea", "odir:/data/odir", "phantom:liver", "folder:/data/kera", "liver")
    assert [printed_data(name) for name in asked] == ["ham10000", "kera", "odir", ANY_DATA, ANY_DATA, ANY_DATA]


def test_printed_numbers_stand_in_a_table_with_gaps_where_they_cannot_be_read():
    table = printed_table("mage_adapter", "ham10000:fid_test:*")
    assert table.index.tolist()[:2] == ["fastgan", "stylegan2-ada"]
    assert table.loc["mage-adapter", "ham10000:fid_test:nv"] == 90.0
    assert table.loc["mage-adapter", "ham10000:fid_test:bcc"] == ""
    assert table.shape == (6, 7)


def test_a_mean_over_networks_keeps_methods_and_seeds():
    each = pd.DataFrame(
        {
            "network": ["vit", "vit", "swin", "swin"],
            "method": ["real", "a", "real", "a"],
            "seed": 3,
            "generator_seed": 1,
            "auc": [0.5, 0.6, 0.7, 0.9],
        }
    )
    found = mean_over(each, "network")
    assert found["method"].tolist() == ["real", "a"]
    assert found["auc"].tolist() == pytest.approx([0.6, 0.75])
    assert found[["seed", "generator_seed"]].to_numpy().tolist() == [[3, 1], [3, 1]]


def test_each_generator_is_asked_whether_it_beats_copies_of_real_images():
    asked = {(claim.method, claim.others) for claim in mage_questions(["a", "b"])}
    pairs = {("a", "real"), ("b", "real"), ("a", "real, repeated"), ("b", "real, repeated"), ("real, repeated", "real")}
    assert asked == {(method, (other,)) for method, other in pairs}


@pytest.mark.parametrize(("data", "gain"), [("ham10000", 0.0516), ("odir", 0.0274), ("kera", 0.0362)])
def test_the_printed_table_of_the_mage_adapter_has_the_gains_that_its_abstract_states(data, gain):
    accuracies = [
        np.mean([reported_value("mage_adapter", method, f"{data}:{network}:accuracy") for network in ("vit", "swin")])
        for method in ("mage-adapter-vq", "real")
    ]
    assert accuracies[0] - accuracies[1] == pytest.approx(gain, abs=1e-4)


def test_a_margin_of_its_own_says_what_a_claim_calls_an_effect():
    claims = [Claim("genmix", "x", "a", ("b",), "accuracy", "no gain", margin=margin) for margin in (0.01, 0.05)]
    verdicts = check_claims(claims, results(a=0.72 + NOISE, b=np.full(12, 0.7)))["verdict"]
    assert verdicts.tolist() == ["not replicated", "replicated"]


KERA_CLASSES = ("amoeba", "bacteria", "fungal", "hsk")


def joined(value):
    """Return several numbers as a protocol writes them, other values as they are."""
    return "+".join(map(str, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("paper", ["genmix", "textual_inversion", "mage_adapter", "iois", "beauty_or_beast"])
def test_paper_scale_has_the_numbers_of_the_protocol(paper):
    config = config_at("paper", paper=paper)
    assert {"classifier.num_epochs", "tuning.num_epochs", "num_steps"} & set(protocol(paper))
    for setting, value in protocol(paper).items():
        part, _, field = setting.partition(".")
        if part in generators.names():
            assert getattr(generators.create(part, scale="paper").config, field) == value, setting
        elif part == "classifier":
            assert joined(getattr(config, field)) == value, setting
        elif part == "phantom":
            assert joined(phantoms.modality(modality_of(SHOWPIECE[paper])).counts[field]) == value, setting
        elif part == "imbalance_ratio":
            counts = phantoms.modality(field).counts["train"]
            assert round(max(counts) / min(counts)) == value, setting
        elif part == "split":
            for loader in (aptos, ham10000):
                val = loader.VAL_SHARE * (1 - TEST_SHARE)
                assert {"train": 1 - val - TEST_SHARE, "val": val, "test": TEST_SHARE}[field] == pytest.approx(value)
        elif part == "guidance":
            assert getattr(GUIDANCE["paper"], field) == value, setting
        elif part == "online":
            assert {"real_for_each": REAL_FOR_EACH["paper"]}[field] == value, setting
        elif part == "augmentation":
            assert Traditional.__dataclass_fields__[field].default == value, setting
        elif part == "textual-inversion":
            assert getattr(TextualInversion.scales["paper"], field) == value, setting
        elif part == "tuning":
            tuned = {"share": TUNING_SHARE, "num_epochs": tuning_config(config, "paper").num_epochs}
            assert tuned[field] == value
        elif part == "reading":
            assert PER_CLASS[field] == value
        elif part == "neighbours":
            assert value == NEIGHBOURS
        elif part == "num_steps":
            assert config.num_epochs * config.epoch_steps == value
        elif part == "num_epochs":
            images = np.mean([reported_value(paper, "real", f"kera:images:train:{name}") for name in KERA_CLASSES])
            settings = generators.generator_class("mage-adapter").scales["paper"]
            assert settings.num_steps * settings.batch_size == pytest.approx(value * images, rel=0.01)
        else:
            assert part in ("share", "alpha", "images", "image_size"), setting


def test_the_utility_papers_tables_stand_under_our_columns_and_units():
    assert [beauty_data(name) for name in ("phantom:tissue", "bcss:/x", "phantom:pneumonia", "pneumonia:/x")] == [
        "histology", "histology", "xray", "xray",
    ]  # fmt: skip
    assert [beauty_data(name) for name in ("phantom:liver", "folder:tissue")] == [None, None]
    table = printed_aspects("histology")
    assert table.index.tolist() == ["real", "traditional", *BEAUTY_GENERATORS]
    ldm = table.loc["ldm"]
    assert ldm["augmentation"] == pytest.approx(0.0364)
    assert (ldm["fd_shipped"], ldm["fir"], ldm["p"]) == (62.56, 0.25, 0)
    assert (ldm["peak_memory_mb"], ldm["seconds_per_1000"]) == (18_100, 720)
    assert table.loc["stylegan2-ada", "p"] == 1


def test_every_paper_has_its_classifier_and_its_showpiece():
    papers = {name.removesuffix("_swin") for name in CLASSIFIERS}
    assert papers <= set(SHOWPIECE)
    assert set(SHOWPIECE) <= papers


def test_the_summary_is_mean_sd_and_n_over_seeds():
    table = summarise(results(b=[0.1, 0.3], a=[0.5, 0.5])).set_index("method")
    assert table.index.tolist() == ["b", "a"]
    columns = ["mean", "sd", "n", "generator_seeds"]
    assert table.loc["b", columns].tolist() == pytest.approx([0.2, np.std([0.1, 0.3], ddof=1), 2, 1])


def test_a_generator_that_the_paper_lacks_has_the_default_share():
    assert synthetic_share("genmix", "stylegan") == 0.4
    assert synthetic_share("genmix", "stylegan2-ada") == 0.5
