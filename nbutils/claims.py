"""What each paper claims, sentence by sentence, as checked against its own tables."""

from collections.abc import Sequence

from nbutils.papers import Claim
from nbutils.protocols import GENERATORS
from nbutils.verdicts import MARGIN

GENMIX_GENERATORS = ("dcgan", "stylegan", "textual-inversion", "diffusion")


def genmix_claims() -> list[Claim]:
    """Return the claims of GenMix on its Table 1, as checked against that table."""
    gains = [
        Claim("genmix", f"GenMix ({name}) beats {name} alone", f"genmix({name})", (name,), metric)
        for name in GENMIX_GENERATORS
        for metric in ("accuracy", "macro_f1")
    ]
    mixup = [
        Claim("genmix", "MixUp beats real images alone", "mixup", ("real",), metric)
        for metric in ("accuracy", "macro_f1")
    ]
    minor = Claim(
        "genmix",
        "MixUp favours major classes: the rarest class loses",
        "mixup",
        ("real",),
        "rarest_sensitivity",
        "less",
        printed_metric="sensitivity:hemangioma",
    )
    useless = [
        Claim("genmix", f"{name} alone does not help", name, ("real",), metric, "no gain")
        for name in ("dcgan", "textual-inversion")
        for metric in ("accuracy", "macro_f1")
    ]
    others = tuple(name for name in GENMIX_GENERATORS if name != "diffusion")
    best_alone = Claim("genmix", "Diffusion has the best F1 of the generators alone", "diffusion", others, "macro_f1")
    rivals = tuple(f"genmix({name})" for name in GENMIX_GENERATORS if name != "textual-inversion")
    best = [
        Claim("genmix", "GenMix (textual-inversion) is best", "genmix(textual-inversion)", rivals, metric)
        for metric in ("accuracy", "macro_f1")
    ]
    return [*gains, *mixup, minor, *useless, best_alone, *best]


def genmix_questions(methods: Sequence[str]) -> list[Claim]:
    """Return what GenMix leaves open: does any of these methods beat real images alone?"""
    return [Claim(None, f"Does {name} beat real images alone?", name, ("real",), "macro_f1") for name in methods]


def genmix_feature_questions(generators: Sequence[str]) -> list[Claim]:
    """Return what GenMix leaves open: do its images spread further than mixtures of real images do?"""
    return [
        Claim(None, f"GenMix ({name}) against MixUp: {metric}", f"genmix({name})", ("mixup",), metric)
        for name in generators
        for metric in ("recall", "boundary")
    ]


def genmix_feature_claims() -> list[Claim]:
    """Return the claims of GenMix on its Fig. 4, which the text makes in words, as measurable statements."""
    boundary = [
        Claim("genmix", f"GenMix ({name}) lies at class boundaries more often", f"genmix({name})", (name,), "boundary")
        for name in ("stylegan", "textual-inversion", "diffusion")
    ]
    return [
        Claim(
            "genmix", "StyleGAN collapses: lower recall than diffusion", "stylegan", ("diffusion",), "recall", "less"
        ),
        Claim("genmix", "GenMix spreads StyleGAN's images: recall", "genmix(stylegan)", ("stylegan",), "recall"),
        Claim(
            "genmix",
            "Textual inversion shifts the mean",
            "textual-inversion",
            ("diffusion",),
            "mean_shift",
            relative=True,
        ),
        *boundary,
    ]


def textual_inversion_tuning_claims() -> list[Claim]:
    """Return the claims of de Wilde et al. on their Tables 1 to 3: which setting has the lowest distance."""
    rows = [
        ("More sampling steps lower the distance", "steps 100", ("steps 25", "steps 50", "steps 75")),
        ("Guidance 1 has a lower distance than 2", "guidance 1", ("guidance 2",)),
        ("Guidance 2 has a lower distance than 3, 4 and 5", "guidance 2", ("guidance 3", "guidance 4", "guidance 5")),
        ("64 vectors have the lowest distance", "vectors 64", ("vectors 8", "vectors 16", "vectors 32")),
        ("100 cases have the lowest distance", "cases 100", ("cases 5", "cases 10", "cases 50")),
    ]
    return [
        Claim("textual_inversion", text, method, others, "fd_shipped", "less", "fid", relative=True)
        for text, method, others in rows
    ]


def memorisation_claim() -> Claim:
    """Return the claim of de Wilde et al., Section 4.2, that synthetic cases do not simply reproduce training cases.

    `nearer_to_train`: how often the nearest real case of a synthetic one is a training case, of as many training and
    test cases; compared with chance.
    """
    text = "Synthetic cases lie no nearer to training than to test cases"
    return Claim("textual_inversion", text, "synthetic", ("chance",), "nearer_to_train", "no gain", margin=0.05)


LARGE_DROP = 0.05
"""What we take "a large drop in performance" to be, which de Wilde et al. do not say: five points of AUC."""


def textual_inversion_claims() -> list[Claim]:
    """Return the claims of de Wilde et al. on their Table 4; x1, x10: synthetic images for each real one."""
    paper, metric = "textual_inversion", "auc"
    return [
        Claim(paper, "Ten synthetic images for each real one help", "real + synthetic x10", ("real",), metric),
        Claim(
            paper,
            "As many synthetic images as real ones do not help",
            "real + synthetic x1",
            ("real",),
            metric,
            "no gain",
        ),
        Claim(
            paper,
            "Synthetic images alone, ten for each real one, see no large drop",
            "real",
            ("synthetic x10",),
            metric,
            "no gain",
            margin=LARGE_DROP,
        ),
        Claim(paper, "Embeddings of few cases are worse alone", "few-case x10", ("synthetic x10",), metric, "less"),
        Claim(
            paper,
            "Embeddings of few cases are worse beside real images",
            "real + few-case x10",
            ("real + synthetic x10",),
            metric,
            "less",
        ),
        Claim(paper, "Embeddings of few cases harm", "real + few-case x10", ("real",), metric, "less"),
    ]


def interpolation_claims(methods: Sequence[str]) -> list[Claim]:
    """Return the claims of de Wilde et al. on Fig. 3 for each interpolation: it is gradual, and ends at the disease.

    The rank correlation of the disease's weight with the oracle's probability is compared with none, the probability
    of the full weight with that of none. Source of the rows: composition.with_rivals.
    """
    return [
        Claim(
            "textual_inversion",
            f"More weight, more disease: {method}",
            method,
            ("no trend",),
            "rank_correlation",
            margin=0.1,
        )
        for method in methods
    ] + [
        Claim(
            "textual_inversion",
            f"The full weight shows the disease: {method}",
            method,
            (f"{method}, healthy",),
            "probability",
            margin=0.05,
        )
        for method in methods
    ]


def inpainting_claims(diseases: Sequence[str]) -> list[Claim]:
    """Return the claims of de Wilde et al. on Figs. 5 and 6 for each disease, averaged over places and sizes.

    The disease is more probable than where the same box is inpainted healthy, and than in the image as it was; outside
    of the box nothing changes more than by the autoencoder, an effect being a tenth of that.
    """
    paper = "textual_inversion"
    return [
        claim
        for disease in diseases
        for claim in (
            Claim(
                paper,
                f"Inpainting makes the disease more probable: {disease}",
                f"{disease}, inpainted",
                (f"{disease}, inpainted healthy", f"{disease}, rebuilt"),
                "probability",
                margin=0.05,
            ),
            Claim(
                paper,
                f"Outside the box nothing changes: {disease}",
                f"{disease}, inpainted",
                (f"{disease}, rebuilt",),
                "outside_change",
                "no gain",
                relative=True,
                margin=0.1,
            ),
        )
    ]


PRINTED_DATA = {"dermoscopy": "ham10000", "fundus": "odir", "cornea": "kera"}
"""Phantom -> its data set in Yuan et al., as data/papers/mage_adapter.csv calls it; loaders have the latter names."""

MAGE_GENERATORS = GENERATORS["mage_adapter"]


def mage_generation_claims(data: str) -> list[Claim]:
    """Return the claims of Yuan et al. on Tables 2 to 4, over the classes of a data set, a value of PRINTED_DATA.

    fd_test, fd_train: distances to real images, one for each class. Methods are those of MAGE_GENERATORS.
    """
    rows = [
        ("The VQ loss brings adapters closer to the {} images", "mage-adapter-vq", ("mage-adapter",), "less"),
        ("Adapters with it are closer to the {} images than MAGE fine-tuned", "mage-adapter-vq", ("mage",), "less"),
    ]
    if data == "ham10000":
        rows.append(
            ("Adapters without it are farther from them than MAGE fine-tuned", "mage-adapter", ("mage",), "more")
        )
    if data == "odir":
        rivals = tuple(name for name in MAGE_GENERATORS if name not in ("mage-adapter-vq", "mage-adapter"))
        rows.append(("Adapters with it are the closest to the {} images", "mage-adapter-vq", rivals, "less"))
    else:
        rows.append(("Adapters with it are no farther than FastGAN", "mage-adapter-vq", ("fastgan",), "no gain"))
    return [
        Claim(
            "mage_adapter",
            text.format(part),
            method,
            others,
            f"fd_{part}",
            expects,
            f"{data}:fid_{part}:*",
            relative=True,
            margin=0.1 if expects == "no gain" else MARGIN,
        )
        for part in ("train", "test")
        for text, method, others, expects in rows
    ]


def mage_classification_claims(data: str) -> list[Claim]:
    """Return the claims of Yuan et al. on Table 5, means of ViT and Swin, for a value of PRINTED_DATA.

    That no other generator helps as much is said of the average over the three data sets; on HAM10000 alone LDM has the
    better accuracy.
    """
    ours, rivals = "mage-adapter-vq", MAGE_GENERATORS[:-1]
    rows = [
        ("Its images help", ours, ("real",), "more", data, ("accuracy", "auc")),
        ("Its images help more than those of any other generator", ours, rivals, "more", "*", ("accuracy", "auc")),
    ]
    if data == "odir":
        rows += [(f"{name} lowers the AUC", name, ("real",), "less", data, ("auc",)) for name in MAGE_GENERATORS[:2]]
    return [
        Claim("mage_adapter", text, method, others, metric, expects, f"{printed}:*:{metric}")
        for text, method, others, expects, printed, metrics in rows
        for metric in metrics
    ]


IOIS_DATA = {"dermoscopy": "ham10000", "retinopathy": "aptos"}
"""Phantom -> its data set in Li et al., as data/papers/iois.csv calls it; loaders have the latter names."""

IOIS_METHODS = (
    *("real", "focal", "cb-focal", "sqrt-rs", "pg-rs"),
    *("cellgan", "stylegan2-ada", "offline", "ois", "ois+aas"),
)
"""The rows of Table 1 of Li et al.; real: cross-entropy on real images alone."""

IOIS_METRICS = ("macro_f1", "balanced_accuracy", "mcc")


def iois_claims(data: str) -> list[Claim]:
    """Return the claims of Li et al. on Table 1 for a value of IOIS_DATA, where that table bears them out.

    See iois_questions for the sentences that it contradicts.
    """
    *rivals, ours = IOIS_METHODS
    rows = [("OIS with AAS is best", ours, rivals, "more", IOIS_METRICS)]
    rows += [
        ("OIS with AAS beats cross-entropy", ours, ["real"], "more", ("mcc",)),
        ("OIS beats offline synthesis", "ois", ["offline"], "more", ("mcc",)),
        ("AAS adds to OIS", ours, ["ois"], "more", ("mcc",)),
    ]
    if data == "ham10000":
        rows += [
            ("Offline synthesis beats cross-entropy", "offline", ["real"], "more", IOIS_METRICS),
            ("CB-Focal gains balanced accuracy", "cb-focal", ["real"], "more", ("balanced_accuracy",)),
            ("CB-Focal pays for it with MCC", "cb-focal", ["real"], "less", ("mcc",)),
        ]
    return [
        Claim("iois", text, method, tuple(others), metric, expects, f"{data}:{metric}")
        for text, method, others, expects, metrics in rows
        for metric in metrics
    ]


_IOIS_CONTRADICTED = {
    "ham10000": (
        ("Does focal loss beat cross-entropy?", "focal", "real", ("macro_f1", "mcc")),
        ("Does offline diffusion beat StyleGAN2-ADA?", "offline", "stylegan2-ada", ("balanced_accuracy", "mcc")),
    ),
    "aptos": (
        ("Does focal loss beat cross-entropy?", "focal", "real", ("balanced_accuracy",)),
        ("Does offline diffusion beat StyleGAN2-ADA?", "offline", "stylegan2-ada", ("balanced_accuracy",)),
        ("Does OIS beat offline synthesis?", "ois", "offline", ("macro_f1",)),
    ),
}


def iois_questions(data: str) -> list[Claim]:
    """Return what Li et al. leave open for a value of IOIS_DATA: their text implies yes, their Table 1 says no."""
    return [
        Claim(None, text, method, (other,), metric)
        for text, method, other, metrics in _IOIS_CONTRADICTED[data]
        for metric in metrics
    ]
