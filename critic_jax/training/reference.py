"""What a reference model says of pairs: found once, before training, and kept with them.

The run's folder holds the pairs again in `pairs.jsonl`, each with its `reference_logprobs`. Lines
are added as they are found, so that a pass that was stopped goes on; when all are there, they are
put into the order of the data.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from critic_jax.checkpoints import Checkpoint, written_fingerprint
from critic_jax.checkpoints.store import find_model
from critic_jax.data.json_lines import scan_json_lines
from critic_jax.data.pair_rows import PairRows
from critic_jax.data.pairs import Pair, Reference, make_pair, with_reference
from critic_jax.errors import InputError, Stopped
from critic_jax.files import told_if_full, write_json_lines
from critic_jax.hosts import is_first, wait_for_all
from critic_jax.models.build import Params
from critic_jax.progress import progress
from critic_jax.training.config import DpoConfig
from critic_jax.training.dpo import make_reference
from critic_jax.training.inputs import on_device
from critic_jax.training.run_folder import RunFolder
from critic_jax.training.sft import StepOptions

FILE = "pairs.jsonl"

Load = Callable[[str], Checkpoint]
"""A checkpoint by its name, laid out and held as the run holds its start."""

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class References:
    """Gives every pair of a run its reference: its own, one of an earlier pass, or one found now.

    sides: the rows to train on, and those held out. asked: whether to stop.
    """

    config: DpoConfig
    start: Checkpoint
    sides: Sequence[PairRows]
    options: StepOptions
    load: Load
    asked: Callable[[], bool]

    @property
    def name(self) -> str:
        """Of the reference model."""
        return self.config.reference or self.config.init

    @cached_property
    def fingerprint(self) -> str:
        """Of the reference model, where it is written down beside the weights; else empty."""
        return written_fingerprint(find_model(self.name)) or ""

    @property
    def path(self) -> Path:
        """Of the pairs with their references."""
        return RunFolder.of(self.config.output).here / FILE

    def add(self) -> None:
        """Raises InputError for pairs whose own reference was taken with another label rule, for a
        reference of other sizes than the start, or where an earlier pass was another model's of the
        same name; Stopped where it was asked to stop, what was
        found until then being kept.
        """
        missing = [self._missing(rows) for rows in self.sides]
        if not any(missing):
            return
        if Path(self.config.data).absolute() == self.path.absolute():
            raise InputError(
                f"{self.path}: would be written by the run that reads it; give another output"
            )
        found = self._earlier()
        for rows, members in zip(self.sides, missing, strict=True):
            for member in sorted(members):
                if (said := found.get(_key(rows.pairs[member]))) is not None:
                    rows.references[member] = said
                    members.discard(member)
        self._write()
        if not any(missing):
            return
        params = self._params()
        with progress() as bar, told_if_full(self.path.parent):
            task = bar.add_task("reference", total=sum(map(len, missing)))
            for rows, members in zip(self.sides, missing, strict=True):
                if members:
                    self._pass(params, rows, members, lambda count: bar.advance(task, count))
        self._write()

    def _missing(self, rows: PairRows) -> set[int]:
        """The pairs without a reference of their own."""
        missing = set()
        for member in rows.members():
            pair = rows.pairs[member]
            if pair.reference is None:
                missing.add(member)
            elif pair.reference.labels not in ("", self.config.labels):
                raise InputError(
                    f"{pair.place}, record {pair.id!r}: its reference_logprobs were taken with "
                    f"labels {pair.reference.labels!r}, and this run has {self.config.labels!r}: "
                    "give that rule, or leave the field out"
                )
        return missing

    def _earlier(self) -> dict[Key, Reference]:
        """What an earlier pass of the same model and rule found."""
        found: dict[Key, Reference] = {}
        if not self.path.exists():
            return found
        for number, line in scan_json_lines(self.path):
            if isinstance(line, InputError):
                break  # a line that a kill cut short
            pair = make_pair(line, self.path.parent, number, f"{self.path} line {number}")
            said = pair.reference
            if said and (said.labels, said.model) == (self.config.labels, self.name):
                if said.fingerprint not in ("", self.fingerprint):
                    raise InputError(
                        f"{self.path}: holds what {self.name} said when it was another model "
                        f"({said.fingerprint}, now {self.fingerprint}): bring that one back, or "
                        "give another output"
                    )
                found[_key(pair)] = said
        return found

    def _write(self) -> None:
        """Write the pairs that have a reference, in the order of the data."""
        known = [
            (pair.line, with_reference(pair, said, self.path.parent))
            for rows in self.sides
            for pair, said in zip(rows.pairs, rows.references, strict=True)
            if pair.reference or said.model
        ]
        if is_first():
            write_json_lines(self.path, [line for _, line in sorted(known, key=lambda k: k[0])])
        wait_for_all("reference log-probabilities written")

    def _params(self) -> Params:
        if self.name == self.config.init:
            return self.start.params
        other = self.load(self.name)
        if other.config != self.start.config:
            raise InputError(
                f"{self.name}: no reference for {self.config.init}, its sizes are others"
            )
        return other.params

    def _pass(
        self, params: Params, rows: PairRows, missing: set[int], done: Callable[[int], None]
    ) -> None:
        """The forward pass over an epoch, from the first step on that holds what is missing."""
        assert self.options.mesh is not None
        epoch = copy.copy(rows)
        epoch.length = rows.plan.steps(1)
        first = next(n for n in range(len(epoch)) if missing & set(_members(epoch, n)))
        workers, dtype = self.config.loader_workers, jnp.dtype(self.config.dtype)
        forward = make_reference(self.start.config, dtype, self.options)
        for number, batch in enumerate(on_device(epoch, first, self.options.mesh, workers), first):
            if self.asked():
                raise Stopped(
                    f"{self.config.output}: stopped within the reference pass; what was found is "
                    f"kept in {FILE}, the same command goes on"
                )
            said = np.asarray(forward(params, batch))
            lines = []
            for row, groups in enumerate(rows.plan.step(number)):
                members = rows.plan.members(groups)
                for member, (chosen, rejected) in zip(members, said[row].tolist(), strict=False):
                    if member in missing:
                        told = self.config.labels, self.name, self.fingerprint
                        found = Reference(chosen, rejected, *told)
                        rows.references[member] = found
                        lines.append(with_reference(rows.pairs[member], found, self.path.parent))
            if is_first():
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(line) + "\n" for line in lines)
            done(len(lines))


def _key(pair: Pair) -> Key:
    return pair.id, pair.prompt, pair.chosen, pair.rejected


def _members(rows: PairRows, step: int) -> list[int]:
    return [m for row in rows.plan.step(step) for m in rows.plan.members(row)]
