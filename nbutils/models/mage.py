"""MAGE (Li et al. 2023): a masked transformer on the codes of a VQGAN; network, and what training asks of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbutils.models import mage_layout
from nbutils.models.adapter import Adapters
from nbutils.models.transformer import all_places, new_block, run_block
from nbutils.models.vqgan import VQGAN, VQGANConfig


@dataclass(frozen=True)
class MageConfig:
    """Settings of the transformer; the defaults are those of the published ViT-B.

    grid: codes along a side of an image. num_classes: words kept for classes; the published network has those of
    ImageNet but always uses one, `class_word`, counted from the first of them. decoder_depth, decoder_heads: of the
    decoder's blocks, as wide as the encoder's.
    """

    grid: int = 16
    num_classes: int = 1000
    class_word: int = 76
    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_depth: int = 8
    decoder_heads: int = 16
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    vqgan: VQGANConfig = field(default_factory=VQGANConfig)

    @property
    def num_codes(self) -> int:
        """Codes of the tokenizer."""
        return self.vqgan.num_codes

    @property
    def length(self) -> int:
        """Codes of an image."""
        return self.grid**2

    @property
    def mask_word(self) -> int:
        """The word that stands for a hidden code; codes are words 0, 1, …, then come the classes."""
        return self.num_codes + self.num_classes


class TokenEmbedding(nn.Module):
    """Words and their places, added and normalised; place 0 is the class'."""

    def __init__(self, config: MageConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.mask_word + 1, config.width)
        self.position_embeddings = nn.Embedding(config.length + 1, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=1e-6)
        self.dropout = nn.Dropout(config.dropout)
        for table in (self.word_embeddings, self.position_embeddings):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, words: Tensor, places: Tensor) -> Tensor:
        summed = self.word_embeddings(words) + self.position_embeddings(places)
        return self.dropout(self.LayerNorm(summed))


class Predictor(nn.Module):
    """Features to words: one layer, then the table of words itself, through which no gradient flows back to it."""

    def __init__(self, config: MageConfig):
        super().__init__()
        self.fc, self.ln = nn.Linear(config.width, config.width), nn.LayerNorm(config.width)
        self.bias = nn.Parameter(torch.zeros(1, 1, config.mask_word + 1))
        self.num_codes = config.num_codes

    def forward(self, features: Tensor, table: Tensor) -> Tensor:
        """Return the logits (..., codes) of codes alone."""
        hidden = self.ln(F.gelu(self.fc(features)))
        return hidden @ table[: self.num_codes].detach().T + self.bias[0, 0, : self.num_codes]


class MAGE(nn.Module):
    """The transformer with its tokenizer, with parameters named as in the published file.

    Methods take codes (B, N) int64, some of which are config.mask_word. adapters: what is added to the blocks, for each
    image those of its class in `classes` (B,) int64; None = nothing.
    """

    def __init__(self, config: MageConfig):
        super().__init__()
        self.config = config
        block = (config.mlp_ratio, config.dropout)
        self.token_emb = TokenEmbedding(config)
        self.blocks = nn.ModuleList(new_block(config.width, config.heads, *block) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.decoder_embed = nn.Linear(config.width, config.width)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, config.length + 1, config.width))
        self.decoder_blocks = nn.ModuleList(
            new_block(config.width, config.decoder_heads, *block) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(config.width, eps=1e-6)
        self.mlm_layer = Predictor(config)
        self.vqgan = VQGAN(config.vqgan)

    def encode(self, images: Tensor) -> Tensor:
        """Return the codes (B, N) int64 of images (B, 3, H, W) float 0..1."""
        return self.vqgan.encode(images)

    def decode(self, token_ids: Tensor) -> Tensor:
        """Return images (B, 3, H, W) float, nominally 0..1, of codes (B, N)."""
        return self.vqgan.decode(token_ids)

    def logits(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, N, codes) for every place, as the published generation does: nothing is dropped."""
        features = self.encoded(token_ids)
        hidden = token_ids == self.config.mask_word
        return self.predicted(self.decoded(features, hidden))

    def encoded(
        self,
        token_ids: Tensor,
        kept: Tensor | None = None,
        adapters: Adapters | None = None,
        classes: Tensor | None = None,
        wanted: Tensor | None = None,
        class_words: Tensor | None = None,
    ) -> Tensor:
        """Return the encoder's features of the class slot (first) and of the codes.

        kept: places (B, K) int64 in 1..N that the encoder is given; None = all. wanted: those of the given rows whose
        features are needed (B, W), None = all of them. class_words: (B,) int64, counted from the first class word;
        None = the one that the published network always has.
        """
        batch, length = token_ids.shape
        own = token_ids.new_full((batch,), self.config.class_word) if class_words is None else class_words
        slot = (self.config.num_codes + own)[:, None]
        words, places = torch.cat([slot, token_ids], 1), all_places(batch, length + 1, token_ids.device)
        if kept is not None:
            places = torch.cat([places[:, :1], kept], 1)
            words = words.gather(1, places)
        x = self.token_emb(words, places)
        for number, block in enumerate(self.blocks):
            adapter = None if adapters is None else adapters.of("encoder", number, classes)
            x = run_block(block, x, adapter, wanted if number == len(self.blocks) - 1 else None)
        return self.norm(x)

    def decoded(
        self,
        features: Tensor,
        hidden: Tensor,
        kept: Tensor | None = None,
        adapters: Adapters | None = None,
        classes: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Return the decoder's features of the places `wanted` (B, W) in 0..N-1, None = of all N codes.

        features: of the class slot, then of the places `kept` (B, K) in 1..N, None = all. hidden: (B, N) bool. Where a
        code is hidden or was not kept stands the class slot's feature.
        """
        x = self.decoder_embed(features)
        slot = x[:, :1]
        canvas = slot.expand(-1, self.config.length + 1, -1)
        places = all_places(len(x), x.shape[1], x.device) if kept is None else F.pad(kept, (1, 0))
        canvas = canvas.scatter(1, places[..., None].expand(-1, -1, x.shape[-1]), x)
        canvas = torch.where(F.pad(hidden, (1, 0))[..., None], slot, canvas)
        x = canvas + self.decoder_pos_embed_learned
        last = all_places(len(x), self.config.length, x.device) if wanted is None else wanted
        for number, block in enumerate(self.decoder_blocks):
            adapter = None if adapters is None else adapters.of("decoder", number, classes)
            x = run_block(block, x, adapter, last + 1 if number == len(self.decoder_blocks) - 1 else None)
        return self.decoder_norm(x)

    def predicted(self, features: Tensor) -> Tensor:
        """Return logits (..., codes) of the decoder's features."""
        return self.mlm_layer(features, self.token_emb.word_embeddings.weight)


def from_official(state_dict: Mapping[str, Tensor]) -> MAGE:
    """Return the network of a published MAGE file's state dict (key `model`), in evaluation mode.

    Sizes are read from the shapes; every key must be there, those that the published network never reads included, and
    none else. Raises ValueError with all keys that are missing, left over or of another shape.
    """
    config = MageConfig(**mage_layout.sizes(state_dict), vqgan=mage_layout.tokenizer(state_dict))
    with torch.device("meta"):
        network = MAGE(config)
    mage_layout.check(state_dict, {name: tuple(value.shape) for name, value in network.state_dict().items()}, config)
    read = {name: state_dict[name].float() for name in network.state_dict()}
    network.load_state_dict(read, assign=True)
    return network.requires_grad_(True).eval()
