"""What each paper claims, sentence by sentence, as checked against its own tables."""

from nbutils.claims.beauty_or_beast import (
    BEAUTY_DATA,
    BEAUTY_GENERATORS,
    correlation_claims,
    marker_claims,
    quality_claims,
    resolution_claims,
    time_claim,
    utility_claims,
    utility_questions,
)
from nbutils.claims.genmix import genmix_claims, genmix_feature_claims, genmix_feature_questions, genmix_questions
from nbutils.claims.iois import (
    IOIS_COPIES,
    IOIS_DATA,
    IOIS_METHODS,
    IOIS_METRICS,
    iois_claims,
    iois_copy_questions,
    iois_data,
    iois_questions,
)
from nbutils.claims.mage_adapter import (
    ANY_DATA,
    PRINTED_DATA,
    mage_classification_claims,
    mage_generation_claims,
    mage_questions,
    printed_data,
)
from nbutils.claims.textual_inversion import (
    inpainting_claims,
    interpolation_claims,
    memorisation_claim,
    textual_inversion_claims,
    textual_inversion_tuning_claims,
)

__all__ = [
    "ANY_DATA",
    "BEAUTY_DATA",
    "BEAUTY_GENERATORS",
    "IOIS_COPIES",
    "IOIS_DATA",
    "IOIS_METHODS",
    "IOIS_METRICS",
    "PRINTED_DATA",
    "correlation_claims",
    "genmix_claims",
    "genmix_feature_claims",
    "genmix_feature_questions",
    "genmix_questions",
    "inpainting_claims",
    "interpolation_claims",
    "iois_claims",
    "iois_copy_questions",
    "iois_data",
    "iois_questions",
    "mage_classification_claims",
    "mage_generation_claims",
    "mage_questions",
    "marker_claims",
    "memorisation_claim",
    "printed_data",
    "quality_claims",
    "resolution_claims",
    "textual_inversion_claims",
    "textual_inversion_tuning_claims",
    "time_claim",
    "utility_claims",
    "utility_questions",
]
