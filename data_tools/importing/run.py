"""`critic-data import`: scan, merge, write; each step goes on where it was stopped."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from critic_jax.data.corpus import (
    FORMAT,
    IMPORT_FILE,
    INDEX_FILE,
    PICTURES_NAME,
    RECORDS_NAME,
    REJECTED_FILE,
    lengths_file,
)
from critic_jax.data.lengths import Lengths, joined
from critic_jax.errors import InputError, WorkError
from critic_jax.files import told_if_full, write_json, write_json_lines
from critic_jax.pool import Pool
from critic_jax.text import ChatTokenizer

from .merge import Merged, RepeatedIds, merge
from .scan import scan
from .shards import PICTURES, RECORDS, shard_path, write_metadata
from .sources import Source, Unit, find_sources, units
from .write import write_pictures, write_records

WORK = ".work"
JOB_FILE = "job.json"
PICTURE_SHARD = 256 << 20
RECORD_SHARD = 32 << 20
"""Bytes of a shard, about: a shard is what one process writes, and what a stopped import loses."""


@dataclass(frozen=True)
class Import:
    """What to import, from where to where.

    sources: parquet files, folders of them, JSONL or JSON files. images: folder of relative picture
    paths. tokenizer: folder whose tokenizer counts the text tokens; without it they are counted
    when training first reads the import.
    """

    sources: tuple[Path, ...]
    output: Path
    images: Path | None = None
    tokenizer: Path | None = None
    workers: int = 1
    strict: bool = False
    repeated_ids: RepeatedIds = "reject"
    picture_shard: int = PICTURE_SHARD
    record_shard: int = RECORD_SHARD


def import_records(job: Import) -> dict[str, Any]:
    """Import; returns what `import.json` then holds.

    Raises InputError for wrong sources, an output that holds something else, no usable record, and
    with `strict` at the first record that is rejected; WorkError for a full disk.
    """
    began = time.perf_counter()
    sources = find_sources(job.sources, job.images)
    tokenizer = _tokenizer_folder(job.tokenizer)
    described = _describe(job, sources, tokenizer)
    finished = _finished(job.output, described)
    if finished is not None:
        return finished
    with (
        told_if_full(job.output),
        _work_folder(job.output, described) as work,
        Pool(job.workers) as pool,
    ):
        every = [unit for source in sources for unit in units(source)]
        scans = _scan(every, work, job, pool)
        merged = merge(every, scans, job.repeated_ids)
        if job.strict and merged.rejected:
            raise InputError(merged.rejected[0]["reason"])
        write_json_lines(job.output / REJECTED_FILE, merged.rejected)
        if not merged.groups:
            raise InputError(
                f"{job.output / REJECTED_FILE}: all {len(merged.rejected)} records are rejected; "
                "nothing is left to import"
            )
        _write_pictures(merged, every, job, pool)
        parts = _write_records(merged, every, scans, work, tokenizer, job, pool)
        _write_index(job.output, parts, tokenizer)
        summary = {
            "format": FORMAT,
            "records": merged.records,
            "rejected": len(merged.rejected),
            "pictures": len(merged.pictures),
            "picture_bytes": sum(p.bytes for p in merged.pictures),
            "configs": _by_config(merged, every),
            "seconds": round(time.perf_counter() - began, 1),
            "job": described,
        }
        write_json(job.output / IMPORT_FILE, summary)
    shutil.rmtree(job.output / WORK)
    return summary


def _tokenizer_folder(folder: Path | None) -> Path | None:
    """The folder of the tokenizer's files: the given one, or `tokenizer/` in a checkpoint."""
    if folder is not None and (folder / "tokenizer").is_dir():
        return folder / "tokenizer"
    return folder


def _describe(job: Import, sources: Sequence[Source], tokenizer: Path | None) -> dict[str, Any]:
    """All that the result depends on. The same again means: go on."""
    files = []
    for source in sources:
        status = source.path.stat()
        files.append([str(source.path), source.config, status.st_size, status.st_mtime_ns])
    known = ChatTokenizer.load(tokenizer).digest()[:16] if tokenizer is not None else None
    return {
        "files": files,
        "images": str(job.images) if job.images is not None else None,
        "tokenizer": known,
        "repeated_ids": job.repeated_ids,
        "shards": [job.picture_shard, job.record_shard],
    }


def _finished(output: Path, described: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of an import that is there already, None where there is none.

    Raises InputError where the folder holds another import, or something that is none.
    """
    path = output / IMPORT_FILE
    if path.is_file():
        summary: dict[str, Any] = json.loads(path.read_text())
        if summary.get("job") != described:
            raise InputError(
                f"{output}: holds an import of other files or options; "
                "name another output, or remove this one"
            )
        # A kill may have come between the last file and this.
        shutil.rmtree(output / WORK, ignore_errors=True)
        return summary
    if output.is_dir() and any(output.iterdir()) and not (output / WORK).is_dir():
        raise InputError(f"{output}: is not empty and no import; name another output")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; name a folder")
    return None


@contextmanager
def _work_folder(output: Path, described: dict[str, Any]) -> Iterator[Path]:
    """The folder of what is not finished, kept for this process alone.

    What an import of other files or options left there is removed.
    """
    work = output / WORK
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkError(f"{output}: another import is writing there; wait for it") from None
        job = work / JOB_FILE
        if not (job.is_file() and json.loads(job.read_text()) == described):
            for folder in (output / RECORDS_NAME, output / PICTURES_NAME, work / "scans"):
                shutil.rmtree(folder, ignore_errors=True)
            for part in work.glob("records-*"):
                part.unlink()
            write_json(job, described)
        for part in output.rglob(".*.part"):
            part.unlink()
        yield work


def _scan(every: Sequence[Unit], work: Path, job: Import, pool: Pool) -> list[Path]:
    """Scan the units that are not; the paths of all scans."""
    paths = [work / "scans" / f"{number:06d}.jsonl" for number in range(len(every))]
    left = [(unit, path) for unit, path in zip(every, paths, strict=True) if not path.exists()]
    for _, reason in pool.run("reading", scan, left):
        if job.strict and reason is not None:
            raise InputError(reason)
    return paths


def _write_pictures(merged: Merged, every: Sequence[Unit], job: Import, pool: Pool) -> None:
    folder = job.output / PICTURES_NAME
    cuts = _cuts([p.bytes for p in merged.pictures], job.picture_shard)
    tasks = []
    for number, (first, stop) in enumerate(cuts):
        path = shard_path(folder, PICTURES_NAME, number, len(cuts))
        wanted = merged.pictures[first:stop]
        if not path.exists():
            tasks.append((path, wanted, {p.unit: every[p.unit] for p in wanted}))
    try:
        for _ in pool.run("writing pictures", write_pictures, tasks):
            pass
    except InputError:  # a picture changed: what was read of it is worth nothing
        (job.output / WORK / JOB_FILE).unlink()
        raise
    lengths = [stop - first for first, stop in cuts]
    write_metadata(folder, PICTURES_NAME, PICTURES, lengths, "Pictures of critic records.")


def _write_records(
    merged: Merged,
    every: Sequence[Unit],
    scans: Sequence[Path],
    work: Path,
    tokenizer: Path | None,
    job: Import,
    pool: Pool,
) -> list[Path]:
    """Write the shards that are missing; the parts of the index, one a shard."""
    folder = job.output / RECORDS_NAME
    mean = merged.record_bytes / merged.records
    cuts = _cuts([mean * len(group) for group in merged.groups], job.record_shard)
    tasks, parts, lengths = [], [], []
    for number, (first, stop) in enumerate(cuts):
        path = shard_path(folder, RECORDS_NAME, number, len(cuts))
        parts.append(work / f"records-{number:05d}.parquet")
        groups = merged.groups[first:stop]
        lengths.append(sum(map(len, groups)))
        if not path.exists():
            files = {
                k.unit: (scans[k.unit], every[k.unit].source.config) for g in groups for k in g
            }
            tasks.append((path, parts[-1], groups, files, tokenizer))
    for _ in pool.run("writing records", write_records, tasks):
        pass
    write_metadata(folder, RECORDS_NAME, RECORDS, lengths, "Critic records, by picture.")
    return parts


def _cuts(sizes: Sequence[float], limit: int) -> list[tuple[int, int]]:
    """[first, stop) of each shard: items in order, about `limit` bytes together."""
    cuts, first, held = [], 0, 0.0
    for number, size in enumerate(sizes, start=1):
        held += size
        if held >= limit:
            cuts.append((first, number))
            first, held = number, 0.0
    if first < len(sizes) or not cuts:
        cuts.append((first, len(sizes)))
    return cuts


def _write_index(output: Path, parts: Sequence[Path], tokenizer: Path | None) -> None:
    target = output / INDEX_FILE
    part = output / f".{INDEX_FILE}.part"
    pq.write_table(pa.concat_tables([pq.read_table(path) for path in parts]), part)
    part.replace(target)
    if tokenizer is not None:
        found = []
        for path in parts:
            with np.load(path.with_suffix(".npz")) as arrays:
                found.append(Lengths(**arrays))
        name = lengths_file(ChatTokenizer.load(tokenizer))
        part = output / f".{name}.part.npz"
        np.savez(part, **vars(joined(found)))
        part.replace(output / name)


def _by_config(merged: Merged, every: Sequence[Unit]) -> dict[str, dict[str, int]]:
    """Records kept and rejected by config."""
    counts: dict[str, dict[str, int]] = {}

    def add(config: str, what: str) -> None:
        both = counts.setdefault(config or "(none)", {"records": 0, "rejected": 0})
        both[what] += 1

    configs = {str(unit.source.path): unit.source.config for unit in every}
    for group in merged.groups:
        for kept in group:
            add(every[kept.unit].source.config, "records")
    for line in merged.rejected:
        add(configs[line["file"]], "rejected")
    return dict(sorted(counts.items()))
