"""nbutils.figures and nbutils.embedding: what is drawn, and that it repeats."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import make_blobs

from nbutils.embedding import embed
from nbutils.figures import (
    captioned,
    class_grid,
    embedding,
    embedding_panels,
    image_rows,
    lines,
    mean_image_rows,
    quality_against_utility,
    score_bars,
    snapshots,
    tile,
    training_curve,
)
from nbutils.mean_images import POOLED, mean_image_sizes, mean_images
from nbutils.metrics.mean_image import Encoding
from nbutils.placement import PointCloud


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_tiles_lie_row_by_row_with_a_gap_and_white_where_there_is_no_image():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    sheet = tile(images, columns=3)
    assert sheet.shape == (9, 14, 1)
    assert [sheet[1, 1, 0], sheet[1, 6, 0], sheet[1, 11, 0], sheet[6, 1, 0], sheet[6, 6, 0]] == [0, 1, 2, 3, 4]
    assert (sheet[4] == 255).all()
    assert (sheet[5:, 10:] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_has_a_row_for_each_source_and_a_column_for_each_class(channels):
    first, second = (make_blobs(12, seed, channels=channels) for seed in range(2))
    fig = class_grid({"real": first, "synthetic": second.of_class(0)}, per_class=4, columns=2)
    assert len(fig.axes) == 4
    assert [ax.get_title() for ax in fig.axes] == ["bright", "dark", "", ""]
    assert len(fig.axes[3].images) == 0  # no synthetic image of the second class


def test_score_bars_are_in_percent_with_a_line_at_the_reference():
    results = pd.DataFrame(
        {"method": ["real", "real", "a", "a"], "seed": [0, 1, 0, 1], "accuracy": [0.5, 0.7, 0.8, 0.9]}
    )
    ax = score_bars(results, ["accuracy"], reference="real").axes[0]
    assert ax.get_xlabel() == "accuracy ↑ (%)"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["real", "a"]
    vertical = [line for line in ax.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    assert any(line.get_xdata()[0] == pytest.approx(60) for line in vertical)


def test_training_curves_show_the_losses_or_what_is_asked():
    curve = pd.DataFrame({"step": [1, 2], "loss_a": [1.0, 0.5], "loss_b": [1.0, 0.5], "r1": [0.1, 0.2]})
    drawn = [training_curve(curve, plt.subplots()[1], columns) for columns in (None, ["r1"])]
    assert [[line.get_label() for line in ax.lines] for ax in drawn] == [["a", "b"], ["r1"]]


def cloud(count=40):
    features = np.random.default_rng(0).normal(size=(count, 5)) + np.repeat([0, 8], count // 2)[:, None]
    kinds = np.array(["real", "synthetic", "genmix", "real"] * (count // 4))
    return PointCloud(features, np.repeat([0, 1], count // 2), kinds, ("a", "b"))


def test_an_embedding_draws_every_point_of_every_kind_and_class():
    points = cloud()
    ax = embedding(points.features[:, :2], points.labels, points.kinds, points.class_names, plt.subplots()[1])
    assert sum(len(drawn.get_offsets()) for drawn in ax.collections) == 40
    assert [text.get_text() for text in ax.texts] == ["a", "b"]


def test_panels_are_lettered_and_unused_ones_empty():
    clouds = {"real": cloud(), "genmix": cloud()}
    fig = embedding_panels(clouds, {name: points.features[:, :2] for name, points in clouds.items()})
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["(a) real", "(b) genmix", ""]


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_embeddings_separate_clusters_and_repeat_however_many_are_computed_at_once(method):
    points = cloud(80)
    together = embed({"a": points.features, "b": points.features[::-1]}, method, seed=3)
    first, again = together["a"], embed({"a": points.features}, method, seed=3)["a"]
    assert first.shape == (80, 2)
    np.testing.assert_array_equal(first, again)
    inside = np.linalg.norm(first[:40] - first[:40].mean(axis=0), axis=1).mean()
    assert np.linalg.norm(first[:40].mean(axis=0) - first[40:].mean(axis=0)) > inside


def test_an_unknown_embedding_is_refused():
    with pytest.raises(ValueError, match="Unknown embedding 'pca'"):
        embed({"a": cloud().features}, "pca", seed=0)


def test_captions_stand_below_their_images():
    images = np.zeros((3, 3, 8, 8), np.uint8)
    fig = captioned(images, ["a red disc", "a very long caption " * 5, "cells"], columns=2)
    texts = [ax.texts[0].get_text() for ax in fig.axes if ax.texts]
    assert texts[0] == "a red disc"
    assert "\n" in texts[1]
    assert len(fig.axes) == 4


def test_snapshots_have_a_column_for_each_step_and_a_row_for_each_class():
    drawn = {0: np.zeros((2, 1, 8, 8), np.uint8), 300: np.full((2, 1, 8, 8), 255, np.uint8)}
    fig = snapshots(drawn, ["a", "b"])
    assert [ax.get_title() for ax in fig.axes] == ["0 steps", "300 steps", "", ""]
    assert [int(ax.images[0].get_array().max()) for ax in fig.axes] == [0, 255, 0, 255]


def test_rows_of_images_repeat_no_titles():
    image = np.zeros((3, 8, 8), np.uint8)
    fig = image_rows({"a": {"x": image, "y": image}, "b": {"x": image, "y": image}, "c": {"z": image}})
    assert [ax.get_title() for ax in fig.axes] == ["x", "y", "", "", "z", ""]
    assert [len(ax.images) for ax in fig.axes] == [1, 1, 1, 1, 1, 0]
    assert [ax.texts[0].get_text() for ax in fig.axes[::2]] == ["a", "b", "c"]


def test_lines_show_the_mean_at_each_size():
    table = pd.DataFrame({"n": [100, 100, 1000], "fd": [1.0, 3.0, 5.0], "start": ["prior", "prior", "prior"]})
    ax = lines(table, "n", "fd", "start", plt.subplots()[1])
    assert ax.lines[0].get_ydata().tolist() == [2, 5]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["100", "1000"]


def test_utility_is_drawn_over_quality_in_their_units_with_names_and_intervals():
    table = pd.DataFrame(
        {"source": ["a", "b"], "fd_shipped": [3.0, 5.0], "augmentation": [0.02, -0.01],
         "augmentation_low": [0.01, -0.03], "augmentation_high": [0.04, 0.0]}
    )  # fmt: skip
    ax = quality_against_utility(table, "fd_shipped", "augmentation", plt.subplots()[1])
    points = ax.containers[0]
    np.testing.assert_allclose(points.lines[0].get_xydata(), [[3, 2], [5, -1]])
    np.testing.assert_allclose(np.array(points.lines[2][0].get_segments())[:, :, 1], [[1, 4], [-3, 0]])
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert ax.get_xlabel() == "Fréchet distance ↓ (shipped features)"
    assert ax.get_ylabel() == "augmentation gains ↑ (points)"
    bare = quality_against_utility(table[["source", "fd_shipped", "augmentation"]], "fd_shipped", "augmentation", ax)
    assert bare.containers[-1].lines[2] == ()


def test_mean_images_stand_below_their_sizes():
    sources = {"real": make_blobs(12, 0), "a": make_blobs(12, 1)}
    means, sizes = mean_images(sources), mean_image_sizes(sources, Encoding(image_size=16))
    fig = mean_image_rows(means, sizes)
    titles = [ax.get_title() for ax in fig.axes]
    assert titles[0] == f"real\n{sizes['mean_image_kb'].iloc[0]:.1f} kB"
    assert [ax.texts[0].get_text() for ax in fig.axes[::2]] == ["bright", "dark", POOLED]
    assert (np.asarray(fig.axes[3].images[0].get_array()) == means["dark"]["a"][0]).all()
