"""How each paper trains its classifier, at every scale."""

from dataclasses import dataclass, fields, replace

from nbutils.scales import at_scale, choose

INITIAL_WEIGHTS = ("scratch", "prior", "imagenet")


@dataclass(frozen=True)
class ClassifierConfig:
    """What determines a classifier's training.

    network: a timm model name. options: further arguments of timm.create_model, as (name, value) pairs.
    initial_weights: one of INITIAL_WEIGHTS. "prior": the backbone that was trained on the corpus, of this very network
        (one of backbone.BACKBONES); "imagenet": timm's (needs them on disk or a network), with images normalised as
        these expect it, else they stay in -1..1; "scratch": random.
    input_size: pixels the network sees, images are resized to it bilinearly; None = as the images are.
    epoch_steps: steps after each of which validation is asked; None = as many as the *real* training set has batches.
        Either way every arm of a table gets the same number of steps however many synthetic images it has.
    max_epoch_images: an epoch is no longer than this, so that demo stays short on large sets; None = no limit.
    patience: epochs without a better validation score after which training stops.
    selection: the score on validation whose best epoch is kept, one of metrics.classification.SELECTIONS.
    """

    network: str
    num_epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    options: tuple[tuple[str, object], ...] = ()
    initial_weights: str = "scratch"
    input_size: int | None = None
    epoch_steps: int | None = None
    max_epoch_images: int | None = None
    weight_decay: float = 0.0
    selection: str = "macro_f1"
    predict_batch_size: int = 256

    def key(self) -> dict:
        """Return the settings as JSON values for a cache's key, without those that have their default.

        So a setting that is new leaves the names of what was trained before it as they are.
        """
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


_GENMIX = {
    "smoke": ClassifierConfig(
        "test_byobnet",
        num_epochs=1,
        batch_size=64,
        learning_rate=1e-3,
        patience=1,
        initial_weights="prior",
        max_epoch_images=128,
    ),
    "demo": ClassifierConfig(
        "test_byobnet",
        num_epochs=16,
        batch_size=64,
        learning_rate=2e-3,
        patience=8,
        initial_weights="prior",
        max_epoch_images=768,
    ),
    "gpu": ClassifierConfig(
        "resnet18", num_epochs=40, batch_size=32, learning_rate=3e-4, patience=10, initial_weights="prior"
    ),
    # GenMix, Implementation Details; Adam, the input size and the selection score are our choices.
    "paper": ClassifierConfig(
        "vgg16",
        num_epochs=100,
        batch_size=8,
        learning_rate=2e-4,
        patience=20,
        initial_weights="imagenet",
        input_size=224,
    ),
}

# De Wilde et al., Section 3.2: 6,250 steps without early stopping; the input size is that of the published code.
_DE_WILDE = ClassifierConfig(
    "resnet18",
    num_epochs=125,
    batch_size=32,
    learning_rate=1e-4,
    patience=125,
    initial_weights="imagenet",
    input_size=196,
    epoch_steps=50,
    selection="auc",
)
_SMALLER = replace(_DE_WILDE, initial_weights="prior", input_size=None)
_TEXTUAL_INVERSION = {
    "smoke": replace(_GENMIX["smoke"], epoch_steps=4, selection="auc"),
    "demo": replace(
        _SMALLER,
        network="test_byobnet",
        num_epochs=12,
        patience=12,
        learning_rate=1e-3,
        input_size=32,
        epoch_steps=30,
    ),
    "gpu": replace(_SMALLER, num_epochs=50, patience=50),
    "paper": _DE_WILDE,
}

SMALL_TRANSFORMERS = {
    "vit": {"network": "test_vit", "options": (("img_size", 32), ("patch_size", 8))},
    "swin": {
        "network": "swin_tiny_patch4_window7_224",
        "options": (
            *(("img_size", 32), ("patch_size", 4), ("window_size", 4)),
            *(("embed_dim", 32), ("depths", (2, 2)), ("num_heads", (2, 4))),
        ),
    },
}
"""A ViT and a Swin Transformer for images of 32 px: networks of timm with the options that make them so small."""

# Yuan et al., Section 3.1; it states neither sizes of the networks, nor the batch, nor what is selected by.
_YUAN = ClassifierConfig(
    "vit_base_patch16_224",
    num_epochs=100,
    batch_size=32,
    learning_rate=1e-3,
    patience=100,
    initial_weights="imagenet",
    input_size=224,
    selection="auc",
)


def _transformer(name: str, published: str) -> dict[str, ClassifierConfig]:
    """Return the settings of one of SMALL_TRANSFORMERS at every scale but paper, which has a published network."""
    small = replace(_YUAN, batch_size=64, initial_weights="prior", input_size=32, **SMALL_TRANSFORMERS[name])
    return {
        "smoke": replace(small, num_epochs=1, patience=1, max_epoch_images=128),
        "demo": replace(small, num_epochs=12, patience=12, max_epoch_images=768),
        "gpu": replace(small, num_epochs=40, patience=40),
        "paper": replace(_YUAN, network=published),
    }


CLASSIFIERS = {
    "genmix": _GENMIX,
    "textual_inversion": _TEXTUAL_INVERSION,
    "mage_adapter": _transformer("vit", "vit_base_patch16_224"),
    "mage_adapter_swin": _transformer("swin", "swin_base_patch4_window7_224"),
}
"""Paper, as its tables in data/papers are called -> scale -> settings; a second classifier has a name of its own."""

GENERATORS = {
    "genmix": ("dcgan", "stylegan", "stylegan2-ada", "textual-inversion", "diffusion"),
    "mage_adapter": ("fastgan", "stylegan2-ada", "ldm-lora", "mage", "mage-adapter", "mage-adapter-vq"),
}
"""Paper -> the generators that its tables compare."""

SHOWPIECE = {"genmix": "phantom:liver", "textual_inversion": "phantom:prostate", "mage_adapter": "phantom:dermoscopy"}
"""Paper -> the data set on which its notebooks run by default, whose results figures/ shows."""

DEFAULT_PAPER = "genmix"
"""Of a notebook that names no paper."""


def config_at(scale: str, classifier_init: str | None = None, paper: str = DEFAULT_PAPER) -> ClassifierConfig:
    """Return a paper's settings at a scale; classifier_init: other initial weights than the scale's, None = these.

    Raises ValueError for an unknown scale or paper, other initial weights than INITIAL_WEIGHTS, or a network without a
    prior.
    """
    config = at_scale(choose("paper", paper, CLASSIFIERS), scale)
    if classifier_init is not None:
        choose("classifier_init", classifier_init, dict.fromkeys(INITIAL_WEIGHTS))
        config = replace(config, initial_weights=classifier_init)
    if config.initial_weights == "prior":
        from nbutils.backbone import backbone_of  # brings torch, which the runner does without

        backbone_of(config.network)
    return config
