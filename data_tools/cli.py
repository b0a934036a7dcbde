"""The console script `critic-data`: verbs and their options, no logic."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from critic_jax.console import show
from critic_jax.errors import InputError
from critic_jax.verbs import Verb, dispatch

_File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class ValidateOptions:
    """Check every record of a file as training would meet it; exit code 2 if one is wrong.

    A record has id, source, conversations and image, as in LLaVA-Critic-113k. All pictures are
    opened.
    """

    file: _File
    """JSONL file, or JSON file with a list, of critic records."""
    images: Path | None = None
    """Folder that picture paths start from; by default the file's own."""
    json: bool = False
    """Print one JSON document: file, records, rejected (line, id, reason)."""


def validate(options: ValidateOptions) -> None:
    from .validate import validate as check

    found = check(options.file, options.images)
    if options.json:
        rejected = [asdict(record) for record in found.rejected]
        document = {"file": options.file, "records": found.records, "rejected": rejected}
        show(document, as_json=True)
    else:
        for record in found.rejected:
            print(record.reason)
    if found.rejected:
        raise InputError(f"{len(found.rejected)} of {found.records} records are wrong")
    if not options.json:
        print(f"{options.file}: {found.records} records, all good")


@dataclass(frozen=True)
class StatsOptions:
    """Count what a file of critic records holds: sources, kinds of judgment, turns, lengths."""

    file: _File
    """JSONL file, or JSON file with a list, of critic records."""
    json: bool = False
    """Print one JSON document."""


def stats(options: StatsOptions) -> None:
    from .statistics import statistics

    show(statistics(options.file), as_json=options.json)


VERBS: dict[str, Verb] = {
    "validate": Verb("check every record and picture of a file", ValidateOptions, validate),
    "stats": Verb("count sources, kinds of judgment, turns and lengths", StatsOptions, stats),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    return dispatch("critic-data", "Tools for the data that critics learn from.", VERBS, argv)
