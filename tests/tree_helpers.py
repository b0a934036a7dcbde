"""Packed trees beside the same paths in rows of their own: what several tests of trees share."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.models.config import tiny
from critic_jax.tree import Path, pack

TILE = (16, 16, 3)
PATCHES = tiny().tower.patches

Rows = dict[str, np.ndarray]


def packed_row(
    paths: Sequence[Path], groups: Sequence[Sequence[int]], tokens: int, tiles: int
) -> Rows:
    """Everything in one row; `where` tells the row indices of each path."""
    row = pack(paths, groups, tokens, tiles, TILE, PATCHES)
    return {**row.arrays(), "where": row.path_index}


def separate_rows(paths: Sequence[Path], tokens: int = 128, tiles: int = 8) -> list[Rows]:
    """A row for each path; empty rows fill up to a multiple of 16, so that little is compiled."""
    rows = [pack([p], [[0]], tokens, tiles, TILE, PATCHES).arrays() for p in paths]
    return rows + [pack([], [], tokens, tiles, TILE, PATCHES).arrays()] * (-len(rows) % 16)


def as_batch(rows: Sequence[Rows]) -> dict[str, jax.Array]:
    """Rows as a batch of one record, so that a loss is the sum over them."""
    names = [n for n in rows[0] if n != "where"]
    batch = {n: jnp.asarray(np.stack([r[n] for r in rows])) for n in names}
    return batch | {"records": jnp.float32(1)}


def gradients_close(ours: dict, theirs: dict, tolerance: float) -> None:
    """Each tensor's error within `tolerance` of its norm."""
    total = float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(theirs))))
    for (name, a), b in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        # A tensor whose true gradient is zero (the tower's key bias) holds rounding only.
        floor = 1e-2 * tolerance * total
        error = float(jnp.linalg.norm(a - b))
        assert error <= tolerance * float(jnp.linalg.norm(b)) + floor, jax.tree_util.keystr(name)
