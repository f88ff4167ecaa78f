"""The side marker that gives the class away: is it drawn, is it what classifiers go by, and do they look at it?

Of the phantom radiographs it is known where there is a marker: each is there with it, without it, and with that of the
other class. So what Xing et al. 2023 (Sections IV-B and IV-C, Table IV) conclude from a crop can be looked at directly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from nbutils import datasets
from nbutils.augmentation import Plain
from nbutils.classification import Classifier, fitted_classifier
from nbutils.comparison import TrainedArms
from nbutils.datasets import Splits
from nbutils.datasets.audit import LeakAudit
from nbutils.images import ImageSet, as_classes, concatenate, resize, without_border
from nbutils.metrics.detection import exact_interval
from nbutils.metrics.utility import combined_p, mcnemar
from nbutils.occlusion import corner_shares, occlusion_maps
from nbutils.phantoms.pneumonia import MARKER_CORNER, MARKER_CROP
from nbutils.protocols import SPLIT_IMAGES, ClassifierConfig
from nbutils.scales import at_scale
from nbutils.utility import Utility, answers

WITH, WITHOUT, SWAPPED = "with marker", "without marker", "swapped marker"
VARIANTS = {WITH: "phantom:pneumonia", WITHOUT: "phantom:pneumonia_unmarked", SWAPPED: "phantom:pneumonia_swapped"}
"""The same patients in three data sets."""

ABSENT, PRESENT = "no marker", "marker"
TRUTH = "real (truth)"


IMAGE_SIZES = {"smoke": 16, "demo": 64, "gpu": 128, "paper": 512}
"""Scale -> pixels of the radiographs: the paper's 512, and less."""

NUM_SYNTHETIC = {"smoke": 60, "demo": None, "gpu": None, "paper": None}
"""Scale -> images that each generator draws; None: as many as there are real training images."""

NUM_LOOKED_AT = {"smoke": 6, "demo": 40, "gpu": 120, "paper": 120}
"""Scale -> test images with a marker whose occlusion maps are drawn, with and without it."""

KEYS = ["method", "seed", "generator_seed"]


def load(dataset: str, scale: str) -> Splits:
    """Return a data set of radiographs at the IMAGE_SIZES of a scale, with its SPLIT_IMAGES."""
    return datasets.load(dataset, image_size=at_scale(IMAGE_SIZES, scale)).thinned(SPLIT_IMAGES[scale])


def variants(dataset: str, scale: str) -> dict[str, Splits] | None:
    """Return the data set in all VARIANTS; None = it is another one, of which it is not known where markers are."""
    if dataset != VARIANTS[WITH]:
        return None
    return {variant: load(name, scale) for variant, name in VARIANTS.items()}


def cropped(images: ImageSet) -> ImageSet:
    """Return images without the border in which markers lie, enlarged to their size again, as for Table IV."""
    return without_border(images, MARKER_CROP)


def cropped_splits(data: Splits) -> Splits:
    """Return all splits of a data set `cropped`."""
    return replace(data, **{split: cropped(images) for split, images in data.splits().items()})


def carries(images: ImageSet, plain: ImageSet) -> np.ndarray:
    """Return which images carry a marker, (N,) bool; plain: the same ones without. Raises ValueError for others."""
    if not np.array_equal(images.groups, plain.groups):
        raise ValueError(f"{images.name} and {plain.name} must show the same patients in the same order.")
    return (images.images != plain.images).any(axis=(1, 2, 3))


def twins(images: ImageSet, plain: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
    """Return at most `count` images that carry a marker, drawn at random, and the same ones without."""
    rows = np.random.default_rng(0).permutation(np.flatnonzero(carries(images, plain)))[:count]
    return images.subset(rows), plain.subset(rows)


def corners(images: ImageSet) -> ImageSet:
    """Return the corner of images in which a marker would be, enlarged to their size."""
    edge = max(1, round(MARKER_CORNER * images.image_size))
    cut = np.ascontiguousarray(images.images[:, :, :edge, :edge])
    origin = None if images.origin is None else f"{images.origin} corner of {edge} px"
    return replace(images, images=resize(cut, images.image_size), origin=origin)


def detector(
    data: Mapping[str, Splits], config: ClassifierConfig, audit: LeakAudit, *, seed: int, max_steps: int | None = None
) -> Classifier:
    """Return a classifier that tells corners with a marker (class 1) from those without, trained on both classes alike.

    data: of `variants`; it sees their training images, and validation images choose the epoch. Normal images and those
    with pneumonia have markers in equal shares, because those of SWAPPED are among them.
    """
    train, val = (_with_and_without(data, split) for split in ("train", "val"))
    audit.check("marker detector", train)
    audit.check("marker detector, early stopping", val, allowed=("val",))
    options = {"seed": seed, "epoch_images": len(train), "max_steps": max_steps}
    return fitted_classifier(Plain(train), val, config, description="marker detector", **options)


def _with_and_without(data: Mapping[str, Splits], split: str) -> ImageSet:
    """Return the corners of a split in two classes, ABSENT and PRESENT."""
    plain = data[WITHOUT].splits()[split]
    others = [data[variant].splits()[split] for variant in (WITH, SWAPPED)]
    marked = concatenate([images.subset(carries(images, plain)) for images in others], "marked")
    return as_classes({ABSENT: corners(plain), PRESENT: corners(marked)}, f"corners ({split})")


def marker_shares(
    found_by: Classifier, sources: Mapping[str, ImageSet], data: Mapping[str, Splits] | None = None
) -> pd.DataFrame:
    """Return how often the detector finds a marker in each class of each source, one row per source and class.

    data: of `variants`; the first rows are then the truth about their test images, None = without these.
    Columns: source, class, marked (0..1), low, high (exact binomial 95 % interval), n. Classes without images are left
    out.
    """
    read = {source: (images, found_by.predict(corners(images)) == 1) for source, images in sources.items()}
    if data is not None:
        test = data[WITH].test
        read = {TRUTH: (test, carries(test, data[WITHOUT].test)), **read}
    rows = []
    for source, (images, marked) in read.items():
        for label in np.unique(images.labels):
            own = marked[images.labels == label]
            low, high = exact_interval(int(own.sum()), len(own))
            row = {"source": source, "class": images.class_names[label], "marked": own.mean()}
            rows.append(row | {"low": low, "high": high, "n": len(own)})
    return pd.DataFrame(rows)


def gap_results(shares: Sequence[pd.DataFrame], class_names: Sequence[str]) -> pd.DataFrame:
    """Return by how much more of the first class than of the second carries a marker, as results of the sources.

    shares: tables of `marker_shares`, one for each generator seed. Columns: method (the source), seed, generator_seed,
    marker_gap. A further method, ABSENT, has none.
    """
    rows = []
    for seed, table in enumerate(shares):
        wide = table.pivot(index="source", columns="class", values="marked")
        gaps = {**(wide[class_names[0]] - wide[class_names[1]]).to_dict(), ABSENT: 0.0}
        rows += [{"method": m, "seed": seed, "generator_seed": seed, "marker_gap": gap} for m, gap in gaps.items()]
    return pd.DataFrame(rows)


def tested(trained: TrainedArms, tests: Mapping[str, ImageSet]) -> pd.DataFrame:
    """Test each classifier on the same patients in several variants, one row per classifier and variant.

    tests: variant -> test images. Columns: method, seed, generator_seed, variant, accuracy, balanced_accuracy, and
    right, (N,) bool, of each image.
    """
    parts = [answers(trained, images).assign(variant=variant) for variant, images in tests.items()]
    found, labels = pd.concat(parts, ignore_index=True), next(iter(tests.values())).labels
    places = [labels == label for label in np.unique(labels)]
    return found.assign(
        accuracy=found["right"].map(np.mean),
        balanced_accuracy=found["right"].map(lambda right: np.mean([right[place].mean() for place in places])),
    )


def changes(found: pd.DataFrame, reference: str = WITH) -> pd.DataFrame:
    """Return what each method loses on the other variants against `reference`, one row per method and variant.

    found: as `tested` returns it. Columns: method, variant, balanced_accuracy, change (means over seeds, fractions),
    gained, lost (images, the mean over seeds), p_mcnemar (exact; that of several seeds is twice their median, see
    metrics.utility.combined_p), seeds.
    """
    known, rows = found[found["variant"] == reference].set_index(KEYS), []
    for (method, variant), group in found[found["variant"] != reference].groupby(["method", "variant"], sort=False):
        group, before = group.set_index(KEYS), known.loc[group.set_index(KEYS).index]
        images = [mcnemar(right, other) for right, other in zip(group["right"], before["right"], strict=True)]
        mean = group["balanced_accuracy"].mean()
        row = {"method": method, "variant": variant, "balanced_accuracy": mean}
        row |= {"change": mean - before["balanced_accuracy"].mean()}
        row |= {name: np.mean([getattr(image, name) for image in images]) for name in ("gained", "lost")}
        rows.append(row | {"p_mcnemar": combined_p([image.p for image in images]), "seeds": len(group)})
    return pd.DataFrame(rows)


def variant_table(found: pd.DataFrame) -> pd.DataFrame:
    """Return what `tested` found as results, one row per method and seed, a column of balanced accuracy per variant."""
    table = found.pivot(index=KEYS, columns="variant", values="balanced_accuracy")[found["variant"].unique()]
    return table.loc[pd.MultiIndex.from_frame(found[KEYS].drop_duplicates())].rename_axis(columns=None).reset_index()


def as_methods(found: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return what one method reached on each variant as results of which the variants are the methods."""
    return found[found["method"] == method].assign(method=lambda table: table["variant"])


def gains(augmentation: Utility, extraction: Utility) -> pd.DataFrame:
    """Return both utilities of one view of the images, one row per method and seed.

    Columns: method, seed, generator_seed, augmentation, extraction (gains in accuracy over real images, fractions; NaN
    where a method has only the other one).
    """
    parts = {"augmentation": augmentation.gains, "extraction": extraction.gains}
    columns = [gained.set_index(KEYS)["gain"].rename(name) for name, gained in parts.items()]
    order = dict.fromkeys(pair for column in columns for pair in column.index)
    return pd.concat(columns, axis=1).loc[list(order)].reset_index()


def attention(classifiers: Mapping[str, Sequence[Classifier]], marked: ImageSet, plain: ImageSet) -> pd.DataFrame:
    """Return how much of what matters to classifiers lies in the marker's corner, one row per method and classifier.

    classifiers: method -> one for each seed. marked, plain: the same N images with the marker, and without.
    Columns: method, classifier (its number), with_marker, without_marker (the corner's part of the occlusion maps,
    0..1, means over images), p (of no difference between the two: Wilcoxon's signed-rank test over patients), and maps,
    of plain and marked images, (2, cells, cells) float, the mean over images of maps that sum to 1.
    """
    rows = []
    for method, of_seeds in classifiers.items():
        for number, classifier in enumerate(of_seeds):
            maps = [occlusion_maps(classifier, images) for images in (plain, marked)]
            shares = [corner_shares(one, MARKER_CORNER) for one in maps]
            row = {"method": method, "classifier": number}
            row |= {"with_marker": shares[1].mean(), "without_marker": shares[0].mean()}
            row |= {"p": _paired_p(shares[1] - shares[0], marked.groups)}
            rows.append(row | {"maps": np.stack([_mean_map(one) for one in maps])})
    return pd.DataFrame(rows)


def attention_tests(found: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method of a table of `attention`: means over classifiers, and their p values combined.

    Columns: method, with_marker, without_marker, area (the corner's part of the picture), p, classifiers.
    """
    rows = []
    for method, group in found.groupby("method", sort=False):
        means = group[["with_marker", "without_marker"]].mean().to_dict()
        row = {"method": method, **means, "area": MARKER_CORNER**2}
        rows.append(row | {"p": combined_p(group["p"]), "classifiers": len(group)})
    return pd.DataFrame(rows)


def _paired_p(differences: np.ndarray, patients: np.ndarray) -> float:
    """Return Wilcoxon's p of differences (N,), one for each patient: the mean over her images."""
    each = pd.Series(differences).groupby(patients).mean()
    return float(stats.wilcoxon(each).pvalue) if each.any() else 1.0


def _mean_map(maps: np.ndarray) -> np.ndarray:
    """Return the mean (cells, cells) of maps that are brought to the sum 1 each; those without any change stay 0."""
    totals = maps.sum((1, 2), keepdims=True)
    return np.divide(maps, totals, out=np.zeros_like(maps), where=totals > 0).mean(axis=0)
