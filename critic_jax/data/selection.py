"""Which records of which imports a run trains on, and what is held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

import numpy as np

from critic_jax.errors import InputError


@dataclass(frozen=True)
class Part:
    """Some records of one import.

    Attributes:
        path: the import's folder.
        weight: how often a record comes in an epoch, on average; 0.5 takes another half of the
            pictures in each, 2 takes every record twice.
        configs, sources, kinds: patterns such as "pair*" of what to keep; () keeps all.
        scores: the least and the largest score to keep, on the score's own scale; records without
            one are left out.
        sample: keep as many records, drawn by the run's seed. The paper's v0.5 set is
            `Part(path, configs=("pointwise",), sample=42_000)` with
            `Part(path, configs=("pairwise",), sample=11_000)`.
    """

    path: str
    weight: float = 1.0
    configs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None
    sample: int | None = None


def kept_records(part: Part, index: Any, seed: int) -> np.ndarray:
    """bool [N]: which records of an index (a pyarrow table) the part keeps.

    Raises InputError that says what there is, where nothing is kept or a sample is too large.
    """
    if not part.weight > 0:
        raise InputError(f"{part.path}: weight {part.weight}; it should be above 0")
    keep = np.ones(index.num_rows, bool)
    for column, patterns in (
        ("config", part.configs),
        ("source", part.sources),
        ("kind", part.kinds),
    ):
        if not patterns:
            continue
        values = index[column].to_pylist()
        fits = {v: any(fnmatchcase(v, pattern) for pattern in patterns) for v in set(values)}
        keep &= np.array([fits[v] for v in values], bool)
        if not keep.any():
            known = ", ".join(sorted(repr(v) for v in fits))
            raise InputError(
                f"{part.path}: no record is left by {column} {patterns}; it has {known}"
            )
    if part.scores is not None:
        scores = index["score"].to_numpy(zero_copy_only=False)
        low, high = part.scores
        keep &= (scores >= low) & (scores <= high)
        if not keep.any():
            raise InputError(f"{part.path}: no record has a score from {low:g} to {high:g}")
    if part.sample is not None:
        there = np.flatnonzero(keep)
        if not 0 < part.sample <= len(there):
            raise InputError(
                f"{part.path}: a sample of {part.sample} of {len(there)} records; "
                f"give 1 to {len(there)}"
            )
        keep[:] = False
        # One stream for a part, whatever other parts there are.
        named = int.from_bytes(
            sha256(repr(part.configs + part.sources + part.kinds).encode()).digest()[:4]
        )
        keep[np.random.default_rng([seed, named]).choice(there, part.sample, replace=False)] = True
    return keep


def held_out(hashes: Sequence[Sequence[str]], ids: Sequence[str], share: float) -> np.ndarray:
    """bool [N]: the records held out for validation, about `share` of the pictures.

    hashes: of each record's pictures. The choice depends on the picture's content alone, so it is
    the same in every run and for a picture that several imports have. Pictures that stand in one
    record fall on one side together. Records without a picture go by their id.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = leader[above]
            name = above
        return name

    for names in hashes:
        for name in names[1:]:
            first, other = sorted((find(names[0]), find(name)))
            leader[other] = first
    limit = round(share * 2**32)

    def side(names: Sequence[str], name: str) -> bool:
        key = find(names[0]) if names else sha256(name.encode()).hexdigest()
        return int(key[:8], 16) < limit

    return np.array([side(h, n) for h, n in zip(hashes, ids, strict=True)], bool)
