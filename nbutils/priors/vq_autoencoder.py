"""The VQ autoencoder of latent diffusion (Rombach et al. 2022), on diffusers' VQModel, trained on the corpus."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import VQModel
from torch import Tensor, nn

from nbutils.backbone import load_backbone
from nbutils.pipelines import encode, load_autoencoder
from nbutils.priors.base import Prior, corpus_images
from nbutils.priors.codebook import CodebookMethod, CodebookRecipe, image_batches
from nbutils.seeds import derive_seed
from nbutils.training import TrainingLog, train

VQ_AUTOENCODER = "vqvae"
STATISTICS_IMAGES = 2000


@dataclass(frozen=True)
class VQAutoencoderRecipe(CodebookRecipe):
    """Settings of the autoencoder.

    image_size: pixels. widths, norm_groups: channels at each resolution, and groups they are normalised in; each width
        but the last is followed by a halving, so that four make an f8.

    Its codes have 4 dimensions, as the published VQ-f8 has it, and their number is a quarter of the 16,384 there.
    """

    image_size: int = 64
    widths: tuple[int, ...] = (16, 24, 48, 56)
    code_dim: int = 4
    num_codes: int = 4096
    norm_groups: int = 8


def build_vq_autoencoder(recipe: VQAutoencoderRecipe) -> VQModel:
    """Return a VQModel of diffusers with random weights."""
    levels = len(recipe.widths)
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.widths,
        layers_per_block=1,
        latent_channels=recipe.code_dim,
        num_vq_embeddings=recipe.num_codes,
        norm_num_groups=recipe.norm_groups,
        sample_size=recipe.image_size,
    )


class VQAutoencoderMethod(CodebookMethod):
    """The training step of the autoencoder."""

    def __init__(self, recipe: VQAutoencoderRecipe, backbone: nn.Module):
        super().__init__(build_vq_autoencoder(recipe), recipe, backbone)

    @property
    def codebook(self) -> Tensor:
        """The vectors of the codes."""
        return self.modules["autoencoder"].quantize.embedding.weight

    def through_codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rebuilt images, the encoder's vectors, and their codes; gradients pass straight through the codes."""
        network = self.modules["autoencoder"]
        z = network.encode(images).latents
        quantised, _, (_, _, tokens) = network.quantize(z)
        return network.decode(quantised, force_not_quantize=True).sample, z, tokens


class VQAutoencoder(Prior):
    """VQModel; needs `backbone`."""

    def fit(self, folder: Path) -> TrainingLog:
        """Train the autoencoder; its moving average is kept, with the scale at which its vectors have unit variance."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, self.name, "weights"))
            method = VQAutoencoderMethod(recipe, load_backbone(self.needs["backbone"].folder()))
        batches = image_batches(self.name, recipe)
        log = train(method, batches, recipe.num_steps, seed=0, description=self.name, checkpoint=folder / "training.pt")
        autoencoder = method.averages["autoencoder"].module.eval()
        vectors = encode(autoencoder, corpus_images(recipe.num_images, recipe.image_size)[:STATISTICS_IMAGES])
        autoencoder.register_to_config(scaling_factor=round(1 / float(vectors.float().std()), 4))
        autoencoder.half().save_pretrained(folder / VQ_AUTOENCODER)
        return log

    def load(self) -> VQModel:
        """Return the trained autoencoder, frozen, in float32 on the device."""
        return load_autoencoder(self.folder() / VQ_AUTOENCODER, VQModel)
