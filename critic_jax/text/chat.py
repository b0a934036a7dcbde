"""ChatML: turns to the ids that a model is fed, and which of them it learns to say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from critic_jax.errors import InputError
from critic_jax.text.tokenizer import ChatTokenizer
from critic_jax.text.turns import ImagePart, Turn

LabelRule = Literal["answer", "upstream-sft", "upstream-dpo"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A conversation as S tokens.

    tokens: int32 [S]; every position of a picture holds `ChatTokenizer.image`.
    supervised: bool [S]; token i counts in the loss as a target. Token 0 can never be one in
        practice, since nothing stands before it to predict it from.
    """

    tokens: np.ndarray
    supervised: np.ndarray


def encode_chat(
    tokenizer: ChatTokenizer,
    turns: Sequence[Turn],
    visual_lengths: Sequence[int],
    labels: LabelRule = "answer",
    generation_prompt: bool = False,
) -> Encoded:
    """Encode turns as `<|im_start|>role\\ncontent<|im_end|>\\n`.

    The k-th IMAGE becomes `visual_lengths[k]` positions. Between two control tokens or pictures the
    text is encoded as one string, role and newline included, because that is how upstream's chat
    template is tokenised: an answer that begins with a newline shares a token with the header.
    generation_prompt: append the header of an assistant turn, for the model to go on from.

    The label rules; positions of pictures are never supervised:

    - "answer": the answers and their `<|im_end|>`. A token shared with the header is not.
    - "upstream-sft" (LLaVA-NeXT llava/train/train.py, preprocess_qwen): assistant turns whole, from
      the start mark to the newline behind; and wherever else they stand, each `<|im_start|>`,
      `<|im_end|>` and single-newline token, those inside questions included.
    - "upstream-dpo" (llava/train/train_dpo.py, a rule of its own): of every turn the start mark,
      and `<|im_end|>` with the newline behind it; of assistant turns also the answer.

    Raises InputError when the number of IMAGE parts is not that of `visual_lengths`.
    """
    places = sum(isinstance(part, ImagePart) for turn in turns for part in turn.parts)
    if places != len(visual_lengths):
        raise InputError(f"{places} places of pictures and {len(visual_lengths)} pictures")
    lengths = iter(visual_lengths)
    tokens: list[int] = []
    supervised: list[bool] = []
    for turn in turns:
        ids, answer = _content(tokenizer, turn, lengths)
        whole = [tokenizer.im_start, *ids, tokenizer.im_end, tokenizer.newline]
        tokens += whole
        if labels == "answer":
            says = turn.role == "assistant"
            supervised += [False, *(says and each for each in answer), says, False]
        elif labels == "upstream-sft":
            marks = (tokenizer.im_start, tokenizer.im_end, tokenizer.newline)
            says = turn.role == "assistant"
            supervised += [(says and id != tokenizer.image) or id in marks for id in whole]
        else:
            says = turn.role == "assistant"
            supervised += [True, *(says and each for each in answer), True, True]
    if generation_prompt:
        header = [tokenizer.im_start, *tokenizer.encode("assistant\n")]
        tokens += header
        supervised += [False] * len(header)
    return Encoded(np.array(tokens, np.int32), np.array(supervised, bool))


def _content(
    tokenizer: ChatTokenizer, turn: Turn, lengths: Iterator[int]
) -> tuple[list[int], list[bool]]:
    """The ids between a turn's two marks, and for each whether it is content through and through.

    Not content are the header, a token that the header shares, and the positions of pictures.
    """
    header = turn.role + "\n"
    ids: list[int] = []
    content: list[bool] = []
    text, skip = header, len(header)
    for part in (*turn.parts, None):
        if isinstance(part, str):
            text += part
            continue
        if text:
            piece, starts = tokenizer.encode_with_starts(text)
            ids += piece
            content += [start >= skip for start in starts]
            text, skip = "", 0
        if part is not None:
            length = next(lengths)
            ids += [tokenizer.image] * length
            content += [False] * length
    return ids, content
