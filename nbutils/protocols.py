"""How each paper trains its classifier, at every scale."""

from dataclasses import dataclass, fields, replace

from nbutils.scales import at_scale, choose

INITIAL_WEIGHTS = ("scratch", "prior", "imagenet")
OPTIMIZERS = ("adam", "sgd")
LOSSES = ("cross-entropy", "focal", "class-balanced-focal")


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
    optimizer: one of OPTIMIZERS. momentum: of SGD.
    milestones: after so many epochs each, the learning rate is multiplied with learning_rate_decay.
    crop, rotation, flip: how training images are changed each time they are drawn, see traditional.geometric_changes.
    loss: one of LOSSES, see nbutils.imbalance. focal_gamma: gamma of the focal ones. class_balanced_beta: beta of the
        class-balanced one, whose weights come from the number of images of each class in the policy's pool.
    initial_classifier: the name of a cached classifier (comparison.TrainedArms.artefact) of the same classes, with
        whose weights training starts; None = with initial_weights, which else only say how images are normalised.
    last_layer_only: only the last layer is trained; the others stay as they are, their batch statistics too.
    keep_last: the last epoch is kept, not the best on validation.
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
    optimizer: str = "adam"
    momentum: float = 0.0
    milestones: tuple[int, ...] = ()
    learning_rate_decay: float = 0.1
    crop: float = 1.0
    rotation: float = 0.0
    flip: float = 0.0
    loss: str = "cross-entropy"
    focal_gamma: float = 2.0
    class_balanced_beta: float = 0.9999
    initial_classifier: str | None = None
    last_layer_only: bool = False
    keep_last: bool = False

    def steps_per_epoch(self, epoch_images: int) -> int:
        """Return the steps of an epoch; epoch_images: number of real training images."""
        epoch_images = min(epoch_images, self.max_epoch_images or epoch_images)
        return self.epoch_steps or -(-epoch_images // self.batch_size)

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
        "smoke": replace(small, num_epochs=1, patience=1, max_epoch_images=64),
        "demo": replace(small, num_epochs=10, patience=10, max_epoch_images=768),
        "gpu": replace(small, num_epochs=40, patience=40),
        "paper": replace(_YUAN, network=published),
    }


# Li et al., Section 3.2; momentum, weight decay and the share of the crop (224 of 256 pixels) are those of their code.
_LI = ClassifierConfig(
    "resnet50",
    num_epochs=200,
    batch_size=32,
    learning_rate=0.0125,
    patience=200,
    initial_weights="imagenet",
    input_size=224,
    weight_decay=1e-4,
    optimizer="sgd",
    momentum=0.9,
    milestones=(60, 120, 180),
    crop=0.875,
    rotation=30.0,
    flip=0.5,
)


def _shortened(config: ClassifierConfig, num_epochs: int, **changes) -> ClassifierConfig:
    """Return settings with fewer epochs, the milestones in proportion, no early stopping, and other changes."""
    milestones = tuple(round(epoch * num_epochs / config.num_epochs) for epoch in config.milestones)
    return replace(config, num_epochs=num_epochs, patience=num_epochs, milestones=milestones, **changes)


_SMALL_LI = replace(_LI, network="test_byobnet", initial_weights="prior", input_size=None)
_IOIS = {
    "smoke": _shortened(_SMALL_LI, num_epochs=2, max_epoch_images=64),
    # So few steps are not enough for SGD: on validation images of phantom:dermoscopy its macro-F1 was 0.27 to 0.51
    # whatever the rate, even with twice as many, and that of Adam, its rate falling late, 0.58.
    "demo": replace(
        _shortened(_SMALL_LI, num_epochs=15, max_epoch_images=640, batch_size=64),
        optimizer="adam",
        learning_rate=0.004,
        milestones=(12, 14),
    ),
    "gpu": _shortened(_SMALL_LI, num_epochs=40, network="resnet18"),
    "paper": _LI,
}

# Xing et al., Section III: InceptionV3, the best on validation is kept; all else is unstated and our choice.
_XING = ClassifierConfig(
    "inception_v3",
    num_epochs=50,
    batch_size=32,
    learning_rate=1e-4,
    patience=10,
    initial_weights="imagenet",
    input_size=299,
)
_BEAUTY_OR_BEAST = {
    "smoke": _GENMIX["smoke"],
    "demo": _GENMIX["demo"],
    "gpu": replace(_GENMIX["demo"], num_epochs=40, patience=10, max_epoch_images=None),
    "paper": _XING,
}
# Radiographs are drawn at 64 px at demo scale, and read at half of that, so that some fifty classifiers take minutes.
_BEAUTY_OR_BEAST_XRAY = _BEAUTY_OR_BEAST | {
    "demo": replace(_GENMIX["demo"], num_epochs=10, patience=10, input_size=32),
}

CLASSIFIERS = {
    "genmix": _GENMIX,
    "textual_inversion": _TEXTUAL_INVERSION,
    "mage_adapter": _transformer("vit", "vit_base_patch16_224"),
    "mage_adapter_swin": _transformer("swin", "swin_base_patch4_window7_224"),
    "iois": _IOIS,
    "beauty_or_beast": _BEAUTY_OR_BEAST,
    "beauty_or_beast_xray": _BEAUTY_OR_BEAST_XRAY,
}
"""Paper, as its tables in data/papers are called -> scale -> settings; a second classifier has a name of its own.

So has a second showpiece: the radiographs of "The Beauty or the Beast", beside its tissue.
"""

GENERATORS = {
    "genmix": ("dcgan", "stylegan", "stylegan2-ada", "textual-inversion", "diffusion"),
    "mage_adapter": ("fastgan", "stylegan2-ada", "ldm-lora", "mage", "mage-adapter", "mage-adapter-vq"),
    "iois": ("cell-gan", "stylegan2-ada"),
    "beauty_or_beast": ("vqvae2", "stylegan2-ada", "ldm"),
}
"""Paper -> the generators that its tables compare; that of IOIS itself, which a classifier guides, is rebalancing's."""

SHOWPIECE = {
    "genmix": "phantom:liver",
    "textual_inversion": "phantom:prostate",
    "mage_adapter": "phantom:dermoscopy",
    "iois": "phantom:dermoscopy",
    "beauty_or_beast": "phantom:tissue",
    "beauty_or_beast_xray": "phantom:pneumonia",
}
"""Paper -> the data set on which its notebooks run by default, whose results figures/ shows."""

FILLED_TO = {"smoke": 24, "demo": 150, "gpu": 1000, "paper": 2000}
"""Scale -> the number of images up to which Yuan et al.'s classes are filled with synthetic ones (Table 1).

On Kera-3k they take 1,000 for the two smaller classes, 2,000 for the larger; those of HAM10000 we cannot read.
"""

TUNING_EPOCHS = {"smoke": 2, "demo": 20, "gpu": 20, "paper": 20}
"""Scale -> the epochs for which Xing et al. tune the last layer of a classifier on real images (Section III)."""

TUNING_SHARE = 0.5
"""The share of the real training images on which they do so."""

AS_THEY_LIE = {"flip": False}
"""What generators of notebooks 51 and 52 are set to: in a mirrored chest heart and marker lie on the wrong side."""

SPLIT_IMAGES = {"smoke": 100, "demo": None, "gpu": None, "paper": None}
"""Scale -> images of each split with which notebooks 51 and 52 work, None: all. They have several data sets each."""

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


def tuning_config(config: ClassifierConfig, scale: str) -> ClassifierConfig:
    """Return the settings that tune only the last layer of a config's network, for a scale's TUNING_EPOCHS.

    The last epoch is kept, as Xing et al. do. Raises ValueError for an unknown scale.
    """
    epochs = at_scale(TUNING_EPOCHS, scale)
    return replace(config, num_epochs=epochs, patience=epochs, milestones=(), last_layer_only=True, keep_last=True)
