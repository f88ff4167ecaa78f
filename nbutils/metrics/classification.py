"""Classification metrics: predictions and labels in, fractions out."""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef, roc_auc_score


def scores(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Return all scores of one classifier on one set, as fractions 0..1; mcc is -1..1.

    labels: (N,) int64 class indices. probabilities: (N, classes) float, the most probable class is the prediction. The
    keys are `accuracy`, `balanced_accuracy`, `macro_f1`, `mcc`, `auc`, and for each class `sensitivity:<class>`,
    `specificity:<class>` and `published_specificity:<class>`. A class without images has sensitivity NaN, and is left
    out of balanced accuracy and AUC. `mcc` is Matthews' correlation coefficient of all classes, 0 where one class takes
    all predictions.

    `published_specificity` is what Table 1 of GenMix prints as specificity in its generator and GenMix rows: the
    accuracy on the images of the other classes, which also counts a confusion among those as a miss. Its rows real,
    MixUp and AugMix print true specificity.
    """
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, labels=np.arange(len(class_names)))  # rows: truth, columns: predicted
    hits, total = np.diag(matrix), matrix.sum()
    truth, claimed = matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        sensitivity = hits / truth
        specificity = (total - truth - claimed + hits) / (total - truth)
        others = (hits.sum() - hits) / (total - truth)
    columns = {"sensitivity": sensitivity, "specificity": specificity, "published_specificity": others}
    return {
        "accuracy": float(hits.sum() / total),
        "balanced_accuracy": float(np.nanmean(sensitivity)),
        "macro_f1": macro_f1(labels, probabilities),
        "mcc": float(matthews_corrcoef(labels, predicted)),
        "auc": auc(labels, probabilities),
        **{
            f"{metric}:{name}": float(value)
            for metric, values in columns.items()
            for name, value in zip(class_names, values, strict=True)
        },
    }


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean F1 score over the classes; a class never predicted counts 0. Arguments as in `scores`."""
    classes, predicted = np.arange(probabilities.shape[1]), probabilities.argmax(axis=1)
    return float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0.0))


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the area under the ROC curve, each class against the rest, as the mean over the classes.

    Arguments as in `scores`. A class without images, or without images of others, is left out; NaN if none is left.
    """
    areas = [
        roc_auc_score(labels == label, probabilities[:, label])
        for label in range(probabilities.shape[1])
        if 0 < (labels == label).sum() < len(labels)
    ]
    return float(np.mean(areas)) if areas else float("nan")


SELECTIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"macro_f1": macro_f1, "auc": auc}
"""Scores that can decide which epoch of a training is kept."""
