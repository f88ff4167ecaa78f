"""What Xing et al. (2023, "The Beauty or the Beast") claim of fidelity and utility, and what they leave open."""

from collections.abc import Sequence

import pandas as pd

from nbutils.papers import Claim, reported_value
from nbutils.protocols import GENERATORS

PAPER = "beauty_or_beast"
VQVAE2, STYLEGAN2, LDM = "vqvae2", "stylegan2-ada", "ldm"
BEAUTY_GENERATORS = GENERATORS[PAPER]
"""The generators of Tables I, II and IV."""

REAL, TRADITIONAL = "real", "traditional"

BEAUTY_DATA = ("histology", "xray", "xray-cropped")
"""Data of which Xing et al. print both utilities, as data/papers/beauty_or_beast.csv calls them; cropped: no marker."""

_ALIKE = {"tissue": "histology", "bcss": "histology", "pneumonia": "xray"}  # phantoms and loaders
_PRINTED = {
    "fir": "fir",
    "fd_shipped": "fid",
    "precision": "precision",
    "recall": "recall",
    "mean_image_kb": "mean_image_kb",
    "augmentation": "augmentation",
    "extraction": "extraction",
    "peak_memory_mb": "peak_memory_gb",
    "seconds_per_1000": "minutes_per_1000",
}
_UNITS = {"peak_memory_mb": 1000, "seconds_per_1000": 60}


def beauty_data(dataset: str) -> str | None:
    """Return what data/papers calls the data of Xing et al. like those of a name for datasets.load, None = none are."""
    scheme, _, rest = dataset.partition(":")
    return _ALIKE.get(rest if scheme == "phantom" else scheme)


def printed_aspects(data: str) -> pd.DataFrame:
    """Return Table I, II or IV under our columns and in our units, one row per source; data: of BEAUTY_DATA.

    fd_shipped: their Fréchet distance, which is on features of Inception. p: 0 where they mark the gain of augmentation
    as significant, 1 where they do not; they print no other.
    """
    rows = {}
    for source in (REAL, TRADITIONAL, *BEAUTY_GENERATORS):
        values = {ours: reported_value(PAPER, source, f"{data}:{theirs}") for ours, theirs in _PRINTED.items()}
        rows[source] = {name: value * _UNITS.get(name, 1) for name, value in values.items()}
        rows[source]["p"] = 1.0 - (reported_value(PAPER, source, f"{data}:augmentation:significant") == 1)
    return pd.DataFrame(rows).T.rename_axis("source")


RESOLUTIONS = (256, 512)
"""Pixels at which Table III has both generators."""

Row = tuple[str, str, tuple[str, ...], str]
"""A claim's text, its method, the others, and what it expects."""

_AUGMENTATION: dict[str, list[Row]] = {
    "histology": [
        ("Traditional augmentation helps", TRADITIONAL, (REAL,), "more"),
        ("LDM's images help", LDM, (REAL,), "more"),
        ("LDM's images help no more than traditional augmentation", LDM, (TRADITIONAL,), "no gain"),
        ("VQ-VAE-2's images do not help", VQVAE2, (REAL,), "no gain"),
        ("StyleGAN2's images do not help", STYLEGAN2, (REAL,), "no gain"),
    ],
    "xray": [
        ("Traditional augmentation harms", TRADITIONAL, (REAL,), "less"),
        ("VQ-VAE-2's images do not help", VQVAE2, (REAL,), "no gain"),
        ("StyleGAN2's images do not help", STYLEGAN2, (REAL,), "no gain"),
        ("LDM's images do not help", LDM, (REAL,), "no gain"),
    ],
    "xray-cropped": [("LDM's images help", LDM, (REAL,), "more")],
}

_EXTRACTION: dict[str, list[Row]] = {
    "histology": [
        ("VQ-VAE-2's features do not reach those of real images", VQVAE2, (REAL,), "less"),
        ("StyleGAN2's features do not reach those of real images", STYLEGAN2, (REAL,), "less"),
        ("LDM's features do not reach those of real images", LDM, (REAL,), "less"),
    ],
    "xray": [
        ("VQ-VAE-2's features do not reach those of real images", VQVAE2, (REAL,), "less"),
        ("StyleGAN2's features are no worse than those of real images", REAL, (STYLEGAN2,), "no gain"),
        ("LDM's features are no worse than those of real images", REAL, (LDM,), "no gain"),
    ],
    "xray-cropped": [
        ("VQ-VAE-2's features do not reach those of real images", VQVAE2, (REAL,), "less"),
        ("StyleGAN2's features do not reach those of real images", STYLEGAN2, (REAL,), "less"),
        ("LDM's features are no worse than those of real images", REAL, (LDM,), "no gain"),
    ],
}


def utility_claims(data: str) -> list[Claim]:
    """Return the claims of Xing et al. on both utilities, as gains over real images alone; data: of BEAUTY_DATA.

    What they say of augmentation on X-ray is that of Table II; once the marker is cropped (Table IV), LDM's helps most.
    """
    columns = {"augmentation": _AUGMENTATION, "extraction": _EXTRACTION}
    return [
        Claim(PAPER, text, method, others, metric, expects, f"{data}:{metric}")
        for metric, rows in columns.items()
        for text, method, others, expects in rows[data]
    ]


KEPT_VARIETY = 0.2
"""Up to which part more bytes we take VQ-VAE-2's mean image to "preserve the inner variety", which has no number."""


def quality_claims(data: str, distance: str = "fd_shipped") -> list[Claim]:
    """Return the claims of Xing et al. on fidelity and variety; data: of BEAUTY_DATA. distance: our column for theirs.

    fir: share called fake in the reading test. mean_image_kb: size of the mean image. That StyleGAN2 collapses on
    tissue is said of its mean image; its recall is low, too, but not the lowest of Table I, which is VQ-VAE-2's.
    """
    closest = LDM if data == "histology" else STYLEGAN2
    farther = tuple(name for name in BEAUTY_GENERATORS if name != closest)
    collapsed = "StyleGAN2's mean image is the sharpest: it varies least"
    claims = [
        _distance(f"{closest} is the closest to real images", closest, farther, distance, f"{data}:fid"),
        Claim(PAPER, "VQ-VAE-2's images are spotted most", VQVAE2, (STYLEGAN2, LDM), "fir", "more", f"{data}:fir"),
        _size(collapsed, STYLEGAN2, (REAL, VQVAE2, LDM), data),
        _size("VQ-VAE-2 keeps the variety of real images", VQVAE2, (REAL,), data, "no gain", KEPT_VARIETY),
    ]
    if data == "histology":
        text = "StyleGAN2 collapses on tissue: lower recall"
        claims.append(Claim(PAPER, text, STYLEGAN2, (REAL, LDM), "recall", "less", f"{data}:recall"))
    return claims


def _distance(text: str, method: str, others: tuple[str, ...], metric: str, printed: str) -> Claim:
    return Claim(PAPER, text, method, others, metric, "less", printed, relative=True)


def _size(text: str, method: str, others: tuple[str, ...], data: str, expects: str = "more", margin=0.01) -> Claim:
    metric = "mean_image_kb"
    return Claim(PAPER, text, method, others, metric, expects, f"{data}:{metric}", relative=True, margin=margin)


def resolution_claims(
    data: str, distance: str = "fd_shipped", sizes: Sequence[int] = RESOLUTIONS, column: str = ""
) -> list[Claim]:
    """Return the claims of Xing et al. on Table III: StyleGAN2 beats LDM on structured greys at every size.

    data: "xray" or "ct". sizes: our pixels, in the order of RESOLUTIONS, in whose place they stand; those beyond have
    no printed number for LDM. Our columns are <column><distance>:<pixels> and <column>fir:<pixels>. Their distances at
    different sizes cannot be compared: features averaged over more places vary less.
    """
    text = data + ": StyleGAN2 is closer to real images than LDM at {} px"
    spotted = data + ": LDM's images are spotted more than StyleGAN2's at {} px"
    claims = []
    for size, printed in zip(sizes, RESOLUTIONS, strict=False):
        closer, found = text.format(size), spotted.format(size)
        ours, theirs = f"{column}{distance}:{size}", f"{data}:{printed}"
        claims.append(_distance(closer, STYLEGAN2, (LDM,), ours, f"{theirs}:fid"))
        claims.append(
            Claim(PAPER, found, LDM, (STYLEGAN2,), f"{column}fir:{size}", "more", f"{theirs}:fir"),
        )
    return claims


def marker_claims() -> list[Claim]:
    """Return the claims of Xing et al. on what cropping the marker does to features (Table IV less Table II).

    The metric is the change of the extraction gain, cropped less whole; real images' own change is 0 by definition.
    """
    return [
        Claim(PAPER, "Without the marker, StyleGAN2's features lose", STYLEGAN2, (REAL,), "extraction_change", "less"),
        Claim(PAPER, "Without the marker, LDM's features stay", REAL, (LDM,), "extraction_change", "no gain"),
    ]


def shortcut_claims(with_marker: str, others: Sequence[str]) -> list[Claim]:
    """Return the claim of Xing et al., Section IV-C, that models trained with the marker go by it, said in words only.

    The methods are variants of the test images, told by one classifier: with_marker, and `others`, without or swapped.
    """
    text = "Classifiers trained with the marker go by it"
    return [Claim(PAPER, f"{text} (tested: {other})", with_marker, (other,), "balanced_accuracy") for other in others]


def inheritance_claims() -> list[Claim]:
    """Return the claims of Xing et al., Section IV-C, on who inherits the marker, said of Figs. 3 and 4 in words only.

    marker_gap: share of normal images with a marker, less that of those with pneumonia.
    """
    return [
        Claim(PAPER, "StyleGAN2 inherits the marker more than LDM", STYLEGAN2, (LDM,), "marker_gap"),
        Claim(PAPER, "StyleGAN2 inherits the marker as it is", REAL, (STYLEGAN2,), "marker_gap", "no gain", margin=0.1),
        Claim(PAPER, "LDM does not inherit the marker", LDM, ("no marker",), "marker_gap", "no gain", margin=0.1),
    ]


def attention_claim(with_marker: str, without_marker: str) -> Claim:
    """Return the claim of Xing et al., Section IV-C, that models trained with the marker look at it, in words only.

    corner_share: of what matters to a classifier, on images with the marker. The methods say what it was trained on.
    """
    text = "Classifiers trained with the marker look at it"
    return Claim(PAPER, text, with_marker, (without_marker,), "corner_share")


def time_claim() -> Claim:
    """Return the claim of Xing et al., Section V, that LDM's time per image grows with the resolution.

    Methods are "small" and "large", of one generator; its numbers, 12 and 39 minutes, are of different data.
    """
    return Claim(
        PAPER, "Diffusion takes longer for larger images", "large", ("small",), "seconds_per_1000", relative=True
    )


def correlation_claims(qualities: Sequence[str]) -> list[Claim]:
    """Return the claim of Xing et al., Section IV-B, that utility does not go with fidelity, for each quality.

    rank_correlation: over the generators, of the quality (its sign turned where less is better) with a utility;
    compared with none. They conclude it from three generators, of which no correlation can be significant.
    """
    return [
        Claim(PAPER, f"Utility does not go with {name}", name, ("no trend",), "rank_correlation", "no gain", margin=0.1)
        for name in qualities
    ]


def utility_questions(generators: Sequence[str] = BEAUTY_GENERATORS, initial_weights: str = "prior") -> list[Claim]:
    """Return what Xing et al. leave open: against traditional augmentation, and against features of neither kind.

    "scratch": frozen random features. initial_weights: of the classifier, whose frozen features are another reference.
    """
    references = {"scratch": "random features", initial_weights: "those of the initial weights"}
    beaten = [
        Claim(None, f"Does {name} beat traditional augmentation?", name, (TRADITIONAL,), "augmentation")
        for name in generators
    ]
    return beaten + [
        Claim(None, f"Do {name}'s features beat {words}?", name, (reference,), "extraction")
        for name in generators
        for reference, words in references.items()
    ]
