"""Classification metrics: predictions and labels in, fractions 0..1 out."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score


def scores(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Return all scores of one classifier on one set, as fractions 0..1.

    labels, predicted: (N,) int64 class indices. The keys are `accuracy`, `balanced_accuracy`, `macro_f1`, and for
    each class `sensitivity:<class>`, `specificity:<class>` and `published_specificity:<class>`. A class without
    images has sensitivity NaN, and is left out of the balanced accuracy.

    `published_specificity` is what Table 1 of GenMix prints as specificity in its generator and GenMix rows: the
    accuracy on the images of the other classes, which also counts a confusion among those as a miss. Its rows real,
    MixUp and AugMix print true specificity.
    """
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
        "macro_f1": macro_f1(labels, predicted, len(class_names)),
        **{
            f"{metric}:{name}": float(value)
            for metric, values in columns.items()
            for name, value in zip(class_names, values, strict=True)
        },
    }


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> float:
    """Return the mean F1 score over the classes; a class never predicted counts 0."""
    return float(f1_score(labels, predicted, labels=np.arange(num_classes), average="macro", zero_division=0.0))
