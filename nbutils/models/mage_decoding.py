"""Iterative decoding of MAGE (MaskGIT): from hidden codes to an image's, the surest first."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nbutils.models.adapter import Adapters
from nbutils.models.codes import draw_codes
from nbutils.models.mage import MAGE
from nbutils.models.transformer import places_where


def hidden_counts(length: int, num_steps: int) -> list[int]:
    """Return how many codes are still hidden after each step: a cosine, at least one, one fewer each step; last 0."""
    counts, unknown = [], length
    for step in range(1, num_steps):
        unknown = max(1, min(math.floor(length * math.cos(math.pi / 2 * step / num_steps)), unknown - 1))
        counts.append(unknown)
    return [*counts, 0]


def decode_iteratively(
    model: MAGE,
    seeds: Sequence[int],
    num_steps: int = 20,
    temperature: float = 6.0,
    adapters: Adapters | None = None,
    classes: Tensor | None = None,
    class_words: Tensor | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Draw the codes (B, N) int64 of images, image i from seeds[i] alone; classes, class_words: (B,) int64, see MAGE.

    watch: is shown the codes after each step, where hidden ones are config.mask_word; None = nobody watches.
    Each step draws the hidden codes from their distributions and keeps the surest: by log-probability plus Gumbel noise
    whose temperature falls to zero. Left out is what nothing depends on: the first step is computed once for all images
    of a class, the last encoder block runs at known places, the last decoder block and the predictor at hidden ones.
    Source: MAGE's published generation, with steps and temperature of its README.
    """
    config, device = model.config, model.decoder_pos_embed_learned.device
    tokens = torch.full((len(seeds), config.length), config.mask_word, device=device)
    told = {"adapters": adapters, "classes": classes, "class_words": class_words}
    random = [np.random.default_rng(seed) for seed in seeds]
    for step, still_hidden in enumerate(hidden_counts(config.length, num_steps)):
        hidden = tokens == config.mask_word
        places = places_where(hidden)  # (B, U): as many for every image
        log_p = _log_probabilities(model, tokens, hidden, places, told)
        uniform = np.stack([one.random((2, places.shape[1])) for one in random])
        uniform = torch.from_numpy(uniform).float().to(device)
        drawn, sureness = _draw(log_p, uniform[:, 0])
        falling = temperature * (1 - (step + 1) / num_steps)
        sureness = sureness - falling * (-uniform[:, 1].clamp(1e-20, 1 - 1e-7).log()).log()
        kept = sureness.argsort(1)[:, still_hidden:]  # the least sure are hidden again
        tokens = tokens.scatter(1, places.gather(1, kept), drawn.gather(1, kept))
        if watch is not None:
            watch(tokens)
    return tokens


def _log_probabilities(model: MAGE, tokens: Tensor, hidden: Tensor, places: Tensor, told: Mapping) -> Tensor:
    """Return the log-probabilities (B, U, codes) of the hidden codes at `places` (B, U)."""
    if not hidden.all():
        return _forward(model, tokens, hidden, places, told)
    alike = next((told[name] for name in ("classes", "class_words") if told[name] is not None), None)
    if alike is None:
        alike = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
    kinds, which = alike.unique(return_inverse=True)  # nothing is known: images of one class are all alike
    some = slice(0, len(kinds))
    own = {name: kinds if value is alike else value for name, value in told.items()}
    return _forward(model, tokens[some], hidden[some], places[some], own)[which]


def _forward(model: MAGE, tokens: Tensor, hidden: Tensor, places: Tensor, told: Mapping) -> Tensor:
    known = places_where(~hidden) + 1
    features = model.encoded(tokens, None, wanted=F.pad(known, (1, 0)), **told)  # the slot's place is 0
    told_decoder = {name: told[name] for name in ("adapters", "classes")}
    decoded = model.decoded(features, hidden, known, wanted=places, **told_decoder)
    return model.predicted(decoded).float().log_softmax(-1)


def _draw(log_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a code for each place by a uniform number (B, U); return it with its log-probability."""
    drawn = draw_codes(log_p, uniform)
    return drawn, log_p.gather(-1, drawn[..., None])[..., 0]
