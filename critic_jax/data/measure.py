"""The text lengths of an import under a tokenizer: read where they are known, counted where not."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from critic_jax.data.corpus import Corpus, lengths_file
from critic_jax.data.lengths import Lengths, group_lengths, joined, text_key
from critic_jax.errors import InputError
from critic_jax.pool import Pool
from critic_jax.text import ChatTokenizer

_STEP = 2000  # records of one task, about


def corpus_lengths(corpus: Corpus, tokenizer: ChatTokenizer, workers: int) -> Lengths:
    """The lengths of all records of an import.

    An import without lengths for this tokenizer is read through once, and they are put beside it
    for the next time, where that can be written. Raises InputError for a damaged file of lengths.
    """
    path = corpus.folder / lengths_file(tokenizer)
    if path.exists():
        return _load(path, len(corpus))
    cuts = _cuts(corpus)
    tasks = [(corpus.folder, tokenizer, a, b) for a, b in pairwise(cuts)]
    with Pool(workers) as pool:
        found = joined(list(pool.run("counting tokens", count_lengths, tasks)))
    part = path.with_name(f".{path.stem}.part.npz")
    with contextlib.suppress(OSError):  # a read-only import is counted each time
        np.savez(part, **vars(found))
        part.replace(path)
    return found


def count_lengths(folder: Path, tokenizer: ChatTokenizer, first: int, stop: int) -> Lengths:
    """Lengths of records [first, stop), which must begin and end between pictures."""
    corpus = Corpus(folder)
    groups: list[list[np.ndarray]] = []
    before: list[int] | None = None
    for number in range(first, stop):
        stored = corpus.example(number)
        pictures = [int(p) for p in stored["pictures"]]
        turns = stored["conversations"]
        said = [
            {"from": speaker.decode(), "value": value.decode()}
            for speaker, value in zip(turns["from"], turns["value"], strict=True)
        ]
        if not pictures or pictures != before:
            groups.append([])
        groups[-1].append(text_key(said, len(pictures), tokenizer))
        before = pictures
    return joined([group_lengths(keys) for keys in groups])


def _load(path: Path, records: int) -> Lengths:
    try:
        with np.load(path) as arrays:
            found = Lengths(**arrays)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it") from None
    if len(found.tokens) != records:
        raise InputError(f"{path}: {len(found.tokens)} lengths for {records} records; remove it")
    return found


def _cuts(corpus: Corpus) -> list[int]:
    """Record numbers from 0 to the end, about `_STEP` apart, at which a picture's records begin."""
    pictures = corpus.index["pictures"].to_pylist()
    cuts = [0]
    for number in range(1, len(pictures)):
        starts = not pictures[number] or pictures[number] != pictures[number - 1]
        if starts and number - cuts[-1] >= _STEP:
            cuts.append(number)
    return [*cuts, len(pictures)]
