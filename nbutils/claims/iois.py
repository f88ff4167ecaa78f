"""What Li et al. (2024) claim of online image synthesis, and what their own table leaves open."""

from nbutils.papers import Claim

IOIS_DATA = {"dermoscopy": "ham10000", "retinopathy": "aptos"}
"""Phantom -> its data set in Li et al., as data/papers/iois.csv calls it; loaders have the latter names."""

IOIS_METHODS = (
    *("real", "focal", "cb-focal", "sqrt-rs", "pg-rs"),
    *("cell-gan", "stylegan2-ada", "offline", "ois", "ois+aas"),
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
