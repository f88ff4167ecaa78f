"""Metrics: pure functions from features or predictions to numbers."""

from nbutils.metrics.fidelity import frechet_distance, kernel_distance
from nbutils.metrics.manifold import density_coverage, precision_recall

__all__ = ["density_coverage", "frechet_distance", "kernel_distance", "precision_recall"]
