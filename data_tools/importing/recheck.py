"""Check a finished import: every record and picture read back from its shards."""

from __future__ import annotations

import hashlib
from pathlib import Path

from critic_jax.data import BadRecord
from critic_jax.data.corpus import Corpus
from critic_jax.errors import InputError
from critic_jax.imaging import PictureError, open_picture
from critic_jax.pool import Pool

from ..check import text_fault
from ..validate import Validation

_STEP = 500  # records or pictures of one task


def recheck(folder: Path, workers: int) -> Validation:
    """Compare what the shards hold with the index; a wrong record is told once.

    Raises InputError for a folder that is no finished import or whose index is damaged.
    """
    corpus = Corpus(folder)
    pictures = corpus.summary["pictures"]
    tasks = [(folder, n, min(n + _STEP, pictures)) for n in range(0, pictures, _STEP)]
    faults: dict[int, str] = {}
    rejected: list[BadRecord] = []
    with Pool(workers) as pool:
        for found in pool.run("checking pictures", _check_pictures, tasks):
            faults |= found
        tasks = [(folder, n, min(n + _STEP, len(corpus))) for n in range(0, len(corpus), _STEP)]
        for bad in pool.run("checking records", _check_records, tasks):
            rejected += bad
    wrong = {record.line for record in rejected}
    for number, names in enumerate(corpus.index["pictures"].to_pylist(), start=1):
        reason = next((faults[n] for n in names if n in faults), None)
        if reason is not None and number not in wrong:
            name = corpus.index["id"][number - 1].as_py()
            place = f"{folder} record {number}"
            rejected.append(BadRecord(number, name, f"{place}: field 'image': {reason}"))
    return Validation(len(corpus), tuple(sorted(rejected, key=lambda record: record.line)))


def _check_pictures(folder: Path, first: int, stop: int) -> dict[int, str]:
    """What is wrong with pictures [first, stop), by number."""
    corpus = Corpus(folder)
    faults: dict[int, str] = {}
    for number in range(first, stop):
        try:
            stored = corpus.stored_picture(number)
            if hashlib.sha256(stored["image"]).hexdigest() != stored["hash"].decode():
                faults[number] = f"picture {number}: its bytes are not those of its hash"
            else:
                open_picture(stored["image"], f"picture {number}")
        except PictureError as error:
            faults[number] = str(error)
        except Exception as error:  # a damaged shard: each reader below raises what it likes
            faults[number] = _unreadable(f"picture {number}", error)
    return faults


def _check_records(folder: Path, first: int, stop: int) -> list[BadRecord]:
    """The records of [first, stop) that are not what the index says, or wrong in themselves."""
    corpus = Corpus(folder)
    index = corpus.index.slice(first, stop - first)
    bad = []
    for number, row in enumerate(index.select(["id", "pictures"]).to_pylist(), start=first):
        place = f"{folder} record {number + 1}"
        try:
            record, stored = corpus.record(number), corpus.example(number)["pictures"]
            reason = text_fault(record)
            if (record.id, [int(n) for n in stored]) != (row["id"], row["pictures"]):
                reason = f"is {record.id!r}, and the index has {row['id']!r}; import again"
        except InputError as error:
            reason = str(error)
        except Exception as error:  # as above
            reason = _unreadable("it", error)
        if reason is not None:
            bad.append(BadRecord(number + 1, row["id"], f"{place}: {reason}"))
    return bad


def _unreadable(what: str, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).split("\n")[0][:200]
    return f"{what} cannot be read back ({reason}); import again"
