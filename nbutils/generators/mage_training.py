"""Training MAGE on codes: the whole network, or adapters and a class-token quantiser on a frozen one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.models.adapter import Adapters, ClassTokenQuantizer
from nbutils.models.mage import MAGE
from nbutils.models.mage_loss import draw_masking, draw_share, reconstruction_loss
from nbutils.models.transformer import places_where
from nbutils.seeds import derive_seed
from nbutils.training import BatchOrder, Method, autocast, device

GRADIENT_CLIP = 3.0
"""Largest length of all gradients together, as in MAGE's published training."""


class Additions(nn.Module):
    """What is trained beside a frozen network: adapters, and where the loss has it the quantiser of the class token."""

    def __init__(self, adapters: Adapters, quantizer: ClassTokenQuantizer | None):
        super().__init__()
        self.adapters, self.quantizer = adapters, quantizer


class MageMethod(Method):
    """The training step on codes.

    network: the transformer; frozen where there are additions, so without dropout, else trained. optimizer: of what is
    trained.
    quantisation_weight: of Eq. 7 in Eq. 8. replace_class_token: let the decoder see the code in place of the class
    feature, which the equations do not do. revived_after: steps after which an unused code of the quantiser is
    replaced. class_words: whether classes are told to the network by the word of the class slot.
    """

    def __init__(
        self,
        network: MAGE,
        additions: Additions | None,
        optimizer: torch.optim.Optimizer,
        *,
        quantisation_weight: float = 1.0,
        replace_class_token: bool = False,
        revived_after: int = 50,
        class_words: bool = False,
        ema_decay: float | None = None,
    ):
        averaged = {} if ema_decay is None else {"generator": ema_decay}
        super().__init__({"generator": additions or network}, {"generator": optimizer}, averaged)
        self.network, self.additions = network, additions
        self.quantisation_weight, self.replace_class_token = quantisation_weight, replace_class_token
        self.revived_after, self.class_words = revived_after, class_words

    def step(self, step: int, codes: Tensor, hidden: Tensor, kept: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Do one step on codes (B, N) int64, see mage_loss.Masking for `hidden` and `kept`, and classes (B,) int64."""
        network, optimizer = self.network.train(self.additions is None), self.optimizers["generator"]
        with autocast():
            scalars = self._losses(network, codes, hidden, kept, classes)
        optimizer.zero_grad(set_to_none=True)
        scalars["loss"].backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
        optimizer.step()
        return {name: value.detach() for name, value in scalars.items()}

    def _losses(self, network: MAGE, codes: Tensor, hidden: Tensor, kept: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Return the parts of Eq. 8; each class gets the gradient of its own mean, as it would alone."""
        adapters = None if self.additions is None else self.additions.adapters
        words = classes if self.class_words else None
        shown = codes.masked_fill(hidden, network.config.mask_word)
        # The decoder reads the class slot and the known codes alone: the last encoder block runs at their rows.
        rows = places_where(~hidden.gather(1, kept - 1))  # (B, N - H) of `kept`
        known = kept.gather(1, rows)
        features = network.encoded(shown, kept, adapters, classes, F.pad(rows + 1, (1, 0)), words)
        places = places_where(hidden)  # (B, H)
        quantizer = None if self.additions is None else self.additions.quantizer
        scalars = {}
        if quantizer is not None:
            slot = features[:, 0]
            scalars["loss_quantisation"] = quantizer.loss(slot, classes)
            quantizer.revive(slot.detach(), classes, self.revived_after)
            if self.replace_class_token:
                features = torch.cat([quantizer.replaced(slot, classes)[:, None], features[:, 1:]], 1)
        decoded = network.decoded(features, hidden, known, adapters, classes, wanted=places)
        logits = network.predicted(decoded).flatten(0, 1)
        scalars["loss_reconstruction"] = reconstruction_loss(logits, codes.gather(1, places).flatten())
        loss = scalars["loss_reconstruction"]
        if quantizer is not None:
            loss = loss + self.quantisation_weight * scalars["loss_quantisation"]
        # Means over all classes' images, times the number of classes: the mean of each, added up.
        together = 1 if self.additions is None else adapters.num_classes
        return {"loss": together * loss, **scalars}


def code_batches(
    classes: Sequence[Tensor], batch_size: int, seeds: Sequence[int]
) -> Callable[[int], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return a function from step to codes (B, N), hidden (B, N), kept (B, K) and classes (B,), class after class.

    classes: codes (V, N_c, N) int64 of each class' images in V views, each of which is taken as often. batch_size: of
    each class. The rows of a class depend on its images and seed alone; the share of hidden codes is one for all.
    """
    orders = [BatchOrder(codes.shape[1], batch_size, seed) for codes, seed in zip(classes, seeds, strict=True)]

    def batch(step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        share, rows = draw_share(torch.Generator().manual_seed(derive_seed(0, "share", step))), []
        for label, (codes, order, seed) in enumerate(zip(classes, orders, seeds, strict=True)):
            generator = torch.Generator().manual_seed(derive_seed(seed, "masking", step))
            side = torch.randint(0, len(codes), (batch_size,), generator=generator)
            masking = draw_masking(batch_size, codes.shape[2], share, generator)
            chosen = codes[side, torch.as_tensor(order.indices(step))]
            rows.append((chosen, masking.hidden, masking.kept, torch.full((batch_size,), label)))
        return tuple(torch.cat(parts).to(device()) for parts in zip(*rows, strict=True))

    return batch
