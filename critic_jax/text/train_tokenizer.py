"""A small tokenizer of one's own, for critics that are trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE

from critic_jax.errors import InputError
from critic_jax.text.tokenizer import ChatTokenizer
from critic_jax.text.tokenizer_files import added_tokens, qwen2_bpe
from critic_jax.text.turns import MARKER

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", MARKER)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> ChatTokenizer:
    """Learn a byte-level BPE from texts, cut as Qwen2 cuts them.

    vocab_size counts everything: 256 bytes, the merges, and `CONTROL_TOKENS`, which take the last
    four ids. Fewer merges are learned when the texts offer no more. The same texts give the same
    tokenizer, in the same order or not. Raises InputError for a vocab_size under 260.
    """
    smallest = 256 + len(CONTROL_TOKENS)
    if vocab_size < smallest:
        raise InputError(f"vocab_size is {vocab_size}; bytes and control tokens need {smallest}")
    bare = qwen2_bpe(BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bare.train_from_iterator(texts, trainer)
    full = Tokenizer.from_str(bare.to_str())
    full.add_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL_TOKENS])
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "model_max_length": 32768,
    }
    files = {
        "tokenizer.json": full.to_str(pretty=True).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2).encode(),
    }
    return ChatTokenizer(bare, added_tokens(files, "trained tokenizer"), files)
