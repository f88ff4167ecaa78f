"""A small CLIP-style tokenizer and text encoder, in the classes of transformers that Stable Diffusion uses."""

import string
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

MAX_TOKENS = 77
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """Return a byte-pair tokenizer that knows each of `words` as one token, and spells other words in pieces of them.

    A text becomes start, tokens, end, and as many ends as make 77 where padding is asked for, as in CLIP. Characters
    beyond ASCII become an end.
    """
    merges = _merges(words)
    characters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = [*characters, *(character + WORD_END for character in characters), *map("".join, merges), START, END]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the byte-pair merges that make each word one token, the most frequent pair first.

    The trainer of tokenizers breaks ties differently in every process; here the alphabet does.
    """
    spelled = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges = []
    while pairs := Counter(pair for word in spelled for pair in pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(word, best) for word in spelled]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of a pair in a word, from the left."""
    result: list[str] = []
    for piece in word:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result


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
