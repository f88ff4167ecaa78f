"""The layout of CompVis/latent-diffusion checkpoints, and how it maps to the layers of diffusers.

A checkpoint of cin-ldm-vq-f8 holds `first_stage_model.*` (the VQ autoencoder), `model.diffusion_model.*` (the U-Net),
`model_ema.*` (its moving average, under names without points) and `cond_stage_model.embedding.weight` (the classes);
that of a first stage alone holds the autoencoder without prefix, beside its losses. Source: ldm/models and ldm/modules
of that repository.
"""

from collections.abc import Mapping

from diffusers import UNet2DConditionModel, VQModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from nbutils.models.adm_layout import ENDS, RESBLOCK, check_layout, official_blocks
from nbutils.models.ldm import ClassConditionalUNet

FIRST_STAGE, UNET, AVERAGE, CLASSES = (
    *("first_stage_model.", "model.diffusion_model.", "model_ema."),
    "cond_stage_model.embedding.weight",
)
LOSS = "loss."
SCHEDULE = (
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
    *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("lvlb_weights", "scale_factor", "logvar"),
)
"""What a checkpoint says of its noise, which follows from the configuration."""

VQ_RESBLOCK = {"conv_shortcut": "nin_shortcut"}
VQ_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def load_first_stage(autoencoder: VQModel, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of a first stage into VQModel, out of its own checkpoint or of one of latent diffusion.

    Raises ValueError when weights are missing, left over or of another shape, with all of them in one message.
    """
    whole = any(key.startswith(FIRST_STAGE) for key in state_dict)
    own = _part(state_dict, FIRST_STAGE) if whole else dict(state_dict)
    own = {key: value for key, value in own.items() if not key.startswith(LOSS)}
    names = {key: _vq_name(key, len(autoencoder.config.block_out_channels)) for key in autoencoder.state_dict()}
    _load(autoencoder, own, names, "a first stage VQ-f8")


def load_unet(network: ClassConditionalUNet, state_dict: Mapping[str, Tensor]) -> bool:
    """Copy the U-Net of a checkpoint of latent diffusion, its moving average where there is one, and the classes.

    Returns whether the classes were copied: where the network has another number of them, they stay as they are.
    Raises ValueError when weights are missing, left over or of another shape.
    """
    known = (FIRST_STAGE, UNET, AVERAGE)
    extra = {key: v for key, v in state_dict.items() if not key.startswith(known) and key not in (CLASSES, *SCHEDULE)}
    averages = {key: state_dict[name] for key in state_dict if (name := _average_name(key)) in state_dict}
    unet = _part({**state_dict, **averages}, UNET)
    _load(network.unet, unet | extra, _unet_names(network.unet), "the U-Net of class-conditional latent diffusion")
    classes = state_dict.get(CLASSES)
    same = classes is not None and classes.shape == network.classes.weight.shape
    if same:
        network.classes.load_state_dict({"weight": classes.float()})
    return same


def _part(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}


def _average_name(key: str) -> str:
    """Return where the moving average of a weight of the U-Net is kept."""
    return AVERAGE + key.removeprefix("model.").replace(".", "")


def _load(network: nn.Module, state_dict: Mapping[str, Tensor], names: Mapping[str, str], of: str) -> None:
    """Copy official weights by our name -> theirs; attention is of 1 x 1 convolutions there, of linear layers here."""
    own = network.state_dict()
    wide = {key for key, value in own.items() if value.ndim == 2 and _is_convolution(key)}
    shapes = {names[key]: (*value.shape, 1, 1) if key in wide else tuple(value.shape) for key, value in own.items()}
    check_layout(state_dict, shapes, of)
    network.load_state_dict({key: state_dict[names[key]].float().reshape(value.shape) for key, value in own.items()})


def _is_convolution(key: str) -> bool:
    """Return whether a linear layer of ours is a convolution there: those of the autoencoder's attention alone."""
    return ".attentions." in key and ".transformer_blocks." not in key


def _unet_names(unet: UNet2DConditionModel) -> dict[str, str]:
    """Return, for every weight of ours, the official one that it comes from."""
    layers = {ours: theirs for ours, theirs in ENDS.items() if ours != "class_embedding"}
    modules = dict(unet.named_modules())
    for ours, theirs in official_blocks(unet).items():
        if isinstance(modules[ours], ResnetBlock2D):
            layers |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in RESBLOCK.items()}
        elif ".attentions." in ours:  # of one layout here and there
            layers[ours] = theirs
        else:  # a convolution that changes the resolution
            layers[f"{ours}.conv"] = f"{theirs}.{'op' if ours.startswith('down') else 'conv'}"
    return {key: _renamed(key, layers) for key in unet.state_dict()}


def _renamed(key: str, layers: Mapping[str, str]) -> str:
    """Return a name with the layer at its beginning replaced."""
    parts = key.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    layer = next(beginning for beginning in beginnings if beginning in layers)
    return layers[layer] + key.removeprefix(layer)


def _vq_name(key: str, levels: int) -> str:
    """Return the official name of a weight of VQModel; the decoder's levels are counted as the encoder's there."""
    parts = key.split(".")
    if parts[1] in ("down_blocks", "up_blocks"):
        side, (level, kind, layer) = parts[1].removesuffix("_blocks"), parts[2:5]
        level = int(level) if side == "down" else levels - 1 - int(level)
        place = {"resnets": f"block.{layer}", "attentions": f"attn.{layer}"}.get(kind, f"{side}sample")
        return _within(f"{parts[0]}.{side}.{level}.{place}", kind, parts[5:])
    if parts[1] == "mid_block":
        place = f"block_{int(parts[3]) + 1}" if parts[2] == "resnets" else "attn_1"
        return _within(f"{parts[0]}.mid.{place}", parts[2], parts[4:])
    return key.replace("conv_norm_out", "norm_out")


def _within(block: str, kind: str, parts: list[str]) -> str:
    """Return the official name of a weight within a block; kind: resnets, attentions, downsamplers or upsamplers."""
    layer, weight = ".".join(parts[:-1]), parts[-1]
    renamed = {"resnets": VQ_RESBLOCK, "attentions": VQ_ATTENTION}.get(kind, {})
    return f"{block}.{renamed.get(layer, layer)}.{weight}"
