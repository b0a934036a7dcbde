"""The states that a run goes on from: written in the background, tried before they are trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.checkpoints.arrays import first_line, read_tree
from critic_jax.files import told_if_full
from critic_jax.hosts import all_agree, is_first, wait_for_all
from critic_jax.remote import url_of
from critic_jax.training.sft import TrainState

METADATA = "_CHECKPOINT_METADATA"
"""The file of a state in which Orbax keeps what was noted beside the arrays."""

_UINTS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


@dataclass(frozen=True)
class Found:
    """A state that was read back whole, and what was noted beside it."""

    state: TrainState
    notes: Mapping[str, Any]


class States:
    """The newest `keep` states below a folder, a folder a step, each there whole or not at all.

    A context: on leaving it, what is still being written is finished. On several processes all
    take part in every call, and the folder is one that they share: of a disk, or behind a URL.
    """

    def __init__(self, folder: Path | epath.Path, keep: int) -> None:
        self._folder, self._keep = epath.Path(folder), keep
        self._writer: ocp.training.Checkpointer | None = None
        self.newest: int | None = None

    def __enter__(self) -> States:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            with told_if_full(self._folder):
                self._writer.close()

    def any(self) -> bool:
        """Whether there is a state, sound or not."""
        return bool(self._steps())

    def load(self, shaped: TrainState) -> Found | None:
        """The newest state that is sound, laid out as `shaped`; None where there is none.

        One that cannot be read, or holds other numbers than were written, is warned of and moved
        to the folder `damaged` beside this one.
        """
        for step in sorted(self._steps(), reverse=True):
            found, said = self._read(step, shaped)
            if all_agree(found is not None):
                self.newest = step
                return found
            self._set_aside(step, said)
        return None

    def save(self, step: int, state: TrainState, notes: Mapping[str, Any]) -> None:
        """Write the state of a step; the arrays may be given away as soon as this returns.

        Waits for the state before to be on disk. Raises WorkError where there is no room.
        """
        if step == self.newest:
            return
        # Opened only now: it trusts what it finds.
        if self._writer is None:
            self._clear()
            keep = ocp.training.preservation_policies.LatestN(self._keep)
            self._writer = ocp.training.Checkpointer(
                self._folder, preservation_policy=keep, cleanup_tmp_directories=True
            )
        with told_if_full(self._folder):
            self._writer.wait()
            noted = {**notes, "sums": bit_sums(state)}
            self._writer.save_async(step, state, force=True, custom_metadata=noted)
        self.newest = step

    def _clear(self) -> None:
        """Remove what a kill left half removed: Orbax would warn of it at every start."""
        if is_first() and self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name.isdecimal() and not (path / METADATA).exists():
                    path.rmtree()
        wait_for_all("states cleared")

    def _steps(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return [int(path.name) for path in self._folder.iterdir() if self._whole(path)]

    def _whole(self, path: Path | epath.Path) -> bool:
        """A folder of a disk gets its name when all is in it; a store has no such names, so there
        Orbax writes one more file, the last.
        """
        if not path.name.isdecimal():
            return False
        return url_of(path) is None or (path / "commit_success.txt").exists()

    def _read(self, step: int, shaped: TrainState) -> tuple[Found | None, str]:
        """(what was found, or why there is nothing)

        Not by Orbax: where one process fails, its others wait for it, and it reports every array.
        """
        path, said = self._folder / str(step), "another process could not read it"
        state: TrainState | None = None
        try:
            notes = json.loads((path / METADATA).read_text())["custom_metadata"]
            state = read_tree(path, shaped)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            said = first_line(error)
        if not all_agree(state is not None) or state is None:
            return None, said
        if notes["sums"] != bit_sums(state):
            return None, "its numbers are not those that were written"
        return Found(state, notes), ""

    def _set_aside(self, step: int, said: str) -> None:
        path, aside = self._folder / str(step), self._folder.parent / "damaged"
        if is_first():
            aside.mkdir(parents=True, exist_ok=True)
            target, number = aside / f"{self._folder.name}-{step}", 1
            while target.exists():
                number += 1
                target = aside / f"{self._folder.name}-{step}-{number}"
            print(
                f"critic-jax: warning: {path}: damaged ({said}); moved to {target}, "
                "the one before it is used",
                file=sys.stderr,
            )
            # Of a store also what makes the folder be there.
            (aside / f"{target.name}.txt").write_text(said + "\n")
            path.rename(target)
        wait_for_all(f"state {step} set aside")


def finite(state: TrainState) -> bool:
    """Whether every number of a state is."""
    return bool(_all_finite([v for v in jax.tree.leaves(state) if v.dtype.kind in "fV"]))


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def bit_sums(state: TrainState) -> list[int]:
    """A sum of the bits of each array, modulo 2^32, worked out where the arrays lie."""
    leaves = jax.tree.leaves(state)
    if not leaves:
        return []
    sharding = leaves[0].sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    whole = NamedSharding(mesh, PartitionSpec()) if mesh is not None else None
    return np.asarray(jax.jit(_added, out_shardings=whole)(leaves)).tolist()


def _added(leaves: list[jax.Array]) -> jax.Array:
    def of(leaf: jax.Array) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            leaf = jax.lax.bitcast_convert_type(leaf, _UINTS[leaf.dtype.itemsize])
        return jnp.sum(leaf.astype(jnp.uint32), dtype=jnp.uint32)

    return jnp.stack([of(leaf) for leaf in leaves])
