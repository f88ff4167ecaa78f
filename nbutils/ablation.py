"""What notebook 10 varies on MAGE's adapters: one setting at a time, on the same images, for the same few steps."""

from collections.abc import Mapping
from dataclasses import dataclass

from nbutils.generators.mage import MageAdapterVQ, MageGeneratorConfig
from nbutils.images import ImageSet
from nbutils.scales import at_scale

METHOD = MageAdapterVQ.name
"""The generator whose settings are varied."""

AS_IS = "as it is"
FEW = (5, 15, 50)
"""Images of each class, at most, beside all of them."""

Variant = tuple[Mapping[str, object], ImageSet]
"""Fields of METHOD's config to replace, and the images to train on."""


@dataclass(frozen=True)
class AblationScale:
    """What a scale means for notebook 10.

    num_steps: of each training of an ablation. per_class: images of each class that a generator draws.
    dataset: on which settings are varied; None = on that of the notebook.
    """

    num_steps: int
    per_class: int
    dataset: str | None = "phantom:chest"


SCALES = {
    "smoke": AblationScale(num_steps=1, per_class=3, dataset=None),
    "demo": AblationScale(num_steps=400, per_class=50),
    "gpu": AblationScale(num_steps=2000, per_class=200),
    "paper": AblationScale(num_steps=20_500, per_class=1000),
}


def variants(scale: str, images: ImageSet) -> dict[str, Variant]:
    """Return what is varied, by a label: placement, width, s and the use of the class token, and fewer images."""
    steps, config = at_scale(SCALES, scale).num_steps, at_scale(MageAdapterVQ.scales, scale)
    chosen = {AS_IS: {}, **_settings(config)}
    found = {label: ({"num_steps": steps, **changes}, images) for label, changes in chosen.items()}
    few = {f"{count} images a class": images.at_most(count) for count in FEW if count < images.class_counts().max()}
    return found | {label: ({"num_steps": steps}, fewer) for label, fewer in few.items()}


def placements(scale: str, images: ImageSet) -> dict[str, Variant]:
    """Return the three placements of adapters, by a label: what the paper's Section 4 leaves to future work."""
    return {label: variant for label, variant in variants(scale, images).items() if label in (AS_IS, *_PLACEMENTS)}


_PLACEMENTS = {"encoder only": {"placement": "encoder"}, "decoder only": {"placement": "decoder"}}


def _settings(config: MageGeneratorConfig) -> dict[str, dict[str, object]]:
    """Return the settings beside those of a config, by a label."""
    widths = (config.bottleneck // 2, 2 * config.bottleneck)
    scales = (config.adapter_scale / 10, 10 * config.adapter_scale)
    return {
        **_PLACEMENTS,
        **{f"width {width}": {"bottleneck": width} for width in widths},
        **{f"s = {s:g}": {"adapter_scale": s} for s in scales},
        "no VQ loss": {"quantisation_weight": 0.0},
        "class token replaced": {"replace_class_token": True},
    }
