"""What Yuan et al. (2024) claim of MAGE with adapters, and what they leave open."""

from collections.abc import Sequence

from nbutils.papers import Claim
from nbutils.protocols import GENERATORS
from nbutils.verdicts import MARGIN

PRINTED_DATA = {"dermoscopy": "ham10000", "fundus": "odir", "cornea": "kera"}
"""Phantom -> its data set in Yuan et al., as data/papers/mage_adapter.csv calls it; loaders have the latter names."""

MAGE_GENERATORS = GENERATORS["mage_adapter"]

ANY_DATA = "*"
"""Of data which Yuan et al. do not have: the mean of their three sets stands beside them."""


def printed_data(dataset: str) -> str:
    """Return what Yuan et al. call the data of a name for datasets.load, ANY_DATA where they have none like it."""
    scheme, _, rest = dataset.partition(":")
    name = PRINTED_DATA.get(rest) if scheme == "phantom" else scheme
    return name if name in PRINTED_DATA.values() else ANY_DATA


def mage_generation_claims(data: str) -> list[Claim]:
    """Return the claims of Yuan et al. on Tables 2 to 4, over the classes of a data set; data: see printed_data.

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
    """Return the claims of Yuan et al. on Table 5, means of ViT and Swin; data: see printed_data.

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


def mage_questions(methods: Sequence[str]) -> list[Claim]:
    """Return what Yuan et al. leave open: do generated images beat copies of real ones, and does either help?"""
    copies = "real, repeated"
    return [
        Claim(None, "Do copies of real images help?", copies, ("real",), "macro_f1"),
        *(Claim(None, f"Does {name} help?", name, ("real",), "macro_f1") for name in methods),
        *(Claim(None, f"Does {name} beat copies of real images?", name, (copies,), "macro_f1") for name in methods),
    ]
