"""A small CLIP-style tokenizer and text encoder, in the classes of transformers that Stable Diffusion uses."""

import json
import string
from collections.abc import Sequence

from tokenizers.trainers import BpeTrainer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

MAX_TOKENS = 77
START, END = "<|startoftext|>", "<|endoftext|>"
COUNTED = 10  # how often a pair must occur to become one token: each known word comes as often


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """Return a byte-pair tokenizer that knows each of `words` as one token, and spells other words in pieces of them.

    A text becomes start, tokens, end, and as many ends as make 77 where padding is asked for, as in CLIP. Characters
    beyond ASCII become an end.
    """
    characters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pairs = [first + last for first in characters for last in characters]  # each may end a word, or not
    backend = CLIPTokenizer().backend_tokenizer
    trainer = BpeTrainer(vocab_size=100_000, min_frequency=COUNTED, end_of_word_suffix="</w>", show_progress=False)
    backend.train_from_iterator([*characters, *pairs, *(word for word in words for _ in range(COUNTED))], trainer)
    learned = json.loads(backend.to_str())["model"]
    vocab = learned["vocab"] | {START: len(learned["vocab"]), END: len(learned["vocab"]) + 1}
    return CLIPTokenizer(vocab=vocab, merges=[tuple(pair) for pair in learned["merges"]], model_max_length=MAX_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int) -> CLIPTextModel:
    """Return a CLIP text encoder for the tokenizer with random weights: 77 token ids -> 77 vectors of `width`."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)
