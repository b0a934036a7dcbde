"""What a run trains on: the rows of a file of records, or of imports, and those held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.data import BadRecord, Record, read_records
from critic_jax.data.chosen import choose
from critic_jax.data.corpus import is_import
from critic_jax.data.corpus_rows import CorpusRows, Packing
from critic_jax.data.encode import Encoder
from critic_jax.data.pair_rows import PairRows
from critic_jax.data.pairs import Pair, read_pairs
from critic_jax.data.pipeline import Rows, batches
from critic_jax.data.plan import Budget
from critic_jax.data.rows import PlannedRows
from critic_jax.data.selection import Part, held_out
from critic_jax.errors import InputError
from critic_jax.pool import core_count
from critic_jax.remote import fetched
from critic_jax.sharding import row_sharding
from critic_jax.training.config import DpoConfig, TrainConfig

R = TypeVar("R", Record, Pair)


def make_rows(config: TrainConfig, encoder: Encoder) -> tuple[PlannedRows, PlannedRows | None]:
    """(rows to train on, rows held out or None) of a config.

    Raises InputError for data that is wrong, for `data` and `parts` together, and for a share of
    validation that holds out nothing or everything.
    """
    if bool(config.data) == bool(config.parts):
        raise InputError("give either data or parts: one file or import, or parts of imports")
    config = replace(
        config,
        data=str(fetched(config.data)) if config.data else "",
        parts=tuple(replace(part, path=str(fetched(part.path))) for part in config.parts),
    )
    budget = Budget(config.global_batch, config.rows, config.row_tokens, config.row_tiles)
    if config.parts or is_import(config.data):
        return _of_imports(config, encoder, budget)
    kept, out = split(_records(config.data), config.validation)
    share = config.share_trunks
    rows = Rows(kept, encoder, budget, config.epochs, config.seed, share)
    return rows, Rows(out, encoder, budget, 1, config.seed, share) if out else None


def make_pair_rows(config: DpoConfig, encoder: Encoder) -> tuple[PairRows, PairRows | None]:
    """(rows to train on, rows held out or None) of a config's file of pairs.

    Raises InputError for data that is wrong.
    """
    budget = Budget(config.global_batch, config.rows, config.row_tokens, config.row_tiles)
    kept, out = split(read_pairs(fetched(config.data)), config.validation)
    how = config.seed, config.share_trunks, config.drop_oversize
    rows = PairRows(kept, encoder, budget, config.epochs, *how)
    return rows, PairRows(out, encoder, budget, 1, *how) if out else None


def _of_imports(
    config: TrainConfig, encoder: Encoder, budget: Budget
) -> tuple[PlannedRows, PlannedRows | None]:
    parts = config.parts or (Part(config.data),)
    kept, out = choose(
        parts, encoder.tokenizer, encoder.geometry, config.seed, core_count(), config.validation
    )
    if config.validation:
        _check_split(len(kept), len(out), config.validation)
    packing = Packing(config.share_trunks, config.drop_oversize)
    rows = CorpusRows(kept, encoder, budget, config.epochs, config.seed, packing)
    if not len(out):
        return rows, None
    return rows, CorpusRows(out.once(), encoder, budget, 1, config.seed, packing)


def _records(path: str) -> list[Record]:
    records = []
    for record in read_records(path):
        if isinstance(record, BadRecord):
            raise InputError(record.reason)
        records.append(record)
    if not records:
        raise InputError(f"{path}: holds no records")
    return records


def split(records: list[R], share: float) -> tuple[list[R], list[R]]:
    """(kept, held out); a picture's path or bytes stand for it."""
    if not share:
        return records, []
    hashes = [[_name(image) for image in record.images] for record in records]
    out = held_out(hashes, [record.id for record in records], share)
    kept = [record for record, held in zip(records, out, strict=True) if not held]
    others = [record for record, held in zip(records, out, strict=True) if held]
    _check_split(len(kept), len(others), share)
    return kept, others


def _name(image: object) -> str:
    content = image if isinstance(image, bytes) else str(image).encode()
    return sha256(content).hexdigest()[:16]


def _check_split(kept: int, out: int, share: float) -> None:
    if not kept or not out:
        raise InputError(
            f"validation {share} holds out {out} of {kept + out} records; "
            "give a share that leaves some on both sides, or 0"
        )


def on_device(
    rows: PlannedRows, first: int, mesh: Mesh, workers: int = 0
) -> Iterator[dict[str, jax.Array]]:
    """Batches from step `first` on, spread over the mesh, the next one on its way meanwhile.

    Each host builds the rows that its devices hold, and those alone.
    """
    spread, whole = row_sharding(mesh), NamedSharding(mesh, PartitionSpec())
    count = rows.budget.rows

    def place(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        return {
            name: jax.make_array_from_process_local_data(
                spread if value.ndim else whole,
                value,
                (count, *value.shape[1:]) if value.ndim else (),
            )
            for name, value in batch.items()
        }

    ahead: dict[str, jax.Array] | None = None
    for batch in batches(rows, first, workers, host_rows(spread, count)):
        placed = place(batch)
        if ahead is not None:
            yield ahead
        ahead = placed
    if ahead is not None:
        yield ahead


def host_rows(spread: NamedSharding, rows: int) -> tuple[int, int]:
    """[first, stop) of a batch's rows that this host's devices hold, by the sharding's index map.

    Raises InputError where the rows cannot be spread evenly.
    """
    try:
        held = spread.addressable_devices_indices_map((rows,)).values()
    except ValueError:
        devices = spread.mesh.shape["data"] * spread.mesh.shape["fsdp"]
        raise InputError(
            f"rows {rows}: a step's rows must be a multiple of the {devices} devices "
            "that they are spread over"
        ) from None
    slices = [index[0].indices(rows)[:2] for index in held if index]
    first, stop = min(first for first, _ in slices), max(stop for _, stop in slices)
    if sum(b - a for a, b in set(slices)) != stop - first:
        raise InputError("this host's devices hold rows that do not stand together; order the mesh")
    return first, stop
