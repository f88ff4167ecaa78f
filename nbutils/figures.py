"""Figures: data and an axis in, the axis out; one style; saved as PNG and PDF with their run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbutils.files import atomic
from nbutils.images import ImageSet
from nbutils.placement import PointCloud

STYLE = Path(__file__).with_name("figures.mplstyle")
PAGE_WIDTH = 7.0
"""Width of a paper's page, in inches."""

AXES = {
    "accuracy": ("accuracy ↑ (%)", 100),
    "macro_f1": ("macro-F1 ↑ (%)", 100),
    "balanced_accuracy": ("balanced accuracy ↑ (%)", 100),
    "mcc": ("Matthews correlation ↑ (%)", 100),
    "auc": ("AUC ↑ (%)", 100),
    "rarest_sensitivity": ("sensitivity, rarest class ↑ (%)", 100),
    "recall": ("recall ↑ (%)", 100),
    "mean_shift": ("mean shift ↓ (real spreads)", 1),
    "boundary": ("points at a boundary (%)", 100),
    "probability": ("probability of the disease (oracle, %)", 100),
    "outside_change": ("change outside ↓ (% of the grey scale)", 100),
    "fd_shipped": ("Fréchet distance ↓ (shipped features)", 1),
    "kd_shipped": ("kernel distance ↓ (shipped features)", 1),
    "fd_train": ("Fréchet distance to train ↓", 1),
    "fd_test": ("Fréchet distance to test ↓", 1),
    "kd_test": ("kernel distance to test ↓", 1),
    "fd_inception_timm_native": ("Fréchet distance ↓ (timm Inception, native size)", 1),
    "precision": ("precision ↑ (%)", 100),
    "fir": ("called fake ↓ (%)", 100),
    "mean_image_kb": ("mean image ↓ (kB)", 1),
    "augmentation": ("augmentation gains ↑ (points)", 100),
    "extraction": ("extraction gains ↑ (points)", 100),
    "with marker": ("balanced accuracy ↑ (%), with marker", 100),
    "without marker": ("without marker", 100),
    "swapped marker": ("swapped marker", 100),
    "gain": ("accuracy gained ↑ (points)", 100),
    "relative_fd": ("Fréchet distance ↓ (real: 1)", 1),
}
"""What the axis of a metric says, and the factor of its unit."""

plt.style.use(STYLE)


def panels(rows: int, columns: int, height: float, **options) -> tuple[Figure, np.ndarray]:
    """Return a figure of page width and `height` inches, and its axes as an array (rows, columns)."""
    size = (PAGE_WIDTH, height)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay images (N, C, H, W) uint8 out row by row as one picture (rows H, columns W, C) with a white gap of a pixel.

    Places without an image are white.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * columns, channels, height + 1, width + 1), 255, np.uint8)
    sheet[:count, :, :height, :width] = images
    sheet = sheet.reshape(rows, columns, channels, height + 1, width + 1)
    return sheet.transpose(0, 3, 1, 4, 2).reshape(rows * (height + 1), columns * (width + 1), channels)[:-1, :-1]


def show_images(images: np.ndarray, ax: Axes, columns: int, title: str = "") -> Axes:
    """Draw images (N, C, H, W) uint8 as a tiled picture; grey ones on the full range 0..255."""
    sheet = tile(images, columns)
    ax.imshow(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255)
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def class_grid(sources: Mapping[str, ImageSet], per_class: int = 6, columns: int = 6) -> Figure:
    """Draw the first images of each class (columns) from each source (rows), as in Fig. 3 of GenMix."""
    names = next(iter(sources.values())).class_names
    margin, gap = 0.18, 0.012  # shares of the width: source names at the left, space between classes
    width = (1 - margin) / len(names)
    ratio = -(-per_class // columns) / columns
    inches = PAGE_WIDTH * (width - gap) * ratio + 0.06
    fig = plt.figure(figsize=(PAGE_WIDTH, inches * len(sources) + 0.25))
    height = inches / fig.get_figheight()
    for row, (source, images) in enumerate(sources.items()):
        bottom = (len(sources) - 1 - row) * height
        for label, name in enumerate(names):
            ax = fig.add_axes((margin + label * width, bottom, width - gap, height * 0.96))
            ax.set_axis_off()
            if chosen := list(images.of_class(label).images[:per_class]):
                show_images(np.stack(chosen), ax, columns)
            ax.set_title(name if row == 0 else "")
        fig.text(margin - 0.01, bottom + height / 2, source, ha="right", va="center", fontsize=7)
    return fig


def captioned(images: np.ndarray, captions: Sequence[str], columns: int) -> Figure:
    """Draw images (N, C, H, W) uint8, each with its caption below, folded to the width of the image.

    Raises ValueError when there is not a caption for each image.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images need as many captions, found {len(captions)}.")
    rows = -(-len(images) // columns)
    fig, axes = panels(rows, columns, (PAGE_WIDTH / columns + 0.45) * rows)
    for ax in axes.flat:
        ax.set_axis_off()
    for image, caption, ax in zip(images, captions, axes.flat, strict=False):
        show_images(image[None], ax, columns=1)
        ax.text(0.5, -0.04, fill(caption, 150 // columns), ha="center", va="top", fontsize=5, transform=ax.transAxes)
    return fig


def image_rows(rows: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw rows of images (C, H, W) uint8, each below its title, the name of the row at its left.

    Titles that are those of the row above are not repeated.
    """
    columns = max(map(len, rows.values()))
    fig, axes = panels(len(rows), columns, (PAGE_WIDTH / columns + 0.12) * len(rows) + 0.1)
    above: list[str] = []
    for (name, images), row in zip(rows.items(), axes, strict=True):
        for ax in row:
            ax.set_axis_off()
        titles = [""] * len(images) if list(images) == above else list(images)
        for ax, title, image in zip(row, titles, images.values(), strict=False):
            show_images(image[None], ax, columns=1).set_title(title, fontsize=7)
        above = list(images)
        row[0].text(-0.08, 0.5, name, rotation=90, ha="right", va="center", fontsize=7, transform=row[0].transAxes)
    return fig


def snapshots(drawn: Mapping[int, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Draw what a training drew from the same noise: steps done (columns) -> an image of each class (rows).

    Raises ValueError if it drew nothing.
    """
    if not drawn:
        raise ValueError("This generator was trained without snapshots (num_snapshots = 0): there is nothing to draw.")
    by_class = enumerate(class_names)
    return image_rows({name: {f"{n} steps": images[row] for n, images in drawn.items()} for row, name in by_class})


def score_bars(results: pd.DataFrame, metrics: Sequence[str], reference: str | None) -> Figure:
    """Draw each method's mean ± sd over seeds, and every seed as a dot; a line marks the mean of `reference`, if any.

    results: one row per method and seed. metrics: keys of AXES.
    """
    methods = list(dict.fromkeys(results["method"]))
    fig, axes = panels(1, len(metrics), 0.25 * len(methods) + 0.8, sharey=True)
    for ax, metric in zip(axes[0], metrics, strict=True):
        label, factor = AXES[metric]
        data = results.assign(shown=factor * results[metric])
        shared = {"data": data, "x": "shown", "y": "method", "order": methods, "ax": ax}
        sns.pointplot(**shared, errorbar="sd", linestyle="none", markersize=4, color="black", err_kws={"linewidth": 1})
        sns.stripplot(**shared, size=3, alpha=0.5, jitter=False, color="tab:blue")
        if reference is not None:
            ax.axvline(data.loc[data["method"] == reference, "shown"].mean(), color="0.6", linewidth=0.8, zorder=0)
        ax.set(xlabel=label, ylabel="")
    return fig


def lines(table: pd.DataFrame, x: str, y: str, group: str, ax: Axes, x_scale: str = "log") -> Axes:
    """Draw mean ± sd of column y over column x, a line for each value of column `group`; x_scale: "log" or "linear"."""
    sns.lineplot(table, x=x, y=y, hue=group, style=group, markers=True, errorbar="sd", err_style="bars", ax=ax)
    ax.set_xscale(x_scale)
    ax.set_xticks(sorted(table[x].unique()), [str(value) for value in sorted(table[x].unique())])
    ax.minorticks_off()
    ax.set(xlabel=x.replace("_", " "), ylabel=AXES[y][0] if y in AXES else y.replace("_", " "))
    ax.legend(title=None)
    return ax


def quality_against_utility(table: pd.DataFrame, quality: str, utility: str, ax: Axes) -> Axes:
    """Draw every source of a table (column `source`) at its quality and utility, keys of AXES, with its name.

    A line marks no gain; bars are drawn where the table has the columns <utility>_low and <utility>_high.
    """
    (x_label, x_factor), (y_label, y_factor) = AXES[quality], AXES[utility]
    x, y = x_factor * table[quality], y_factor * table[utility]
    bars = None
    if {f"{utility}_low", f"{utility}_high"} <= set(table):
        bars = [y - y_factor * table[f"{utility}_low"], y_factor * table[f"{utility}_high"] - y]
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.errorbar(x, y, bars, fmt="o", markersize=4, elinewidth=0.8, color="tab:blue")
    for place, name in zip(zip(x, y, strict=True), table["source"], strict=True):
        ax.annotate(name, place, xytext=(3, 3), textcoords="offset points", fontsize=6)
    ax.set(xlabel=x_label, ylabel=y_label)
    return ax


def mean_image_rows(means: Mapping[str, Mapping[str, np.ndarray]], sizes: pd.DataFrame) -> Figure:
    """Draw mean images, a row for each class, a column for each source, each below its lossless size.

    means: as mean_images.mean_images, sizes: as mean_images.mean_image_sizes. As Fig. 2 of the utility paper.
    """
    kilobytes = sizes.set_index(["class", "source"])["mean_image_kb"]
    rows = {
        name: {f"{source}\n{kilobytes[name, source]:.1f} kB": mean for source, mean in of.items()}
        for name, of in means.items()
    }
    return image_rows(rows)


def training_curve(curve: pd.DataFrame, ax: Axes, columns: Sequence[str] | None = None) -> Axes:
    """Draw logged scalars of a training over its steps; columns: which of them, None = those named loss..."""
    for name in columns or [name for name in curve.columns if name.startswith("loss")]:
        ax.plot(curve["step"], curve[name], label=name.removeprefix("loss_").replace("_", " "))
    ax.set(xlabel="step", ylabel="" if columns else "loss")
    ax.legend(framealpha=0.6)
    return ax


KINDS = {
    "real": (False, {"marker": ".", "s": 8, "alpha": 0.35, "linewidths": 0}),
    "synthetic": (True, {"marker": "^", "s": 16, "alpha": 0.8, "linewidths": 0.6}),
    "genmix": (True, {"marker": "o", "s": 16, "alpha": 0.8, "linewidths": 0.6}),
}
"""How the points of an embedding look: hollow or not, and their marker."""


def embedding(points: np.ndarray, labels: np.ndarray, kinds: np.ndarray, class_names: Sequence[str], ax: Axes) -> Axes:
    """Draw a 2-D embedding: colour = class, dot = real, triangle = synthetic, circle = GenMix (Fig. 4 of GenMix).

    points: (N, 2) float. labels: (N,) int64. kinds: (N,) str, "real", "synthetic" or "genmix". The class name stands
    at the median of its real points. Distances between clusters of a t-SNE or UMAP mean little.
    """
    palette = sns.color_palette("deep", len(class_names))
    for kind, (hollow, style) in KINDS.items():
        for label, color in enumerate(palette):
            chosen = points[(labels == label) & (kinds == kind)]
            colors = {"facecolors": "none", "edgecolors": [color]} if hollow else {"color": [color]}
            ax.scatter(chosen[:, 0], chosen[:, 1], rasterized=True, **colors, **style)
    for label, name in enumerate(class_names):
        real = points[(labels == label) & (kinds == "real")]
        if len(real):
            ax.text(*np.median(real, axis=0), name, ha="center", va="center", fontsize=7, weight="bold")
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.set_axis_off()
    return ax


def embedding_panels(clouds: Mapping[str, PointCloud], positions: Mapping[str, np.ndarray]) -> Figure:
    """Draw one panel per arm, its points at their positions (N, 2) as `embedding` shows them."""
    columns = 3
    rows = -(-len(clouds) // columns)
    fig, axes = panels(rows, columns, PAGE_WIDTH / columns * rows)
    for ax in axes.flat[len(clouds) :]:
        ax.set_axis_off()
    for ax, letter, (name, cloud) in zip(axes.flat, ascii_lowercase, clouds.items(), strict=False):
        embedding(positions[name], cloud.labels, cloud.kinds, cloud.class_names, ax)
        ax.set_title(f"({letter}) {name}", loc="left")
    handles = [
        plt.Line2D([], [], linestyle="", color="0.2", marker=style["marker"], fillstyle="none" if hollow else "full")
        for hollow, style in KINDS.values()
    ]
    fig.legend(handles, KINDS, loc="outside lower center", ncols=len(KINDS))
    return fig


def save_figure(fig: Figure, folder: Path, name: str) -> Path:
    """Write a figure as PNG and PDF into a folder, atomically and without a date; return the path of the PNG."""
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        with atomic(folder / f"{name}{suffix}") as temporary:
            fig.savefig(temporary, metadata=metadata)
    return folder / f"{name}.png"
