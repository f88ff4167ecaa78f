"""What Li et al. (2024) claim of online image synthesis, and what their own table leaves open."""

from collections.abc import Sequence

from nbutils.papers import Claim
from nbutils.scales import choose

IOIS_DATA = {"dermoscopy": "ham10000", "retinopathy": "aptos"}
"""Phantom -> its data set in Li et al., as data/papers/iois.csv calls it; loaders have the latter names."""

IOIS_METHODS = (
    *("real", "focal", "cb-focal", "sqrt-rs", "pg-rs"),
    *("cell-gan", "stylegan2-ada", "offline", "ois", "ois+aas"),
)
"""The rows of Table 1 of Li et al.; real: cross-entropy on real images alone."""

IOIS_METRICS = ("macro_f1", "balanced_accuracy", "mcc")

IOIS_COPIES = ("oversampling", "real, repeated")
"""Rows that Li et al. lack, of copies of real images: as many as balance the classes; as many as are synthesised."""


def iois_data(dataset: str) -> str | None:
    """Return what Li et al. call the data of a name for datasets.load, None where they have none like it."""
    scheme, _, rest = dataset.partition(":")
    name = IOIS_DATA.get(rest) if scheme == "phantom" else scheme
    return name if name in IOIS_DATA.values() else None


def iois_claims(data: str | None) -> list[Claim]:
    """Return the claims of Li et al. on Table 1 for a value of IOIS_DATA, where that table bears them out.

    See iois_questions for the sentences that it contradicts. None = other data, of which they say nothing: the same
    sentences, as questions. Raises ValueError for another value.
    """
    *rivals, ours = IOIS_METHODS
    rows = [("OIS with AAS is best", ours, rivals, "more", IOIS_METRICS)]
    rows += [
        ("OIS with AAS beats cross-entropy", ours, ["real"], "more", ("mcc",)),
        ("OIS beats offline synthesis", "ois", ["offline"], "more", ("mcc",)),
        ("AAS adds to OIS", ours, ["ois"], "more", ("mcc",)),
    ]
    if _known(data) != "aptos":
        rows += [
            ("Offline synthesis beats cross-entropy", "offline", ["real"], "more", IOIS_METRICS),
            ("CB-Focal gains balanced accuracy", "cb-focal", ["real"], "more", ("balanced_accuracy",)),
            ("CB-Focal pays for it with MCC", "cb-focal", ["real"], "less", ("mcc",)),
        ]
    paper, mark = ("iois", "") if data else (None, "?")
    return [
        Claim(paper, f"{text}{mark}", method, tuple(others), metric, expects, data and f"{data}:{metric}")
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
    None: (
        ("Does focal loss beat cross-entropy?", "focal", "real", ("macro_f1",)),
        ("Does offline diffusion beat StyleGAN2-ADA?", "offline", "stylegan2-ada", ("macro_f1",)),
    ),
}


def iois_questions(data: str | None) -> list[Claim]:
    """Return what Li et al. leave open for a value of IOIS_DATA: their text implies yes, their Table 1 says no.

    None = other data: the sentences that the table contradicts on both of theirs. Raises ValueError for another value.
    """
    return [
        Claim(None, text, method, (other,), metric)
        for text, method, other, metrics in _IOIS_CONTRADICTED[_known(data)]
        for metric in metrics
    ]


def iois_copy_questions() -> list[Claim]:
    """Return what Li et al. do not ask: do synthetic images have anything over copies of real ones?"""
    balanced, repeated = IOIS_COPIES
    rows = [
        ("Does plain oversampling beat cross-entropy?", balanced, "real"),
        ("Do as many copies as there are synthetic images?", repeated, "real"),
        ("Does offline synthesis beat so many copies?", "offline", repeated),
        ("Does OIS with AAS beat so many copies?", "ois+aas", repeated),
        ("Does OIS with AAS beat oversampling?", "ois+aas", balanced),
    ]
    return [
        Claim(None, text, method, (other,), metric) for text, method, other in rows for metric in ("macro_f1", "mcc")
    ]


def iois_leak_questions(honest: str, leaking: str) -> list[Claim]:
    """Return what the published protocol makes one ask: is the gain larger where test images decide?

    honest, leaking: the methods of rebalancing.gains, whose metrics are gains over cross-entropy.
    """
    text = "Is the gain larger where test images decide?"
    return [Claim(None, text, leaking, (honest,), metric) for metric in IOIS_METRICS]


_FOCAL_ON_HAM10000 = {"less": ("mel", "bkl", "bcc"), "more": ("akiec", "df")}
"""What the text says of focal loss, by the names of HAM10000; its "DR", a class that is not there, must be DF."""


def iois_class_claims(data: str | None, class_names: Sequence[str]) -> list[Claim]:
    """Return the claims of Li et al. on Fig. 2, which they make in words: what changes in each class.

    data: as for iois_claims; the figure is of ham10000, for other data the same is asked of each class.
    class_names: of the data. Raises ValueError for another value.
    """
    if _known(data) != "ham10000":
        text = "Does OIS with AAS gain on {}?"
        return [Claim(None, text.format(name), "ois+aas", ("real",), f"sensitivity:{name}") for name in class_names]
    ours = [
        Claim("iois", f"OIS with AAS gains on {name}", "ois+aas", ("real",), f"sensitivity:{name}")
        for name in class_names
    ]
    words = {"less": "loses", "more": "gains"}
    focal = [
        Claim("iois", f"Focal loss {words[expects]} on {name}", "focal", ("real",), f"sensitivity:{name}", expects)
        for expects, names in _FOCAL_ON_HAM10000.items()
        for name in names
    ]
    return [*ours, *focal]


def iois_memorisation_question() -> Claim:
    """Return what Fig. 3 leaves open: are synthetic images nearer to training images than to others?

    `nearer_to_train`: as in memorisation_claim.
    """
    text = "Do synthetic images lie nearer to training than to test images?"
    return Claim(None, text, "ois+aas", ("chance",), "nearer_to_train", margin=0.05)


def _known(data: str | None) -> str | None:
    """Return data as it is, if it is a value of IOIS_DATA or None."""
    return data if data is None else choose("data of Li et al.", data, {name: name for name in IOIS_DATA.values()})
