"""Answers of several models to questions about pictures; which answers which is a seeded plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.files import write_json, write_json_lines
from critic_jax.judging.endpoint import Policy, Reply

from ..sources.questions import Question, read_questions
from ..toml_file import read_toml
from .annotator import REJECTED, SUMMARY, Annotator, annotated, estimated
from .draw import shuffled
from .packing import with_pictures
from .queue import Queue, Task

ANSWERS, PLAN = "answers.jsonl", "plan.jsonl"


@dataclass(frozen=True)
class Model:
    """A model that answers: at an endpoint, or a checkpoint of ours (a folder or a hub id).

    prices: money for a million tokens, of an endpoint.
    """

    name: str
    endpoint: str | None = None
    checkpoint: str | None = None
    price_prompt: float | None = None
    price_answer: float | None = None


@dataclass(frozen=True)
class Answering:
    """How models are asked. budget: money, of all endpoints together."""

    per_question: int = 4
    temperature: float = 0.0
    max_new_tokens: int = 512
    seed: int = 0
    policy: Policy = Policy()  # noqa: RUF009 (frozen)
    picture_tokens: int = 1500
    budget: float | None = None


@dataclass(frozen=True)
class _Asked:
    """A question for one model."""

    question: Question
    model: str

    @property
    def id(self) -> str:
        return f"{self.question.id}/{self.model}"


def read_models(path: Path) -> list[Model]:
    """The models of a TOML file, a table for each: its name, and `endpoint` or `checkpoint`.

    Raises InputError for a file that is missing or holds something else.
    """
    tables = read_toml(path)
    known = {field.name for field in fields(Model)} - {"name"}
    models = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} stands alone; a model is a table [NAME]")
        if other := sorted(set(table) - known):
            raise InputError(f"{path}: [{name}] has {other[0]!r}; it may have {sorted(known)}")
        model = Model(name, **table)
        if (model.endpoint is None) == (model.checkpoint is None):
            raise InputError(f"{path}: [{name}] should have either endpoint or checkpoint")
        for field in ("endpoint", "checkpoint"):
            if not isinstance(table.get(field, ""), str):
                raise InputError(f"{path}: [{name}] {field} should be a text")
        for field in ("price_prompt", "price_answer"):
            price = table.get(field, 0.0)
            if isinstance(price, bool) or not isinstance(price, int | float):
                raise InputError(f"{path}: [{name}] {field} should be a number")
        models.append(model)
    if not models:
        raise InputError(f"{path}: names no model; a model is a table [NAME]")
    return models


def plan(
    questions: Sequence[Question], models: Sequence[str], count: int, seed: int
) -> list[_Asked]:
    """Which models answer which question: `count` different ones each, drawn by its id alone.

    Raises InputError for a count that is not from 1 to the number of models.
    """
    if not 1 <= count <= len(models):
        raise InputError(
            f"--per-question is {count}; it must be from 1 to {len(models)}, the number of models"
        )
    return [
        _Asked(question, model)
        for question in questions
        for model in shuffled(models, seed, "models", question.id)[:count]
    ]


def make_answers(
    sources: Sequence[Path],
    output: Path,
    models: Sequence[Model],
    answering: Answering,
    images: Path | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Have the questions of `sources` answered into the folder `output`; the summary, or of a dry
    run the plan's counts and the estimates.

    `answers.jsonl` is what `critic-data pointwise` reads. One model is asked after the other; what
    it answered stands in `models/NAME` and is not asked again. Raises InputError for wrong options,
    or sources without a question.
    """
    if not sources:
        raise InputError("no file of questions is named")
    questions, wrong = read_questions(sources, images)
    asked = plan(questions, [m.name for m in models], answering.per_question, answering.seed)
    queues = {
        model.name: _annotator(model, model.endpoint, answering).queue(_folder(output, model))
        for model in models
        if model.endpoint is not None
    }
    if dry_run:
        return _dry_run(output, models, asked, queues)
    by_question: dict[str, list[str]] = {}
    for one in asked:
        by_question.setdefault(one.question.id, []).append(one.model)
    lines = ({"id": name, "models": chosen} for name, chosen in by_question.items())
    write_json_lines(output / PLAN, lines)
    texts: dict[str, str] = {}
    whys: dict[str, str] = {}
    for model in models:
        mine = [one for one in asked if one.model == model.name]
        folder = _folder(output, model)
        if not mine:
            continue
        if model.name in queues:
            queue = queues[model.name]
            if answering.budget is not None:
                others = sum(q.purse.spent or 0.0 for q in queues.values() if q is not queue)
                queue.purse.budget = answering.budget - others
            for name, line in annotated(queue, _tasks(mine), folder / ANSWERS).items():
                (whys if line["why"] else texts)[name] = line["why"] or line["text"].strip()
        else:
            found, unanswered = _generated(model, mine, folder, answering)
            texts |= found
            whys |= unanswered
    answers = [_line(one, texts[one.id], output) for one in asked if one.id in texts]
    rejected: list[dict[str, Any]] = [vars(bad) for bad in wrong]
    rejected += [
        {"line": one.question.line, "id": one.id, "reason": f"{one.question.place}: {whys[one.id]}"}
        for one in asked
        if one.id in whys
    ]
    write_json_lines(output / ANSWERS, answers)
    write_json_lines(output / REJECTED, rejected)
    summary: dict[str, Any] = {
        "questions": len(questions),
        "answers": len(answers),
        "rejected": len(rejected),
        "models": dict(Counter(one.model for one in asked if one.id in texts)),
    }
    if spent := [q.purse.spent for q in queues.values() if q.purse.spent is not None]:
        summary["spent"] = sum(spent)
    write_json(output / SUMMARY, summary)
    return summary


def _annotator(model: Model, endpoint: str, answering: Answering) -> Annotator:
    return Annotator(
        endpoint,
        model.name,
        answering.policy,
        answering.temperature,
        answering.max_new_tokens,
        reasks=1,
        price_prompt=model.price_prompt,
        price_answer=model.price_answer,
        budget=answering.budget,
        picture_tokens=answering.picture_tokens,
    )


def _folder(output: Path, model: Model) -> Path:
    return output / "models" / model.name.replace("/", "--")


def _tasks(asked: Sequence[_Asked]) -> list[Task]:
    return [Task(one.id, one.question.images, one.question.text, _check) for one in asked]


def _check(reply: Reply) -> str:
    return "" if reply.text.strip() else "empty: the model wrote nothing"


def _generated(
    model: Model, asked: Sequence[_Asked], folder: Path, answering: Answering
) -> tuple[dict[str, str], dict[str, str]]:
    """Answers of a checkpoint, through what `critic-jax generate` does; and reasons for none."""
    from critic_jax.judging.answer_file import generate_file

    prompts, whys = [], {}
    for one in asked:
        try:
            fields = {"id": one.id, "prompt": one.question.text}
            prompts.append(with_pictures(fields, one.question.images, folder))
        except InputError as error:
            whys[one.id] = str(error)
    (folder / REJECTED).unlink(missing_ok=True)
    source = write_json_lines(folder / "prompts.jsonl", prompts)
    output = folder / ANSWERS
    assert model.checkpoint is not None
    generate_file(
        model.checkpoint,
        source,
        output,
        temperature=answering.temperature,
        max_new_tokens=answering.max_new_tokens,
        seed=answering.seed,
        skip_bad=True,
    )
    texts = {line["id"]: line["responses"][0].strip() for _, line in read_json_lines(output)}
    if (folder / REJECTED).exists():
        whys |= {line["id"]: line["reason"] for _, line in read_json_lines(folder / REJECTED)}
    whys |= {name: "empty: the model wrote nothing" for name, text in texts.items() if not text}
    return {name: text for name, text in texts.items() if text}, whys


def _line(one: _Asked, text: str, folder: Path) -> dict[str, Any]:
    """A line of answers.jsonl, its pictures as they are found from `folder`."""
    question = one.question
    line = {
        "id": one.id,
        "pair": question.id,
        "source": question.source,
        "question": question.text,
        "response": text,
        "response_model": one.model,
    }
    optional = {"reference": question.reference, "domain": question.domain}
    line |= {name: value for name, value in optional.items() if value}
    return with_pictures(line, question.images, folder)


def _dry_run(
    output: Path, models: Sequence[Model], asked: Sequence[_Asked], queues: dict[str, Queue]
) -> dict[str, Any]:
    found: dict[str, Any] = {"answers": len(asked), "models": {}}
    for model in models:
        mine = [one for one in asked if one.model == model.name]
        told: dict[str, Any] = {"answers": len(mine)}
        if model.name in queues:
            told |= estimated(queues[model.name], _tasks(mine), _folder(output, model) / ANSWERS)
            told.pop("first_prompt", None)
        found["models"][model.name] = told
    costs = [told["cost"] for told in found["models"].values() if "cost" in told]
    return found | ({"cost": sum(costs)} if costs else {})
