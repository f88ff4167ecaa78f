"""What de Wilde et al. (2023) claim of textual inversion."""

from collections.abc import Sequence

from nbutils.papers import Claim


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
