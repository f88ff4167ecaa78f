"""Colours by their names: which there are, and how much they vary."""

import torch

from nbutils.corpus.draws import Draws

SHADES = ("dark", "medium", "light")

TABLE = {  # hue in turns, then saturation and value when dark, medium and light; None = no such colour
    "red": (0.00, (0.95, 0.42), (0.85, 0.88), None),
    "orange": (0.075, None, (0.88, 0.97), None),
    "yellow": (0.15, None, (0.85, 0.95), (0.38, 0.98)),
    "green": (0.34, (0.80, 0.34), (0.75, 0.72), (0.38, 0.92)),
    "cyan": (0.50, (0.85, 0.40), (0.80, 0.85), (0.35, 0.95)),
    "blue": (0.62, (0.85, 0.40), (0.80, 0.88), (0.38, 0.96)),
    "purple": (0.77, (0.75, 0.38), (0.68, 0.72), (0.32, 0.92)),
    "pink": (0.925, None, (0.42, 0.97), None),
    "brown": (0.07, None, (0.66, 0.46), None),
    "black": (0.0, None, (0.0, 0.05), None),
    "grey": (0.0, (0.0, 0.25), (0.0, 0.48), (0.0, 0.72)),
    "white": (0.0, None, (0.0, 0.96), None),
}
COLOURS = tuple(TABLE)
GREYS = ("black", "grey", "white")
IS_GREY = torch.tensor([name in GREYS for name in COLOURS])
HUE = torch.tensor([row[0] for row in TABLE.values()])
SATURATION_VALUE = torch.tensor([[pair or (-1.0, -1.0) for pair in row[1:]] for row in TABLE.values()])  # (C, 3, 2)
EXISTS = SATURATION_VALUE[..., 1] >= 0  # (C, 3)


def rgb(colour: torch.Tensor, shade: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return one colour per image, (B, 3) in 0..1, that varies a little about what its name says.

    colour, shade: (B,) int64, indices into COLOURS and SHADES.
    """
    vivid = (~IS_GREY[colour]).float()
    hue = HUE[colour] + draws.uniform("hue", -0.014, 0.014)
    saturation, value = SATURATION_VALUE[colour, shade].unbind(-1)
    saturation = (saturation + draws.uniform("saturation", -0.08, 0.08)) * vivid
    return from_hsv(hue, saturation.clamp(0, 1), (value + draws.uniform("value", -0.05, 0.05)).clamp(0, 1))


def typical(colour: torch.Tensor, shade: torch.Tensor) -> torch.Tensor:
    """Return the middle of what a name stands for, (*, 3) in 0..1."""
    saturation, value = SATURATION_VALUE[colour, shade].unbind(-1)
    return from_hsv(HUE[colour], saturation, value)


def from_hsv(hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Turn hue (in turns), saturation and value (0..1), all of one shape, into RGB in 0..1, in a new last dimension."""
    sector = (torch.tensor([5.0, 3.0, 1.0]) + 6 * hue[..., None]) % 6
    share = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * share)
