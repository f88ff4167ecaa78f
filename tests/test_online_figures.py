"""nbutils.online_figures: what is drawn of online synthesis."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nbutils.online_figures import adaptive_trace, benefit_per_cost, relative_classes


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_the_trace_has_a_line_for_each_class_in_counts_and_in_accuracies():
    rows = {"epoch": [1, 2, 1, 2], "seed": [0, 0, 1, 1], "count:a": [5, 8, 5, 6], "count:b": [5, 2, 5, 4]}
    rows |= {"accuracy:a": [np.nan, 0.2, np.nan, 0.4], "accuracy:b": [np.nan, 0.9, np.nan, 0.7]}
    fig = adaptive_trace(pd.DataFrame(rows), ("a", "b"))
    counts, accuracies = fig.axes
    assert [line.get_ydata().tolist() for line in counts.lines[:2]] == [[5, 7], [5, 3]]
    assert [line.get_ydata().tolist() for line in accuracies.lines[:2]] == [pytest.approx([30]), pytest.approx([80])]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b"]
    assert counts.get_legend() is None


def test_each_method_stands_at_its_cost():
    table = pd.DataFrame(
        {"method": ["real", "ois", "ois"], "network_evaluations": [0, 100, 120], "mcc": [0.5, 0.6, 0.7]}
    )
    fig = benefit_per_cost(table, ["mcc"])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["real", "ois"]
    dots = [bar.lines[0].get_xydata()[0].tolist() for bar in fig.axes[0].containers]
    assert dots == [[0, pytest.approx(50)], [110, pytest.approx(65)]]


def test_classes_are_compared_with_the_reference_by_seed_the_largest_first():
    rows = [("real", 0, 0.5, 0.9), ("real", 1, 0.7, 0.9), ("x", 1, 0.9, 0.8), ("x", 0, 0.5, 0.9)]
    results = pd.DataFrame(rows, columns=["method", "seed", "sensitivity:rare", "sensitivity:common"])
    fig = relative_classes(results, ["x"], "real", {"rare": 3, "common": 40})
    (ax,) = fig.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["common (40)", "rare (3)"]
    assert [bar.get_height() for bar in ax.patches[:2]] == pytest.approx([-5, 10])
    sd = np.ptp(ax.lines[1].get_ydata()) / 2
    assert sd == pytest.approx(100 * np.std([0.0, 0.2], ddof=1))
