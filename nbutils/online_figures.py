"""Figures of online synthesis: what it did in each epoch, what it costs and gains, and which classes it helps."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from nbutils.figures import AXES, panels


def adaptive_trace(traced: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Draw how many images of each class were synthesised over the epochs, and the accuracies that decided it.

    traced: rows of rebalancing.traces of one method; lines are means over seeds, with their range.
    """
    fig, axes = panels(1, 2, height=2.4)
    for ax, column, label, factor in (
        (axes[0, 0], "count", "synthetic images", 1),
        (axes[0, 1], "accuracy", "accuracy before the epoch (%)", 100),
    ):
        table = traced.melt("epoch", [f"{column}:{name}" for name in class_names], "class", "shown")
        table = table.assign(**{"class": table["class"].str.removeprefix(f"{column}:"), "shown": factor * table.shown})
        sns.lineplot(
            table, x="epoch", y="shown", hue="class", errorbar=("pi", 100), ax=ax, marker="o", legend=ax is axes[0, 0]
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="epoch", ylabel=label)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=min(8, len(class_names)))
    axes[0, 0].get_legend().remove()
    return fig


def benefit_per_cost(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Draw each method's mean ± sd over seeds, over what it cost: evaluations of the diffusion in a training.

    table: one row per method and seed, with a column network_evaluations. metrics: keys of AXES, a panel for each.
    """
    fig, axes = panels(1, len(metrics), height=2.6)
    for ax, metric in zip(axes[0], metrics, strict=True):
        label, factor = AXES[metric]
        for method, rows in table.groupby("method", sort=False):
            values, style = factor * rows[metric], {"marker": "o", "markersize": 4, "capsize": 2, "linestyle": ""}
            sd = np.nan_to_num(values.std())
            ax.errorbar(rows["network_evaluations"].mean(), values.mean(), yerr=sd, label=method, **style)
        ax.set(xlabel="evaluations of the diffusion", ylabel=label)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def relative_classes(
    results: pd.DataFrame, methods: Sequence[str], reference: str, class_counts: Mapping[str, int]
) -> Figure:
    """Draw what methods change in the sensitivity to each class against a reference (IOIS, Fig. 2).

    results: rows of `compare`, paired by seed; bars are means over seeds with their sd. class_counts: training images
    of each class; the largest stands first, with that number in brackets.
    """
    shown = sorted(class_counts, key=class_counts.get, reverse=True)
    rows = []
    for name in shown:
        wide = 100 * results.pivot(index="seed", columns="method", values=f"sensitivity:{name}")
        change = wide[list(methods)].sub(wide[reference], axis=0).melt(var_name="method", value_name="change")
        rows.append(change.assign(**{"class": f"{name} ({class_counts[name]})"}))
    fig, axes = panels(1, 1, height=2.8)
    ax = axes[0, 0]
    bars = {"x": "class", "y": "change", "hue": "method", "hue_order": methods, "err_kws": {"linewidth": 0.8}}
    sns.barplot(pd.concat(rows, ignore_index=True), **bars, errorbar="sd", ax=ax)
    ax.axhline(0, color="0.2", linewidth=0.8)
    ax.set(xlabel="class (training images)", ylabel=f"sensitivity against {reference} (points)")
    ax.legend(title=None, ncols=len(methods), loc="upper center", bbox_to_anchor=(0.5, 1.12))
    return fig
