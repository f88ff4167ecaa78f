"""The networks of class-conditional latent diffusion (Rombach et al. 2022): VQ-f8, and a U-Net told the class."""

from dataclasses import dataclass

from diffusers import DDPMScheduler, UNet2DConditionModel, VQModel
from torch import Tensor, nn

NOISE_SCHEDULE = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class UNetConfig:
    """Settings of the U-Net; the defaults are those of cin-ldm-vq-f8, CompVis' configuration for ImageNet.

    widths, layers_per_block: channels at each resolution of the latents, from the highest, and residual blocks of each.
    head_channels: width of an attention head; every level attends. norm_groups: channels are normalised in.
    class_width: of the vector of a class.
    """

    widths: tuple[int, ...] = (256, 512, 1024)
    layers_per_block: int = 2
    head_channels: int = 32
    norm_groups: int = 32
    class_width: int = 512


class ClassConditionalUNet(nn.Module):
    """A U-Net on latents (B, 4, side, side) that looks by cross-attention at one learnt vector, that of the class.

    One vector is all there is to attend to, so its weight is always 1: each attention adds a projection of the class,
    the same everywhere. Its queries and keys are without effect, and are there as in the published weights.
    """

    def __init__(self, config: UNetConfig, num_classes: int, side: int):
        super().__init__()
        levels = len(config.widths)
        self.unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            down_block_types=("CrossAttnDownBlock2D",) * levels,
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            block_out_channels=config.widths,
            layers_per_block=config.layers_per_block,
            cross_attention_dim=config.class_width,
            # diffusers takes the number of heads here
            attention_head_dim=tuple(width // config.head_channels for width in config.widths),
            norm_num_groups=config.norm_groups,
        )
        self.classes = nn.Embedding(num_classes, config.class_width)

    def states(self, labels: Tensor) -> Tensor:
        """Return what the U-Net looks at, (B, 1, class_width), of labels (B,) int64."""
        return self.classes(labels)[:, None]


def noise_schedule(prediction: str) -> DDPMScheduler:
    """Return the noise of training, T = 1000; prediction: "epsilon" or "v_prediction"."""
    # Samplers take over this spacing of their times.
    return DDPMScheduler(
        num_train_timesteps=1000, **NOISE_SCHEDULE, prediction_type=prediction, timestep_spacing="linspace"
    )


def build_vq_f8() -> VQModel:
    """Return CompVis' VQ-f8 without its weights: 16,384 codes of 4 dimensions, attention at its lowest resolution.

    In Xing et al.'s configuration for 512 px that attention is lost, by a setting that names a resolution and a loader
    that does not mind; here it stays at every size.
    """
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        block_out_channels=(128, 256, 256, 512),
        layers_per_block=2,
        latent_channels=LATENT_CHANNELS,
        num_vq_embeddings=16384,
        sample_size=256,
        scaling_factor=1.0,
    )
