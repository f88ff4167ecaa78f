"""Embeddings of textual inversion: n vectors in place of one word, their files, and how the text encoder reads them.

They are kept as a matrix of our own, and handed to the text encoder as they are. The tokenizer is never touched: with
tokens added to it, a concept of many vectors cannot be unloaded, nor two of them be used in one prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from nbutils import weights
from nbutils.files import atomic
from nbutils.pipelines import encode_texts

ANY_TOKEN = 0  # stands where a vector will be put
A1111 = "string_to_param"


@dataclass(frozen=True)
class TokenEmbedding:
    """name: of the token. vectors: (n, dim) float32, what stands in the place of its word."""

    name: str
    vectors: Tensor


def load_embedding(path: str | Path) -> TokenEmbedding:
    """Read an embedding: ours (safetensors), what diffusers saves (safetensors, .bin), or AUTOMATIC1111's .pt.

    Nothing in the file is executed. Raises FileNotFoundError, and ValueError for a file that holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No embedding at {path}: a file .safetensors, .bin or .pt is needed.")
    name, vectors = _name_and_vectors(weights.read_safely(path), path)
    if not isinstance(vectors, Tensor) or vectors.ndim not in (1, 2) or not vectors.is_floating_point():
        raise ValueError(
            f"{path} must hold vectors (n, dim), found {getattr(vectors, 'shape', type(vectors).__name__)}."
        )
    return TokenEmbedding(str(name), torch.atleast_2d(vectors.detach()).float())


def _name_and_vectors(saved, path: Path):
    """Return the token and the vectors of a file's contents, whichever program wrote it."""
    if isinstance(saved, dict) and A1111 in saved:
        return saved.get("name") or path.stem, saved[A1111].get("*")
    if isinstance(saved, dict) and len(saved) == 1:
        return next(iter(saved.items()))
    found = ", ".join(map(str, saved)) if isinstance(saved, dict) else type(saved).__name__
    raise ValueError(f"{path} must hold one token with its vectors, or {A1111!r} (AUTOMATIC1111); found {found}.")


def save_embedding(embedding: TokenEmbedding, path: str | Path) -> None:
    """Write an embedding as float16: .safetensors, which diffusers reads, or .pt, which AUTOMATIC1111 and both read.

    Raises ValueError for another suffix.
    """
    path, vectors = Path(path), embedding.vectors.detach().half().contiguous().cpu()
    if path.suffix not in (".safetensors", ".pt"):
        raise ValueError(f"An embedding is written as .safetensors or .pt, found {path.name!r}.")
    with atomic(path) as temporary:
        if path.suffix == ".safetensors":
            save_file({embedding.name: vectors}, temporary)
        else:
            torch.save({"string_to_token": {"*": 265}, A1111: {"*": vectors}, "name": embedding.name}, temporary)


def most_vectors(tokenizer: CLIPTokenizer) -> int:
    """Return how many vectors fit between the start and the end of a text."""
    return tokenizer.model_max_length - 2


def initial_vectors(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, words: str, count: int, jitter: float, seed: int
) -> Tensor:
    """Return vectors (count, dim) float32 to start from: those of `words`, in turn, with noise on each.

    words: known to the tokenizer, "" = none, noise around the mean of all words. jitter: sd of the noise, in sds of the
    table of all words; without it copies of one word stay copies, because they get the same gradients but for their
    places. Raises ValueError if so many do not fit into a text.
    """
    most = most_vectors(tokenizer)
    if not 1 <= count <= most:
        raise ValueError(f"num_vectors must be 1..{most}: the text encoder takes {most + 2} tokens; found {count}.")
    table = text_encoder.get_input_embeddings().weight.detach().float().cpu()  # (words, dim)
    noise = torch.randn((count, table.shape[1]), generator=torch.Generator().manual_seed(seed)) * table.std(0)
    ids = tokenizer(words, add_special_tokens=False).input_ids
    if not ids:
        return table.mean(0) + noise
    return table[torch.tensor(ids)[torch.arange(count) % len(ids)]] + jitter * noise


def encode_vectors(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, concepts: Sequence[Tensor]) -> Tensor:
    """Return the text encoder's states (E, L, dim) of texts that are one concept each, vectors (n_e, dim) float.

    It is what the pipeline makes of a prompt that is the token alone; gradients flow to the vectors.
    """
    table = text_encoder.get_input_embeddings()
    (empty,) = tokenizer([""], padding="max_length", return_tensors="pt").input_ids  # start, end, padding
    ids = empty.repeat(len(concepts), 1)
    for row, vectors in zip(ids, concepts, strict=True):
        row[1:] = torch.cat([torch.full((len(vectors),), ANY_TOKEN), empty[1 : len(empty) - len(vectors)]])

    def put_vectors(module, inputs, words: Tensor) -> Tensor:
        rows = zip(concepts, words.unbind(0), strict=True)
        return torch.stack([torch.cat([row[:1], vectors, row[1 + len(vectors) :]]) for vectors, row in rows])

    hook = table.register_forward_hook(put_vectors)
    try:
        return text_encoder(ids.to(table.weight.device)).last_hidden_state
    finally:
        hook.remove()


def encode_nothing(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> Tensor:
    """Return the text encoder's states (L, dim) of the empty text, the condition of classifier-free guidance."""
    return encode_texts(tokenizer, text_encoder, [""])[0]
