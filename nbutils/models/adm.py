"""ADM, the diffusion network of Dhariwal & Nichol 2021 (arXiv 2105.05233), and a reader of its official checkpoints."""

from collections.abc import Mapping, Sequence

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.models.adm_layout import load_official


class ADM(nn.Module):
    """The U-Net of ADM: model(x, t, y) -> the noise in x and, with learn_sigma, how wide to draw the next step.

    x: (B, in_channels, image_size, image_size) float, t: (B,) time steps 0..T-1, y: (B,) int64 classes, None =
    unconditional network. Returns (B, in_channels, H, W), or (B, 2 in_channels, H, W) with learn_sigma: first the
    noise, then v of Nichol & Dhariwal 2021, Eq. 15, as -1..1.

    The arguments carry the names of ADM (paper, Section 3). attention_resolutions are in pixels, after folding;
    num_head_channels, if positive, takes the place of num_heads, the same number at all levels; num_heads_upsample = -1
    means num_heads. Without resblock_updown, plain convolutions change the resolution.
    Two arguments are ours: norm_groups (ADM has 32, which small networks cannot divide), and patch_size, which folds
    squares of pixels into channels before the first and after the last layer, for speed (1 = as in the paper).

    Raises ValueError when the sizes do not divide.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        num_channels: int,
        num_res_blocks: int,
        channel_mult: Sequence[float],
        attention_resolutions: Sequence[int],
        *,
        num_classes: int | None = None,
        learn_sigma: bool = True,
        num_heads: int = 1,
        num_head_channels: int = -1,
        num_heads_upsample: int = -1,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        dropout: float = 0.0,
        use_checkpoint: bool = False,
        norm_groups: int = 32,
        patch_size: int = 1,
    ):
        super().__init__()
        widths = tuple(int(mult * num_channels) for mult in channel_mult)
        _check_sizes(image_size, patch_size * 2 ** (len(widths) - 1), widths, norm_groups)
        sizes = [image_size // patch_size // 2**level for level in range(len(widths))]
        attends = [size in attention_resolutions for size in sizes]
        plain_down = "ResnetDownsampleBlock2D" if resblock_updown else "DownBlock2D"
        plain_up = "ResnetUpsampleBlock2D" if resblock_updown else "UpBlock2D"
        resampling = "resnet" if resblock_updown else "conv"
        self.num_classes, self.learn_sigma, self.patch_size = num_classes, learn_sigma, patch_size
        self.unet = UNet2DModel(
            sample_size=sizes[0],
            in_channels=in_channels * patch_size**2,
            out_channels=in_channels * patch_size**2 * (2 if learn_sigma else 1),
            time_embedding_dim=4 * num_channels,
            down_block_types=tuple("AttnDownBlock2D" if attend else plain_down for attend in attends),
            up_block_types=tuple("AttnUpBlock2D" if attend else plain_up for attend in reversed(attends)),
            block_out_channels=widths,
            layers_per_block=num_res_blocks,
            downsample_type=resampling,
            upsample_type=resampling,
            dropout=dropout,
            attention_head_dim=None,
            norm_num_groups=norm_groups,
            attn_norm_num_groups=norm_groups,
            norm_eps=1e-5,
            resnet_time_scale_shift="scale_shift" if use_scale_shift_norm else "default",
            num_class_embeds=num_classes,
        )
        # ADM embeds time in num_channels dimensions, also where the first level has another width (512 px).
        self.unet.time_proj = Timesteps(num_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.unet.time_embedding = TimestepEmbedding(num_channels, 4 * num_channels)
        up_heads = num_heads if num_heads_upsample == -1 else num_heads_upsample
        for part, heads in ((self.unet.down_blocks, num_heads), (self.unet.mid_block, num_heads)):
            _set_heads(part, heads, num_head_channels)
        _set_heads(self.unet.up_blocks, up_heads, num_head_channels)
        _zero_last_layers(self.unet)
        if use_checkpoint:
            self.unet.enable_gradient_checkpointing()

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict noise (and v) for noisy images x at time steps t, of classes y."""
        patches = F.pixel_unshuffle(x, self.patch_size)  # (B, C p², H/p, W/p)
        out = self.unet(patches, t, class_labels=y, return_dict=False)[0]  # (B, [2] C p², H/p, W/p)
        return F.pixel_shuffle(out, self.patch_size)  # (B, [2] C, H, W)


def _check_sizes(image_size: int, divisor: int, widths: Sequence[int], norm_groups: int) -> None:
    """Raise ValueError unless the image can be halved as often as asked and channels split into groups."""
    if image_size % divisor:
        raise ValueError(
            f"ADM with {len(widths)} levels needs an image_size divisible by {divisor}, found {image_size}."
        )
    if any(width % norm_groups for width in widths):
        raise ValueError(f"ADM: channels {widths} must be divisible by norm_groups = {norm_groups}.")


def _set_heads(part: nn.Module, num_heads: int, num_head_channels: int) -> None:
    """Set the number of attention heads; UNet2DModel itself only knows one head width for all levels."""
    for attention in (module for module in part.modules() if isinstance(module, Attention)):
        width = attention.to_q.out_features
        heads = num_heads if num_head_channels == -1 else width // num_head_channels
        if heads == 0 or width % heads or (num_head_channels != -1 and width % num_head_channels):
            asked = f"{num_heads} heads" if num_head_channels == -1 else f"heads of {num_head_channels} channels"
            raise ValueError(f"ADM: {width} channels cannot be split into {asked}.")
        attention.heads = heads


def _zero_last_layers(unet: UNet2DModel) -> None:
    """Start every residual branch and the output at zero, as ADM does."""
    last = [unet.conv_out]
    last += [module.conv2 for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    last += [module.to_out[0] for module in unet.modules() if isinstance(module, Attention)]
    for layer in last:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


OFFICIAL_CHANNEL_MULT = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}
"""Image size -> the multipliers that guided-diffusion means by channel_mult=""."""


def from_official(
    state_dict: Mapping[str, Tensor],
    *,
    image_size: int,
    num_channels: int,
    num_res_blocks: int,
    channel_mult: str = "",
    learn_sigma: bool = False,
    class_cond: bool = False,
    use_checkpoint: bool = False,
    attention_resolutions: str = "16",
    num_heads: int = 1,
    num_head_channels: int = -1,
    num_heads_upsample: int = -1,
    use_scale_shift_norm: bool = False,
    dropout: float = 0.0,
    resblock_updown: bool = False,
    use_fp16: bool = False,
    use_new_attention_order: bool = False,
) -> ADM:
    """Return an ADM in evaluation mode with the weights of a state dict of openai/guided-diffusion.

    The arguments have the names, formats and defaults of its `create_model`; an unknown one is a TypeError. The
    number of classes comes from the state dict. use_fp16 changes nothing here: half-precision weights are read, and the
    network is float32. use_new_attention_order only says in which order the file keeps queries, keys and values;
    use_checkpoint trades time for memory in training.

    Raises ValueError when keys are missing, left over or of another shape, with all of them in one message.
    """
    del use_fp16
    labels = state_dict.get("label_emb.weight")
    num_classes = (1000 if labels is None else len(labels)) if class_cond else None
    model = ADM(
        image_size,
        3,
        num_channels,
        num_res_blocks,
        _parse_channel_mult(channel_mult, image_size),
        _parse_resolutions(attention_resolutions, image_size),
        num_classes=num_classes,
        learn_sigma=learn_sigma,
        num_heads=num_heads,
        num_head_channels=num_head_channels,
        num_heads_upsample=num_heads_upsample,
        use_scale_shift_norm=use_scale_shift_norm,
        resblock_updown=resblock_updown,
        dropout=dropout,
        use_checkpoint=use_checkpoint,
    )
    load_official(model.unet, state_dict, use_new_attention_order)
    return model.eval()


def _parse_channel_mult(text: str, image_size: int) -> tuple[float, ...]:
    """Read "1,2,2"; "" means the official multipliers of the image size."""
    if text == "" and image_size not in OFFICIAL_CHANNEL_MULT:
        sizes = ", ".join(map(str, OFFICIAL_CHANNEL_MULT))
        raise ValueError(f'channel_mult="" is known for image_size {sizes}, found {image_size}: give channel_mult.')
    return tuple(float(mult) for mult in (text or OFFICIAL_CHANNEL_MULT[image_size]).split(","))


def _parse_resolutions(text: str, image_size: int) -> tuple[int, ...]:
    """Read "32,16,8" as guided-diffusion does: each stands for a whole factor of downsampling."""
    factors = (image_size // int(resolution) for resolution in text.split(","))
    return tuple(image_size // factor for factor in factors if factor > 0)


def adapt(model: ADM, num_classes: int | None, channels: int) -> list[str]:
    """Refit a pre-trained ADM, in place, to other classes and to grey images, and return a line on each layer changed.

    num_classes: new classes, all of which start as the mean of the old ones; from an unconditional network they start
        at zero, so that it predicts what it did. None makes it unconditional: the mean goes into the time embedding.
    channels: 1 makes an RGB network grey: the first layer sums over RGB, so that a grey image gives what it gave as
        RGB, and the last one averages, the noise and v apart. Otherwise the network's own number.

    Raises ValueError for another number of channels. How it is done is our choice: GenMix only says that it trained
    ADM further from its ImageNet weights.
    """
    unet = model.unet
    parts, pixels = 2 if model.learn_sigma else 1, model.patch_size**2
    report = [*_adapt_channels(unet, channels, parts, pixels), *_adapt_classes(unet, num_classes)]
    model.num_classes = num_classes
    return report


def _adapt_channels(unet: UNet2DModel, channels: int, parts: int, pixels: int) -> list[str]:
    """Refit the first and last layer; parts: outputs per channel; pixels: folded into one place, channel by channel."""
    first, last = unet.conv_in, unet.conv_out
    old = first.in_channels // pixels
    if channels == old:
        return []
    if channels != 1:
        raise ValueError(f"ADM with {old} channels can be adapted to {old} or 1 channels, asked for {channels}.")
    unet.conv_in = nn.Conv2d(pixels, first.out_channels, 3, padding=1).to(first.weight)
    unet.conv_out = nn.Conv2d(last.in_channels, parts * pixels, 3, padding=1).to(last.weight)
    with torch.no_grad():
        unet.conv_in.weight.copy_(first.weight.unflatten(1, (old, pixels)).sum(1))
        unet.conv_in.bias.copy_(first.bias)
        for name in ("weight", "bias"):
            rows = getattr(last, name).unflatten(0, (parts, old, pixels))
            getattr(unet.conv_out, name).copy_(rows.mean(1).flatten(0, 1))
    return [f"conv_in: sum over {old} channels", f"conv_out: mean over {old} channels of each of {parts} outputs"]


def _adapt_classes(unet: UNet2DModel, num_classes: int | None) -> list[str]:
    old, bias = unet.class_embedding, unet.time_embedding.linear_2.bias
    mean = torch.zeros_like(bias) if old is None else old.weight.detach().mean(0)
    if num_classes is None and old is None:
        return []
    if num_classes is None:
        unet.class_embedding = None
        with torch.no_grad():
            bias.add_(mean)
        return [f"class_embedding: none, the mean of {old.num_embeddings} classes is in the time embedding"]
    unet.class_embedding = nn.Embedding(num_classes, len(bias)).to(bias)
    with torch.no_grad():
        unet.class_embedding.weight.copy_(mean.expand(num_classes, -1))
    source = "zero" if old is None else f"the mean of {old.num_embeddings} classes"
    return [f"class_embedding: {num_classes} classes, each {source}"]
