"""The verbs of `critic-jax evaluate` and their options, no logic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from critic_jax.console import show, show_rows
from critic_jax.verbs import Verb

Name = Literal[
    "wildvision-arena",
    "wildvision-verdicts",
    "mllm-judge",
    "vl-rewardbench",
    "mm-rewardbench",
    "llava-in-the-wild",
    "llava-wilder",
    "wildvision-bench",
    "livebench",
    "mmhal",
    "video-dc",
]


@dataclass(frozen=True)
class EvaluateOptions:
    """Hold judgments against labels, and models against each other."""


@dataclass(frozen=True)
class AgreementOptions:
    """How far judgments agree with labels, with bootstrap intervals.

    Every number has two readings: answers that could not be read counted as wrong, and left out.
    """

    results: Path
    """JSONL file of judgments, as critic-jax judge writes it; or lines of id and verdict or score,
    and order (ab or ba) where a pair was asked in both."""
    labels: Path
    """JSONL file of labels: id and verdict, score or ranking; group, model, or model_a and model_b
    where they are known."""
    group: str = "group"
    """The labels' field to count by, each value for itself and the mean over them."""
    resamples: int = 1000
    """How often the items are drawn anew for the intervals; 0 leaves them out."""
    seed: int = 0
    """Seed of that drawing."""
    json: bool = False
    """Print one JSON document."""


def agreement(options: AgreementOptions) -> None:
    from critic_jax.evaluation.agreement import measure_agreement
    from critic_jax.evaluation.statistics import Bootstrap, in_words

    bootstrap = Bootstrap(options.resamples, options.seed)
    found = measure_agreement(options.results, options.labels, options.group, bootstrap)
    show(found if options.json else in_words(found), as_json=options.json)


@dataclass(frozen=True)
class LeaderboardOptions:
    """Order models by battles, as WildVision-Bench does: Bradley-Terry, win rate and reward."""

    battles: Path
    """JSONL file, a battle a line: question_id, model_a, model_b, and verdict, one of A>>B, A>B,
    A=B, B>A, B>>A or null. Or the folder of WildVision-Bench's verdict files."""
    anchor: str
    """The model that the others are held against; its score is 50."""
    resamples: int = 1000
    """How often battles are drawn anew for the intervals; 0 leaves them out."""
    seed: int = 0
    """Seed of that drawing."""
    json: bool = False
    """Print one JSON document."""


def leaderboard(options: LeaderboardOptions) -> None:
    from critic_jax.evaluation.leaderboard import leaderboard as order_models
    from critic_jax.evaluation.leaderboard import read_battles
    from critic_jax.evaluation.statistics import Bootstrap

    bootstrap = Bootstrap(options.resamples, options.seed)
    rows = order_models(read_battles(options.battles), options.anchor, bootstrap)
    show_rows({"anchor": options.anchor, "battles": str(options.battles)}, rows, options.json)


@dataclass(frozen=True)
class BenchmarkOptions:
    """Run a published benchmark: of a judge, or of a policy that a judge marks.

    Of a judge, held against people's labels: wildvision-arena, wildvision-verdicts, mllm-judge,
    vl-rewardbench, mm-rewardbench. Of a policy: llava-in-the-wild, llava-wilder, wildvision-bench,
    livebench, mmhal, video-dc.
    """

    name: Annotated[Name, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Which benchmark."""
    data: Path
    """Its published file, or the folder of its files: JSONL, JSON or parquet."""
    output: Path
    """Folder for what is asked, answered and judged, and for the numbers."""
    judge: str | None = None
    """The critic: a folder or a hub id. Without one, a judge's benchmark is only prepared, as
    input.jsonl for critic-jax judge and labels.jsonl."""
    model: str | None = None
    """The policy that answers: a folder or a hub id."""
    answers: Path | None = None
    """JSONL file of answers instead, id and response; --model is then only a name."""
    images: Path | None = None
    """Folder of the pictures or videos that records name, if it is not the data's."""
    frames: int = 8
    """Frames of a video that a policy sees, spread evenly."""
    order: Literal["given", "both"] = "given"
    """Of a judge: ask every pair in the given order, or also swapped."""
    limit: int | None = None
    """The first LIMIT records only."""
    max_new_tokens: int = 1024
    """Cut a policy's answer after this many tokens."""
    resamples: int = 1000
    """How often the items are drawn anew for the intervals; 0 leaves them out."""
    seed: int = 0
    """Seed of that drawing."""
    json: bool = False
    """Print one JSON document."""


def benchmark(options: BenchmarkOptions) -> None:
    from critic_jax.evaluation.benchmarks.run import run_benchmark
    from critic_jax.evaluation.statistics import in_words

    words = {name: value for name, value in vars(options).items() if name != "json"}
    found = run_benchmark(**words)
    show(found if options.json else in_words(found), as_json=options.json)


@dataclass(frozen=True)
class ProbeOptions:
    """What moves a judge: swapped answers, padding, blank and exchanged pictures, its own answers.

    Each line is asked as it stands and in each changed form.
    """

    model: str
    """The judge: folder of a critic, or a hub id."""
    input: Path
    """File to judge, as critic-jax judge takes it; rankings are left out."""
    output: Path
    """Folder for the questions, the judgments and probes.json."""
    labels: Path | None = None
    """JSONL file of true verdicts, for the accuracy of each form."""
    own: str | None = None
    """Whose answers are the judge's own, by the labels' model_a and model_b."""
    limit: int | None = None
    """The first LIMIT lines only."""
    resamples: int = 1000
    """How often the lines are drawn anew for the intervals; 0 leaves them out."""
    seed: int = 0
    """Seed of that drawing, and of which pictures are exchanged."""
    json: bool = False
    """Print one JSON document."""


def probe(options: ProbeOptions) -> None:
    from critic_jax.evaluation.probes import probe as probe_judge
    from critic_jax.evaluation.statistics import Bootstrap, in_words
    from critic_jax.judging.batch import judge_file, judgments_folder

    def judge(questions: Path, results: Path) -> None:
        judge_file(options.model, questions, results, cache=judgments_folder(None, none=False))

    words = {name: getattr(options, name) for name in ("labels", "own", "limit")}
    bootstrap = Bootstrap(options.resamples, options.seed)
    found = probe_judge(options.input, options.output, judge, **words, bootstrap=bootstrap)
    show(found if options.json else in_words(found), as_json=options.json)


@dataclass(frozen=True)
class PageOptions:
    """Make one self-contained HTML page of what evaluations found."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILES")] = ()
    """agreement.json, score.json and probes.json, and what agreement and leaderboard printed with
    --json."""
    output: Path = Path("evaluation.html")
    """The page to write."""
    paper: bool = False
    """Show the numbers that the paper gives beside them."""


def page(options: PageOptions) -> None:
    from critic_jax.evaluation.pages import write_page

    print(write_page(options.files, options.output, options.paper))


EVALUATIONS: dict[str, Verb] = {
    "agreement": Verb("how far judgments agree with labels", AgreementOptions, agreement),
    "leaderboard": Verb("order models by battles", LeaderboardOptions, leaderboard),
    "benchmark": Verb("run a published benchmark", BenchmarkOptions, benchmark),
    "probe": Verb("what moves a judge that should not", ProbeOptions, probe),
    "page": Verb("make one HTML page of what was found", PageOptions, page),
}
