"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv 2006.06676): the "bgc" pipeline and its feedback."""

from math import pi, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
"""Low-pass filter of the sym6 wavelet; orthonormal, so that doubling and halving without a warp changes nothing."""

SYM6_SHIFT = (5.5 - sum(i * tap for i, tap in enumerate(SYM6)) / sum(SYM6)) / 2
"""By how many pixels the doubled image lies off centre, because the filter's centre of mass is not its middle."""


class AdaptiveProbability:
    """The augmentation probability p, driven by how often the discriminator is sure of real images (section 3.1).

    r_t = E[sign(D(real))] is averaged over `interval` steps; above `target` p rises, below it falls, at the rate
    that takes it from 0 to 1 in speed_kimg thousand real images.
    """

    def __init__(self, target: float = 0.6, speed_kimg: float = 500.0, interval: int = 4):
        self.target, self.speed_kimg, self.interval = target, speed_kimg, interval
        self.p, self._sum, self._count, self._steps = 0.0, 0.0, 0, 0

    def update(self, real_logits: Tensor) -> None:
        """Take in the logits (B,) of the real images of one step; every `interval` steps adjust p."""
        self._sum += float(real_logits.sign().sum())
        self._count += len(real_logits)
        self._steps += 1
        if self._steps == self.interval:
            change = self._count / (self.speed_kimg * 1000)
            rises = self._sum / self._count > self.target
            self.p = min(1.0, max(0.0, self.p + (change if rises else -change)))
            self._sum, self._count, self._steps = 0.0, 0, 0

    def state_dict(self) -> dict[str, float]:
        """Return p and the running sums."""
        return {"p": self.p, "sum": self._sum, "count": self._count, "steps": self._steps}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take back what state_dict returned."""
        self.p, self._sum, self._count, self._steps = (state[name] for name in ("p", "sum", "count", "steps"))


def augment(images: Tensor, p: float) -> Tensor:
    """Return images (B, C, H, W) float32 -1..1, each under its own random transforms, each of them with probability p.

    All parameters are drawn on the CPU from the global random state. Differentiable, twice as well, in the images.
    """
    if p == 0:
        return images
    with torch.autocast(images.device.type, enabled=False):
        geometry = sample_geometry(len(images), p, images.shape[-1])
        return recolour(warp(images, geometry), sample_colour(len(images), p, hue=images.shape[1] == 3))


def _either(p: float, values: Tensor, neutral: float) -> Tensor:
    """Keep each of values (N,) with probability p, and put `neutral` in place of the others."""
    return torch.where(torch.rand(len(values)) < p, values, neutral)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))  # (N, 3, 3)


def _rotation(angle: Tensor) -> Tensor:
    matrix = _scaling(angle.cos(), angle.cos())
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin(), angle.sin()
    return matrix


def _translation(x: Tensor, y: Tensor) -> Tensor:
    matrix = torch.eye(3).repeat(len(x), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def sample_geometry(count: int, p: float, image_size: int) -> Tensor:
    """Draw `count` matrices (N, 3, 3) that move pixels, (x, y, 1) from the centre; appendix B, its strengths.

    In order: mirroring, quarter turns, integer translation; isotropic scale, rotation, anisotropic scale, rotation,
    fractional translation. The two rotations together have probability p.
    """
    one = torch.ones(count)
    turn = 1 - sqrt(1 - p)
    steps = [_scaling(_either(p, 1 - 2 * torch.randint(2, (count,)).float(), 1.0), one)]
    steps.append(_rotation(_either(p, torch.randint(4, (count,)) * (pi / 2), 0.0)))
    shift = torch.rand(count, 2) * 0.25 - 0.125
    moved = (torch.rand(count) < p).float()
    steps.append(_translation(*((shift * image_size).round() * moved[:, None]).T))
    scale = _either(p, torch.exp2(0.2 * torch.randn(count)), 1.0)
    steps.append(_scaling(scale, scale))
    steps.append(_rotation(_either(turn, (torch.rand(count) * 2 - 1) * pi, 0.0)))
    stretch = _either(p, torch.exp2(0.2 * torch.randn(count)), 1.0)
    steps.append(_scaling(stretch, 1 / stretch))
    steps.append(_rotation(_either(turn, (torch.rand(count) * 2 - 1) * pi, 0.0)))
    moved = (torch.rand(count) < p).float()
    steps.append(_translation(*(torch.randn(count, 2) * 0.125 * image_size * moved[:, None]).T))
    matrix = steps[0]
    for step in steps[1:]:
        matrix = step @ matrix
    return matrix


def sample_colour(count: int, p: float, hue: bool) -> Tensor:
    """Draw `count` matrices (N, 4, 4) on colours (r, g, b, 1), r, g, b in -1..1; appendix B, its strengths.

    In order: brightness, contrast, luma flip, and with `hue` also hue rotation and saturation, which leave grey as is.
    """
    luma = torch.tensor([1.0, 1.0, 1.0, 0.0]) / sqrt(3)
    along = torch.outer(luma, luma)  # projects a colour on the grey axis
    identity = torch.eye(4)
    brightness = identity.repeat(count, 1, 1)
    brightness[:, :3, 3] = _either(p, 0.2 * torch.randn(count), 0.0)[:, None]
    contrast = _either(p, torch.exp2(0.5 * torch.randn(count)), 1.0)[:, None]
    matrix = torch.diag_embed(torch.cat([contrast.expand(-1, 3), torch.ones(count, 1)], dim=1)) @ brightness
    flip = _either(p, torch.randint(2, (count,)).float(), 0.0)[:, None, None]
    matrix = (identity - 2 * along * flip) @ matrix
    if not hue:
        return matrix
    angle = _either(p, (torch.rand(count) * 2 - 1) * pi, 0.0)
    matrix = _rotation_about(luma[:3], angle) @ matrix
    saturation = _either(p, torch.exp2(torch.randn(count)), 1.0)[:, None, None]
    return (along + (identity - along) * torch.where(identity[3] == 1, 1.0, saturation)) @ matrix


def _rotation_about(axis: Tensor, angle: Tensor) -> Tensor:
    """Return matrices (N, 4, 4) that turn colours about a unit axis (3,) by angles (N,), Rodrigues' formula."""
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    matrix = torch.eye(4).repeat(len(angle), 1, 1)
    matrix[:, :3, :3] = cosine * torch.eye(3) + sine * cross + (1 - cosine) * torch.outer(axis, axis)
    return matrix


def recolour(images: Tensor, colour: Tensor) -> Tensor:
    """Apply colour matrices (B, 4, 4) to images (B, C, H, W), C = 3, or C = 1 as grey."""
    colour = colour[:, :3].to(images.device)  # (B, 3, 4)
    if images.shape[1] == 1:
        scale, shift = colour[:, :, :3].sum(dim=2).mean(dim=1), colour[:, :, 3].mean(dim=1)
        return images * scale[:, None, None, None] + shift[:, None, None, None]
    return torch.einsum("bij,bjhw->bihw", colour[:, :, :3], images) + colour[:, :, 3, None, None]


def warp(images: Tensor, geometry: Tensor) -> Tensor:
    """Move the pixels of images (B, C, S, S) by matrices (B, 3, 3) on the CPU, mirrored beyond the borders.

    Doubled with the sym6 filter, sampled bilinearly, halved with the same filter. Images under the identity, which
    that would not change, are passed by.
    """
    moved = (geometry - torch.eye(3)).abs().amax(dim=(1, 2)) > 0
    if not moved.any():
        return images
    rows = moved.nonzero()[:, 0].to(images.device)
    return images.index_copy(0, rows, _warp(images[rows], torch.linalg.inv(geometry[moved])))


def _warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Do the work of `warp`, with matrices (B, 3, 3) from output to input pixels."""
    size, reach = images.shape[-1], len(SYM6) // 4
    shift = torch.full((1,), SYM6_SHIFT)
    inverse = _translation(-shift, -shift) @ inverse @ _translation(shift, shift)
    half_out = size / 2 + reach - 0.5  # of the sampled area, which the halving filter cuts down to the image
    corners = torch.tensor([[x, y, 1.0] for x in (-half_out, half_out) for y in (-half_out, half_out)]).T  # (3, 4)
    furthest = float((inverse @ corners)[:, :2].abs().max())
    margin = min(size - 1, max(0, int(furthest - size / 2) + reach + 2))
    doubled = _double(F.pad(images, [margin] * 4, mode="reflect"))
    theta = inverse[:, :2].clone()
    theta[:, :, :2] *= half_out
    theta = (theta / (size / 2 + margin)).to(images.device)
    sides = (len(images), images.shape[1], int(4 * half_out), int(4 * half_out))
    return _halve(_GridSample.apply(doubled, F.affine_grid(theta, sides, align_corners=False)))


def _taps(like: Tensor, gain: float) -> tuple[Tensor, int]:
    """Return the sym6 filter as a kernel (B * C, 1, 1, 12) for all maps of `like` (B, C, H, W), and B * C."""
    maps = like.shape[0] * like.shape[1]
    return (like.new_tensor(SYM6) * gain).expand(maps, 1, 1, -1), maps


def _double(x: Tensor) -> Tensor:
    """Double the size of (B, C, H, W): zeros in between, then the wavelet's low-pass filter, along each axis."""
    kernel, maps = _taps(x, sqrt(2))
    for _ in range(2):  # along rows, then, transposed, along columns
        x = torch.stack([x, torch.zeros_like(x)], dim=-1).flatten(3)  # (B, C, H, 2W)
        filtered = F.conv2d(x.flatten(0, 1)[None], kernel.flip(3), padding=(0, 6), groups=maps)
        x = filtered[0, :, :, :-1].unflatten(0, x.shape[:2]).transpose(2, 3)
    return x


def _halve(x: Tensor) -> Tensor:
    """Filter (B, C, H, W) with the wavelet's low-pass filter and keep every second value: (B, C, H/2 - 5, W/2 - 5)."""
    kernel, maps = _taps(x, 1 / sqrt(2))
    for _ in range(2):
        filtered = F.conv2d(x.flatten(0, 1)[None], kernel, stride=(1, 2), groups=maps)
        x = filtered[0].unflatten(0, x.shape[:2]).transpose(2, 3)
    return x


class _GridSample(torch.autograd.Function):
    """Bilinear sampling, zeros outside, differentiable any number of times in its input (the library's only once).

    Sampling is linear in the input, so the gradient of the gradient is sampling again.
    """

    @staticmethod
    def forward(ctx, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _GridSampleBackward.apply(gradient, ctx.saved_tensors[0], ctx.shape), None


class _GridSampleBackward(torch.autograd.Function):
    """The transpose of _GridSample: spread gradients over the input's pixels."""

    @staticmethod
    def forward(ctx, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        unused = gradient.new_zeros(shape)
        bilinear, zeros, align_corners, wanted = 0, 0, False, [True, False]
        operation = torch.ops.aten.grid_sampler_2d_backward
        return operation(gradient.contiguous(), unused, grid, bilinear, zeros, align_corners, wanted)[0]

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _GridSample.apply(gradient, ctx.saved_tensors[0]), None, None
