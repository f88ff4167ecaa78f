"""The classifier two-sample test: can generated images be told from real ones? Features in, numbers out."""

from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, permutation_test_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from nbutils.metrics.fidelity import feature_pair

FOLDS = 5


class TwoSampleTest(NamedTuple):
    """accuracy: share 0..1 of held-out images told right; 0.5 = chance. p: of chance, one-sided. n: images judged."""

    accuracy: float
    p: float
    n: int


def logistic_reader(seed: int = 0) -> Pipeline:
    """Return an untrained logistic regression on standardised features, both sides with the same weight."""
    return make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced", random_state=seed)
    )


def classifier_two_sample_test(
    generated: np.ndarray, real: np.ndarray, seed: int = 0, permutations: int | None = None
) -> TwoSampleTest:
    """Tell generated from real features by cross-validated logistic regression.

    generated: (N, D) float, real: (M, D) float, N and M at least FOLDS; the larger side is thinned at random, so that
    chance is 0.5. permutations: None = p is the exact binomial one, which takes the answers for independent (those of
    a fold share a classifier); a number = p is that of so many random permutations of the sides, which needs no such
    thing, but as many trainings. Source: Lopez-Paz and Oquab 2017, with folds in place of their single split.

    Raises ValueError for too few images, different feature sizes, or features that are not finite.
    """
    sides = [side.numpy() for side in feature_pair(generated, real, FOLDS, "The classifier two-sample test")]
    random, count = np.random.default_rng(seed), min(map(len, sides))
    features = np.concatenate([side[random.permutation(len(side))[:count]] for side in sides])
    truth = np.repeat([1, 0], count)
    folds, reader = StratifiedKFold(FOLDS, shuffle=True, random_state=seed), logistic_reader(seed)
    if permutations is not None:
        accuracy, _, p = permutation_test_score(
            reader, features, truth, cv=folds, n_permutations=permutations, random_state=seed, scoring="accuracy"
        )
        return TwoSampleTest(float(accuracy), float(p), 2 * count)
    right = int((cross_val_predict(reader, features, truth, cv=folds) == truth).sum())
    p = stats.binomtest(right, 2 * count, alternative="greater").pvalue
    return TwoSampleTest(right / (2 * count), float(p), 2 * count)
