"""Perceptual distances: how far apart images are in the feature maps of a network that was trained on others."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from nbutils import weights
from nbutils.backbone import BACKBONES, build_reader, load_backbone
from nbutils.scales import choose
from nbutils.training import placed

LPIPS_VGG = "lpips-vgg16"
VGG = "vgg16-imagenet"
MAPS = {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}
"""Which layers of VGG-16 LPIPS compares, the last ReLU of each of its five stages, and how many maps they have."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""From two batches of images (B, 3, H, W) -1..1 to their mean distance, a scalar, differentiable in both."""


def perceptual_distance(backbone: nn.Module, images: Tensor, others: Tensor) -> Tensor:
    """Return the distance of images (B, 3, H, W) -1..1 in the backbone's feature maps, a scalar.

    Maps are normalised over channels at each place, as in LPIPS (Zhang et al. 2018), so that it lies in 0..4. It is the
    backbone behind the extractor `shipped`, too: distances on its features flatter what came through the network.
    """
    maps = backbone.forward_intermediates(torch.cat([images, others]), intermediates_only=True)
    distances = []
    for both in maps:
        one, two = F.normalize(both.float(), dim=1).chunk(2)
        distances.append((one - two).square().sum(1).mean())
    return torch.stack(distances).mean()


class LPIPS(nn.Module):
    """LPIPS on VGG-16 (Zhang et al. 2018, Eq. 1, version 0.1), with random weights until `load`.

    Maps are normalised over channels, their squared differences weighted by channel, averaged over places, and summed
    over the five layers of MAPS. That of torch-fidelity, with which a test compares it, fetches its files from the
    network whenever it is made: it takes none from a folder, and cannot be built without them.
    """

    def __init__(self):
        super().__init__()
        self.features = make_layers(cfgs["D"], batch_norm=False)[: max(MAPS) + 1]
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in MAPS.values())
        # ImageNet's mean and deviation, for images -1..1
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """Return the mean distance of images and others, both (B, 3, H, W) float -1..1, a scalar."""
        x = (torch.cat([images, others]) - self.mean) / self.deviation
        heads, distance = iter(self.heads), 0.0
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in MAPS:
                one, two = F.normalize(x.float(), dim=1, eps=1e-10).chunk(2)
                distance = distance + next(heads)((one - two).square()).mean()
        return distance

    def load(self, vgg: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        """Take the weights of torchvision's VGG-16, and those of the channels as Zhang et al. publish them."""
        self.features.load_state_dict({k: vgg[f"features.{k}"] for k in self.features.state_dict()})
        self.heads.load_state_dict({f"{k}.weight": heads[f"lin{k}.model.1.weight"] for k in range(len(MAPS))})


def load_distance(name: str, pretrained: bool = True) -> Distance:
    """Return a distance on a frozen network, on the device.

    name: LPIPS_VGG, or weights of a backbone (a value of backbone.BACKBONES). pretrained: False = random weights, which
    need no file, for the time and memory that it takes. Raises ValueError for another name, and what weights.locate
    raises.
    """
    backbones = {weights_name: network for network, weights_name in BACKBONES.items()}
    backbone = choose("perceptual network", name, {**backbones, LPIPS_VGG: None})
    if backbone is not None:
        network = load_backbone(weights.locate(name).parent) if pretrained else _frozen(build_reader(backbone))
        return partial(perceptual_distance, network)
    network = LPIPS()
    if pretrained:
        network.load(weights.load_state_dict(VGG), weights.load_state_dict(LPIPS_VGG))
    return _frozen(network)


def _frozen(network: nn.Module) -> nn.Module:
    return placed(network.eval().requires_grad_(False), memory_format=torch.channels_last)


def checksums(name: str) -> dict[str, str]:
    """Return the SHA-256 of each file of weights behind a distance, by the names that nbutils.weights knows."""
    return {file: weights.checksum(file) for file in ((VGG, LPIPS_VGG) if name == LPIPS_VGG else (name,))}
