"""The verbs of `critic-data` that make critic data: their options, no logic."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from critic_jax.console import show
from critic_jax.verbs import Verb

if TYPE_CHECKING:
    from .annotator import Annotator

_File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True, kw_only=True)
class AskingOptions:
    """How an endpoint is asked, whatever it is asked for."""

    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 120.0
    """Seconds to wait for the endpoint."""
    retries: int = 6
    """Further tries of a request that failed for want of capacity, connection or a whole answer."""
    budget: float | None = None
    """Spend no more than this, all runs on this output together."""
    picture_tokens: int = 1500
    """Tokens that the endpoint counts for a picture, at most: for the estimate and the budget."""
    dry_run: bool = False
    """Tell what would be asked and what it would cost; send nothing."""
    json: bool = False
    """Print one JSON document."""


@dataclass(frozen=True, kw_only=True)
class AnnotatorOptions(AskingOptions):
    """The annotator: the model whose judgments and reasons make the data."""

    output: Path
    """Folder of the records; what is annotated there is not asked again."""
    endpoint: str
    """URL of an OpenAI-style endpoint; its key in OPENAI_API_KEY."""
    model: str
    """The name that the endpoint knows the annotator by."""
    price_prompt: float | None = None
    """Money for a million tokens of prompts, to tell what it costs."""
    price_answer: float | None = None
    """Money for a million tokens of answers."""
    temperature: float = 0.0
    """Sample the annotator's text instead of taking the likeliest token every time."""
    max_new_tokens: int = 1024
    """Cut a text after this many tokens."""
    reasks: int = 2
    """Ask again, sampled, where a text cannot be used, so often at most."""
    seed: int = 0
    """Seed of all draws."""


_ANNOTATOR = ("endpoint", "model", "temperature", "max_new_tokens", "reasks")
_COST = ("price_prompt", "price_answer", "budget", "picture_tokens")
_POLICY = ("concurrency", "timeout", "retries")


@dataclass(frozen=True, kw_only=True)
class AnswersOptions(AskingOptions):
    """Have questions about pictures answered by several models: endpoints, and checkpoints of ours.

    Sources are LLaVA JSON (LLaVA-Instruct, LLaVAR, LLaVA-Med), SVIT, LRV-Instruct, M3IT, PCA-EVAL
    and VLFeedback as published, told apart by their fields, and lines of id, image, question and
    reference.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Files of questions."""
    models: Path
    """TOML file: a table [NAME] for each model, with endpoint (a URL) or checkpoint (a folder or
    hub id), and price_prompt and price_answer of an endpoint, for a million tokens."""
    output: Path
    """Folder of the answers; what is answered there is not asked again."""
    images: Path | None = None
    """Folder that picture paths start from; by default each file's own."""
    per_question: int = 4
    """Models that answer each question, drawn."""
    temperature: float = 0.0
    """Sample answers instead of taking the likeliest token every time."""
    max_new_tokens: int = 512
    """Cut an answer after this many tokens."""
    seed: int = 0
    """Seed of the plan, and of a checkpoint's sampling."""


def answers(options: AnswersOptions) -> None:
    show(run_answers(options), as_json=options.json)


def run_answers(options: AnswersOptions) -> dict[str, Any]:
    """What `critic-data answers` does and tells."""
    from critic_jax.judging.endpoint import Policy

    from .answers import Answering, make_answers, read_models

    answering = Answering(
        options.per_question,
        options.temperature,
        options.max_new_tokens,
        options.seed,
        Policy(**{name: getattr(options, name) for name in _POLICY}),
        options.picture_tokens,
        options.budget,
    )
    return make_answers(
        options.sources,
        options.output,
        read_models(options.models),
        answering,
        options.images,
        options.dry_run,
    )


@dataclass(frozen=True, kw_only=True)
class PointwiseOptions(AnnotatorOptions):
    """Have answers judged in the styles of seven benchmarks; records of what can be read.

    An input line is a JSON object: id, image, question, response; optional reference, pair (what
    the answers to one question share), response_model, source, domain, template.
    """

    input: _File
    """JSONL file of answers, as critic-data answers writes it."""
    templates: tuple[str, ...] = ()
    """Draw from these templates instead of those of the seven benchmarks."""
    hold_back: float = 0.0
    """Share of pictures whose judgments are kept back, as a set to measure agreement on."""
    reask_share: float = 0.0
    """Share of answers judged twice, to see how far the annotator agrees with itself."""


def pointwise(options: PointwiseOptions) -> None:
    show(run_pointwise(options), as_json=options.json)


def run_pointwise(options: PointwiseOptions) -> dict[str, Any]:
    """What `critic-data pointwise` does and tells."""
    from .pointwise import BENCHMARKS, make_pointwise

    return make_pointwise(
        options.input,
        options.output,
        _annotator(options),
        options.templates or BENCHMARKS,
        options.hold_back,
        options.reask_share,
        options.seed,
        options.dry_run,
    )


@dataclass(frozen=True, kw_only=True)
class PairwiseOptions(AnnotatorOptions):
    """Have the reasons of known preferences written; records of those that bear them out.

    Sources are VLFeedback, LLaVA-RLHF and RLHF-V as published (JSON, JSONL, parquet), told apart
    by their fields, and lines of prompt, chosen and rejected.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Files of preferences."""
    images: Path | None = None
    """Folder that picture paths start from; by default each file's own."""
    pairs: int = 20_000
    """Of VLFeedback: pairs whose mean ratings differ by more than the gap."""
    ties: int = 5_000
    """Of VLFeedback: pairs with equal mean ratings."""
    gap: float = 0.6
    """Difference of two mean ratings, from 1 to 5, above which the order counts as known."""


def pairwise(options: PairwiseOptions) -> None:
    show(run_pairwise(options), as_json=options.json)


def run_pairwise(options: PairwiseOptions) -> dict[str, Any]:
    """What `critic-data pairwise` does and tells."""
    from ..sources.known_pairs import Choice
    from .pairwise import make_pairwise

    return make_pairwise(
        options.sources,
        options.output,
        _annotator(options),
        options.images,
        Choice(options.pairs, options.ties, options.gap),
        options.seed,
        options.dry_run,
    )


def _annotator(options: AnnotatorOptions) -> "Annotator":
    from critic_jax.judging.endpoint import Policy

    from .annotator import Annotator

    given = {field.name: getattr(options, field.name) for field in fields(options)}
    policy = Policy(**{name: given[name] for name in _POLICY})
    return Annotator(policy=policy, **{name: given[name] for name in (*_ANNOTATOR, *_COST)})


VERBS: dict[str, Verb] = {
    "answers": Verb("have questions answered by several models", AnswersOptions, answers),
    "pointwise": Verb("have answers judged, with reasons", PointwiseOptions, pointwise),
    "pairwise": Verb("have known preferences explained", PairwiseOptions, pairwise),
}
