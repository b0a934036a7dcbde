"""The console script `critic-data`: verbs and their options, no logic."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from critic_jax.console import show
from critic_jax.errors import InputError
from critic_jax.verbs import Verb, dispatch

from .making.verbs import VERBS as MAKING
from .quality.verbs import VERBS as QUALITY

_File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class ImportOptions:
    """Turn published files of critic records into a data set that training reads at random access.

    Pictures are stored once, by content; the records of one picture stand together. Wrong records
    are left out and told one by one in rejected.jsonl. The same command again goes on where one
    was stopped.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Parquet files or a folder of them (LLaVA-Critic-113k as published), JSONL or JSON files."""
    output: str
    """Folder of the data set. Here and above a URL (gs://...) is as good as a local path."""
    images: Path | None = None
    """Folder that picture paths start from; by default each file's own."""
    tokenizer: Path | None = None
    """A checkpoint or tokenizer folder: count text tokens now and not when training starts."""
    workers: int | None = None
    """Processes; by default one a core."""
    strict: bool = False
    """Stop at the first wrong record, with exit code 2."""
    repeated_ids: Literal["reject", "number"] = "reject"
    """Of a record whose id another has, with other content: leave it out, or call it ID#2."""
    json: bool = False
    """Print one JSON document."""


def import_(options: ImportOptions) -> None:
    from critic_jax.pool import core_count
    from critic_jax.remote import cache_folder, fetched, sent, url_of

    from .importing.run import Import, import_records

    if not options.sources:
        raise InputError("no file to import is named")
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}: at least one process does the work")
    url = url_of(options.output)
    job = Import(
        sources=tuple(map(fetched, options.sources)),
        output=Path(options.output) if url is None else cache_folder(url),
        images=options.images and fetched(options.images),
        tokenizer=options.tokenizer,
        workers=options.workers or core_count(),
        strict=options.strict,
        repeated_ids=options.repeated_ids,
    )
    summary = {name: value for name, value in import_records(job).items() if name != "job"}
    if url is not None:
        sent(job.output, url)
    show({"output": options.output, **summary}, as_json=options.json)


@dataclass(frozen=True)
class ValidateOptions:
    """Check every record of a file as training would meet it; exit code 2 if one is wrong.

    A record has id, source, conversations and image, as in LLaVA-Critic-113k. All pictures are
    opened. Of an import every record and picture is read back and compared with the index.
    """

    file: _File
    """JSONL file, or JSON file with a list, of critic records; or the folder of an import."""
    images: Path | None = None
    """Folder that picture paths start from; by default the file's own."""
    json: bool = False
    """Print one JSON document: file, records, rejected (line, id, reason)."""


def validate(options: ValidateOptions) -> None:
    from critic_jax.data.corpus import is_import
    from critic_jax.remote import fetched

    from .validate import validate as check

    file = fetched(options.file)
    if is_import(file):
        from critic_jax.pool import core_count

        from .importing.recheck import recheck

        found = recheck(file, core_count())
    else:
        found = check(file, options.images and fetched(options.images))
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
    """Count what critic records hold: sources, tasks, templates, verdicts, scores, lengths."""

    file: _File
    """JSONL file, or JSON file with a list, of critic records; or the folder of an import."""
    page: Path | None = None
    """Write the same as one self-contained HTML page of plots and tables."""
    json: bool = False
    """Print one JSON document."""


def stats(options: StatsOptions) -> None:
    from critic_jax.remote import fetched

    from .page import write_page
    from .statistics import columns, statistics

    found, rejected = columns(fetched(options.file))
    summary = statistics(options.file, found, rejected)
    if options.page is not None:
        write_page(options.page, found, summary)
    show(summary, as_json=options.json)


@dataclass(frozen=True)
class VerifyOptions:
    """Compare an import of LLaVA-Critic-113k with its published counts.

    Exit code 2 if one differs.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The import."""
    json: bool = False
    """Print one JSON document: folder, agrees, counts (name, published, found, agrees)."""


def verify(options: VerifyOptions) -> None:
    from critic_jax.remote import fetched

    from .published import compare

    counts = compare(fetched(options.folder))
    agrees = all(count.agrees for count in counts)
    if options.json:
        lines = [{**asdict(count), "agrees": count.agrees} for count in counts]
        show({"folder": options.folder, "agrees": agrees, "counts": lines}, as_json=True)
    else:
        for count in counts:
            said = "agrees" if count.agrees else "DIFFERS"
            print(
                f"{count.name:<36} published {count.published:>7,}  found {count.found:>7,}  {said}"
            )
    if not agrees:
        raise InputError(f"{options.folder}: not LLaVA-Critic-113k as published")


@dataclass(frozen=True)
class PlanOptions:
    """Find rows, row_tokens, row_tiles and the tensor axis for a slice and a batch.

    Rows are those of training with trunks shared. The cheapest come first.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The import."""
    tokenizer: Path
    """The checkpoint or tokenizer folder to train with."""
    slice: str
    """The chips, such as v5e:8x8."""
    global_batch: int = 32
    """Records in a step."""
    tensor_limit: int = 4
    """Largest tensor axis: the decoder's key-value heads, 2 for the 0.5B, 4 for 7B, 8 for 72B."""
    json: bool = False
    """Print one JSON document: learning_rate, proposals."""


def plan(options: PlanOptions) -> None:
    from critic_jax.data.chosen import choose
    from critic_jax.data.planner import chip_count, learning_rate, propose
    from critic_jax.data.selection import Part
    from critic_jax.imaging import ImageGeometry
    from critic_jax.pool import core_count
    from critic_jax.remote import fetched
    from critic_jax.text import ChatTokenizer

    chips = chip_count(options.slice)
    inner = options.tokenizer / "tokenizer"
    tokenizer = ChatTokenizer.load(inner if inner.is_dir() else options.tokenizer)
    parts = [Part(str(fetched(options.folder)))]
    records, _ = choose(parts, tokenizer, ImageGeometry(), 0, core_count())
    proposals = propose(records, chips, options.global_batch, options.tensor_limit)
    rate = learning_rate(options.global_batch)
    if options.json:
        found = [asdict(proposal) for proposal in proposals]
        show({"learning_rate": rate, "proposals": found}, as_json=True)
        return
    best = asdict(proposals[0])
    show({"chips": chips, "learning_rate": f"{rate:.3g}", **best}, as_json=False)


@dataclass(frozen=True)
class PreferencesOptions:
    """Turn LLaVA-RLHF's human preferences into prompts and preference pairs.

    Wrong records are left out and told one by one in rejected.jsonl.
    """

    file: _File
    """JSON file with a list, or JSONL file, as LLaVA-Human-Preference-10K is published."""
    output: Path
    """Folder to write prompts.jsonl and pairs.jsonl into."""
    images: Path | None = None
    """Folder that picture paths start from, COCO's train2017; by default the file's own."""
    strict: bool = False
    """Stop at the first wrong record, with exit code 2."""
    json: bool = False
    """Print one JSON document."""


def preferences(options: PreferencesOptions) -> None:
    from critic_jax.remote import fetched

    from .preferences import write_preferences

    counts = write_preferences(
        fetched(options.file),
        options.output,
        options.images and fetched(options.images),
        options.strict,
    )
    show({"output": options.output, **counts}, as_json=options.json)


@dataclass(frozen=True)
class RecipeOptions:
    """Make a whole critic set as a TOML file says; goes on by itself where it was stopped.

    The file names an output folder and a table for each step, whose fields are the options of the
    verb of that name: [answers], [pointwise], [pairwise], [import], [quality]; [annotator] holds
    what pointwise and pairwise have in common.
    """

    file: _File
    """The recipe."""
    dry_run: bool = False
    """Tell what would be asked and what it would cost; send nothing."""
    json: bool = False
    """Print one JSON document."""


def recipe(options: RecipeOptions) -> None:
    from .recipe import make

    show(make(options.file, options.dry_run), as_json=options.json)


VERBS: dict[str, Verb] = {
    "import": Verb("make a data set of published parquet or JSON files", ImportOptions, import_),
    "validate": Verb("check every record and picture of a file", ValidateOptions, validate),
    "stats": Verb("count sources, kinds of judgment, turns and lengths", StatsOptions, stats),
    "plan": Verb("find the row sizes for a slice and a batch", PlanOptions, plan),
    "verify": Verb("compare an import with the published counts", VerifyOptions, verify),
    "preferences": Verb(
        "make prompts and pairs of published human preferences", PreferencesOptions, preferences
    ),
    "recipe": Verb("make a whole critic set as one file says", RecipeOptions, recipe),
    **MAKING,
    **QUALITY,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    return dispatch("critic-data", "Tools for the data that critics learn from.", VERBS, argv)
