"""Judgments of single answers, asked in the styles of seven benchmarks: LLaVA-Critic, section 3.1.

Of each answer an evaluation prompt is drawn, the annotator judges and gives its reason, and what
the judge's own parser reads is kept. Some benchmarks show the answer beside another one: there the
reference stands, and where a file has none, the answer of another model to the same question.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging.endpoint import Reply
from critic_jax.judging.judgment import winner
from critic_jax.judging.templates import Template, get_template
from critic_jax.judging.verdicts import parse_verdict

from .annotator import ANNOTATIONS, Annotator, annotated, estimated, leave
from .cases import Case, read_cases
from .draw import fraction, one_of
from .packing import pack, picture_key, with_pictures
from .queue import Task

BENCHMARKS = ("llava-bench", "llava-wilder", "caption", "mmhal", "mmvet", "wildvision", "refomb")
"""LLaVA-in-the-Wild, LLaVA-Wilder, detailed captioning, MMHal-Bench, MMVet, WildVision, RefoMB."""

_ASKS_FOR_A_CAPTION = re.compile(r"\b(?:describ|descri|caption|depict)", re.IGNORECASE)
_NEEDS_REFERENCE = ("llava-wilder", "mmvet")  # both hold the answer against one known to be right
_REFERENCE_FIRST = ("llava-bench", "llava-wilder")  # the benchmarks' own order

AGAIN = "#again"


@dataclass(frozen=True)
class Drawn:
    """An answer with its evaluation prompt; of a comparison, what stands first and second."""

    case: Case
    template: Template
    texts: Mapping[str, str]

    @property
    def prompt(self) -> str:
        return self.template.render(**self.texts)

    def check(self, reply: Reply) -> str:
        """Why a judgment cannot be read; "" where it can."""
        return parse_verdict(reply.text, self.template, complete=reply.complete).why

    def task(self, again: bool = False) -> Task:
        name = self.case.id + (AGAIN if again else "")
        return Task(name, self.case.images, self.prompt, self.check, again)


def make_pointwise(
    source: Path,
    output: Path,
    annotator: Annotator,
    templates: Sequence[str] = BENCHMARKS,
    hold_back: float = 0.0,
    reask_share: float = 0.0,
    seed: int = 0,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Judge the answers of `source` into the folder `output`; the summary, or of a dry run the
    estimate.

    templates: what is drawn from. hold_back: the share of pictures whose judgments make a set to
    measure agreement on, `agreement/input.jsonl` and `labels.jsonl`, and no records. reask_share:
    the share of answers that are judged a second time, sampled, to see how far the annotator agrees
    with itself. Raises InputError for wrong options or a file without an answer.
    """
    _check_share("hold-back", hold_back)
    _check_share("reask-share", reask_share)
    known = [get_template(name) for name in dict.fromkeys(templates)]
    if not known:
        raise InputError("--templates names none; leave it out for the seven benchmarks")
    cases, wrong = read_cases(source)
    rejected: list[dict[str, Any]] = [vars(bad) for bad in wrong]
    drawn, unfit = draw(cases, known, seed)
    rejected += unfit
    tasks = [one.task() for one in drawn]
    tasks += [
        one.task(again=True) for one in drawn if fraction(seed, "again", one.case.id) < reask_share
    ]
    queue = annotator.queue(output)
    if dry_run:
        planned = dict(Counter(one.template.name for one in drawn))
        return {"templates": planned, **estimated(queue, tasks, output / ANNOTATIONS)}
    lines = annotated(queue, tasks, output / ANNOTATIONS)
    records: list[dict[str, Any]] = []
    inputs: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    kept: Counter[str] = Counter()
    for one in drawn:
        line = lines[one.case.id]
        try:
            if line["why"]:
                raise InputError(line["why"])
            shared = picture_key(one.case.images) or one.case.pair
            held = fraction(seed, "held", shared) < hold_back
            if held:
                folder = output / "agreement"
                inputs.append(with_pictures(_judge_line(one), one.case.images, folder))
                labels.append(_label(one, line["text"]))
            else:
                records.append(with_pictures(_record(one, line["text"]), one.case.images, output))
                kept[one.template.name] += 1
        except InputError as error:
            rejected.append({"line": one.case.line, "id": one.case.id, "reason": str(error)})
    if hold_back:
        write_json_lines(output / "agreement" / "input.jsonl", inputs)
        write_json_lines(output / "agreement" / "labels.jsonl", labels)
    counts: dict[str, Any] = {"templates": dict(kept), "held_back": len(labels)}
    if reask_share:
        counts["agreement_with_itself"] = _agreement(drawn, lines)
    return leave(output, records, rejected, counts, queue)


def draw(
    cases: Sequence[Case], templates: Sequence[Template], seed: int
) -> tuple[list[Drawn], list[dict[str, Any]]]:
    """Each answer with one of the templates that fit it; those that none fits, as rejections.

    A line's own `template` goes before any draw.
    """
    others: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        others[case.pair].append(case)
    drawn, unfit = [], []
    for case in cases:
        rivals = [o for o in others[case.pair] if o.response != case.response]
        try:
            wanted = [get_template(case.template)] if case.template else templates
            fitting = [t for t in wanted if _fits(t, case, rivals)]
            if not fitting:
                names = ", ".join(t.name for t in wanted)
                raise InputError(f"no reference and no other answer, as {names} would need")
            template = one_of(fitting, seed, "template", case.id)
            one = Drawn(case, template, _texts(template, case, rivals, seed))
            pack(case.id, case.source, case.images, one.prompt, "Score: 1")
            drawn.append(one)
        except InputError as error:
            unfit.append({"line": case.line, "id": case.id, "reason": str(error)})
    return drawn, unfit


def _fits(template: Template, case: Case, rivals: Sequence[Case]) -> bool:
    if template.kind == "batch":
        return False
    if template.name == "caption" and not case.template:
        return _ASKS_FOR_A_CAPTION.search(case.question) is not None
    if template.name in _NEEDS_REFERENCE:
        return bool(case.reference)
    return template.kind == "pointwise" or bool(case.reference) or bool(rivals)


def _texts(template: Template, case: Case, rivals: Sequence[Case], seed: int) -> dict[str, str]:
    texts = {"question": case.question}
    if template.kind == "pointwise":
        texts["response"] = case.response
        return texts | ({"reference": case.reference} if case.reference else {})
    other = case.reference or one_of(rivals, seed, "rival", case.id).response
    first = template.name not in _REFERENCE_FIRST and fraction(seed, "first", case.id) < 0.5
    pair = (case.response, other) if first else (other, case.response)
    return texts | {"response_a": pair[0], "response_b": pair[1]}


def _record(one: Drawn, text: str) -> dict[str, Any]:
    case = one.case
    told = {"domain": case.domain, "response_model": case.response_model}
    source = case.source or one.template.name
    return pack(case.id, source, case.images, one.prompt, text.strip(), **told)


def _judge_line(one: Drawn) -> dict[str, Any]:
    return {"id": one.case.id, "template": one.template.name, **one.texts}


def _label(one: Drawn, text: str) -> dict[str, Any]:
    verdict = parse_verdict(text, one.template)
    label: dict[str, Any] = {"id": one.case.id, "response_model": one.case.response_model}
    if verdict.score is not None:
        return label | {"score": verdict.score}
    if verdict.scores is not None:
        label["scores"] = list(verdict.scores)
    return label | {"verdict": verdict.verdict}


def _agreement(
    drawn: Sequence[Drawn], lines: Mapping[str, Mapping[str, Any]]
) -> dict[str, float | int | None]:
    """How far second judgments agree with the first.

    same_winner: share of comparisons with the same winner. score_difference: mean distance of two
    scores, as a share of their scale.
    """
    same: list[bool] = []
    apart: list[float] = []
    for one in drawn:
        second = lines.get(one.case.id + AGAIN)
        if second is None or second["why"] or lines[one.case.id]["why"]:
            continue
        first = parse_verdict(lines[one.case.id]["text"], one.template)
        again = parse_verdict(second["text"], one.template)
        if first.score is not None and again.score is not None:
            form: Any = one.template.format
            apart.append(abs(first.score - again.score) / (form.high - form.low))
        else:
            same.append(winner(first.verdict) == winner(again.verdict))
    return {
        "compared": len(same) + len(apart),
        "same_winner": sum(same) / len(same) if same else None,
        "score_difference": sum(apart) / len(apart) if apart else None,
    }


def _check_share(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise InputError(f"--{name} is {share:g}; it must be 0 or more and below 1")
