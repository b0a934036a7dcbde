"""How a critic in training judges records that were held out, held against their own verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax.numpy as jnp

from critic_jax.checkpoints import Checkpoint, prescribed
from critic_jax.data import Record
from critic_jax.data.encode import Encoder
from critic_jax.errors import InputError
from critic_jax.evaluation.agreement import agreement
from critic_jax.judging.templates import Template, get_template, template_names
from critic_jax.judging.verdicts import Verdict, parse_verdict
from critic_jax.models.build import Params, assemble
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.training.config import TrainConfig
from critic_jax.training.tuning import tuning_of
from critic_jax.training.validation import Asked, Judge
from critic_jax.tree import Path

BATCH = 32


@dataclass(frozen=True)
class _Question:
    """What is asked, and the verdict that the record gives on it."""

    path: Path
    template: Template
    verdict: Verdict


def held_out_judge(config: TrainConfig, start: Checkpoint, records: Iterable[Record]) -> Judge:
    """A judge of the first `config.validation_judged` records whose answer states a verdict.

    Parameters answer each record's question, greedily as `critic-jax judge` does. In the numbers
    that come back are, as `agreement` counts them, `validation_agreement` (of comparisons),
    `validation_pearson` (of scores) and `validation_unparsed`; what nothing was asked of is left
    out. Raises InputError if no record states a verdict.
    """
    encoder = Encoder(start.tokenizer, start.geometry)
    questions = list(islice(_questions(records, encoder), config.validation_judged))
    if not questions:
        raise InputError("validation_judged: none of the records held out states a verdict")
    labels = _lines(question.verdict for question in questions)
    sampling = Sampling(**{"max_new_tokens": 512, **prescribed(start.meta)})

    def judge(params: Params, asked: Asked) -> dict[str, float]:
        model = assemble(start.config, params, jnp.dtype(config.dtype), tuning_of(config).lora)
        engine = Engine(model, start.tokenizer.stop_ids, min(BATCH, len(questions)))
        verdicts: list[Verdict] = []
        for at in range(0, len(questions), engine.batch):
            if asked():
                return {}
            verdicts += _answered(engine, start, questions[at : at + engine.batch], sampling)
        found = agreement(_lines(verdicts), labels)
        named = {
            "validation_agreement": found["pairwise_accuracy"],
            "validation_pearson": found["pointwise_pearson"],
            "validation_unparsed": found["unparsed_rate"],
        }
        return {name: value for name, value in named.items() if value is not None}

    return judge


def _questions(records: Iterable[Record], encoder: Encoder) -> Iterator[_Question]:
    # Comparisons first: a single number may be named inside one, but not the other way round.
    templates = sorted(map(get_template, template_names()), key=lambda t: t.kind != "pairwise")
    for record in records:
        for template in templates:
            verdict = parse_verdict(record.conversations[-1]["value"], template)
            if verdict.state != "unparsed":
                path = encoder.question(record, encoder.visuals(record))
                yield _Question(path, template, verdict)
                break


def _answered(
    engine: Engine, start: Checkpoint, questions: Sequence[_Question], sampling: Sampling
) -> list[Verdict]:
    """The verdicts that a model gives."""
    verdicts = []
    answers = engine.generate([q.path for q in questions], sampling)
    for question, (answer,) in zip(questions, answers, strict=True):
        text = start.tokenizer.decode(list(answer.tokens))
        complete = answer.finish == "stop"
        verdicts.append(parse_verdict(text, question.template, complete=complete))
    return verdicts


def _lines(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Verdicts as lines of results or labels; their places are their ids."""
    lines = []
    for place, verdict in enumerate(verdicts):
        fields = {"score": verdict.score, "verdict": verdict.verdict}
        given = {name: value for name, value in fields.items() if value is not None}
        lines.append({"id": place, "state": verdict.state, **given})
    return lines
