"""A whole critic set from one file: questions are answered, answers judged, known preferences
explained, and all of it is imported and described.
"""

from __future__ import annotations

import difflib
import shutil
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from critic_jax.data.corpus import IMPORT_FILE
from critic_jax.errors import InputError
from critic_jax.pool import core_count

from .importing.run import Import, import_records
from .making.verbs import (
    AnswersOptions,
    PairwiseOptions,
    PointwiseOptions,
    run_answers,
    run_pairwise,
    run_pointwise,
)
from .quality.verbs import QualityOptions, run_quality
from .toml_file import read_toml

Table = Mapping[str, Any]

STEPS: dict[str, type[Any]] = {
    "answers": AnswersOptions,
    "pointwise": PointwiseOptions,
    "pairwise": PairwiseOptions,
    "import": Import,
    "quality": QualityOptions,
}
"""The tables of a recipe, in the order in which they are worked off; any may be left out."""

SHARED = "annotator"
"""The table of what pointwise and pairwise have in common."""


def make(recipe: Path, dry_run: bool = False) -> dict[str, Any]:
    """Work off a recipe; what each step told, by its name. The same again goes on where it stopped.

    A recipe is a TOML file with `output`, a folder, and a table for each step, whose fields are the
    options of the verb of that name; paths are seen from the recipe's folder. Steps find what the
    ones before them have made, unless they name something else. dry_run: tell what would be asked
    and what it would cost, as far as the answers are there.

    Raises InputError for a file or a field that is wrong, before anything is asked.
    """
    output, tables = _read(recipe)
    where = {name: output / name for name in STEPS}
    found: dict[str, Any] = {}
    answered = where["answers"] / "answers.jsonl"
    records = [
        where[name] / "records.jsonl" for name in ("pointwise", "pairwise") if name in tables
    ]
    given: dict[str, dict[str, Any]] = {
        "answers": {"output": where["answers"]},
        "pointwise": {"output": where["pointwise"], "input": answered},
        "pairwise": {"output": where["pairwise"]},
        "import": {"output": output / "set", "sources": records, "workers": core_count()},
        "quality": {"files": records, "page": output / "sample.html", "card": output / "card.md"},
    }
    for name in ("answers", "pointwise", "pairwise"):
        given[name]["dry_run"] = dry_run
    options = {
        name: _options(kind, {**given[name], **tables[name]}, recipe, name)
        for name, kind in STEPS.items()
        if name in tables
    }
    for name, chosen in options.items():
        if dry_run and name in ("import", "quality"):
            continue
        if dry_run and name == "pointwise" and not chosen.input.exists():
            found[name] = {"waits_for": str(chosen.input)}
            continue
        if name == "import" and chosen.output == output / "set":
            _make_way(chosen)
        found[name] = _run(name, chosen)
    return {"output": str(output), **found}


def _make_way(job: Import) -> None:
    """Remove the recipe's own import of records that have become others since."""
    told = job.output / IMPORT_FILE
    if told.exists():
        made = told.stat().st_mtime_ns
        if any(source.stat().st_mtime_ns > made for source in job.sources):
            shutil.rmtree(job.output)


def _run(name: str, options: Any) -> dict[str, Any]:
    if name == "import":
        told = import_records(options)
        return {field: value for field, value in told.items() if field != "job"}
    runs: dict[str, Callable[[Any], dict[str, Any]]] = {
        "answers": run_answers,
        "pointwise": run_pointwise,
        "pairwise": run_pairwise,
        "quality": run_quality,
    }
    return runs[name](options)


def _read(recipe: Path) -> tuple[Path, dict[str, Table]]:
    """The output folder and the tables of steps, with what they share in each."""
    document = read_toml(recipe)
    output = document.pop("output", None)
    if not isinstance(output, str) or not output:
        raise InputError(f"{recipe}: output is missing; it should be a folder")
    for name, table in document.items():
        if name not in (*STEPS, SHARED):
            raise InputError(f"{recipe}: {_unknown(name, (*STEPS, SHARED))}")
        if not isinstance(table, dict):
            raise InputError(f"{recipe}: {name} should be a table, [{name}]")
    shared = document.pop(SHARED, {})
    if not document:
        raise InputError(f"{recipe}: has no step; a step is a table: {', '.join(STEPS)}")
    for name in ("pointwise", "pairwise"):
        if name in document:
            document[name] = {**shared, **document[name]}
    return recipe.parent / output, document


def _options(kind: type[Any], table: Table, recipe: Path, step: str) -> Any:
    """A table as a verb's options."""
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        where = f"{recipe}: [{step}] {name}"
        if name not in known or name == "json":
            raise InputError(f"{recipe}: [{step}]: {_unknown(name, known)}")
        values[name] = _value(hints[name], value, recipe.parent, where)
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in values:
            raise InputError(f"{recipe}: [{step}] {name} is missing")
    return kind(**values)


def _value(hint: Any, value: Any, folder: Path, where: str) -> Any:
    """A value of a recipe as its field wants it."""
    if isinstance(hint, types.UnionType):  # a type, or None
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, list) or not value:
            raise InputError(f"{where} should be a list")
        return tuple(_value(inner, one, folder, where) for one in value)
    if hint is Path:
        if not isinstance(value, str | Path):
            raise InputError(f"{where} is {value!r}; it should be a path")
        return folder / value if isinstance(value, str) else value
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            raise InputError(f"{where} is {value!r}; it should be one of {typing.get_args(hint)}")
        return value
    wanted = (int, float) if hint is float else hint
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{where} is {value!r}; it should be {_NAMES[hint]}")
    return hint(value)


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _unknown(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"no field {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
