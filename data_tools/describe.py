"""What a record's own words tell of it: the judge's format, the task, the verdict, lengths."""

from __future__ import annotations

import re
from dataclasses import dataclass

from critic_jax.data import Record
from critic_jax.judging.templates import get_template
from critic_jax.judging.verdicts import parse_verdict

# How a record's last answer states its verdict -> a template of that format. The formats of pairs
# come first: inside a comparison a single number may be named, but not the other way round.
KINDS = {
    "pair: [[A>>B]] to [[B>>A]]": "wildvision",
    "pair: [[A]] [[B]] [[C]]": "mt-bench",
    "pair: better response": "critic-pairwise",
    "pair: Overall Judgment": "vl-rewardbench",
    "pair: Judgement [[A]] [[B]] [[C]]": "mllm-judge-pair",
    "pair: two scores": "llava-bench",
    "score: Final Score": "caption",
    "score: [RESULT]": "prometheus",
    "score: Rating [[N]]": "auto-j",
    "score: Rating": "mmhal",
    "score: Score": "critic-pointwise",
}
NO_VERDICT = "no verdict"

# What only that format's prompt holds -> the template, and the task it was written for.
_PROMPTS: tuple[tuple[str, str, str], ...] = (
    (r"<\|The Start of Assistant A's Answer\|>", "wildvision", "chat in the wild"),
    (r"\[The Start of Assistant A's Answer\]", "mt-bench", "preference"),
    (r"\[End of Assistant 1\]", "llava-bench", "visual chat"),
    (r"###\s*Task Description:", "prometheus", "rubric"),
    (r"\[BEGIN DATA\][\s\S]*\[END DATA\]", "auto-j", "critique"),
    (r"Text Caption:", "caption", "detailed description"),
    (
        r"###\s*LMM Response to Evaluate|### Standard Human-Generated Answer",
        "mmhal",
        "hallucination",
    ),
    (r"(?i)\bground truth\b[\s\S]*\bprediction\b", "mmvet", "integrated capabilities"),
    (
        r"(?im)^\s*(?:the (?:first|second) response|response [12ab])\s*:",
        "critic-pairwise",
        "preference",
    ),
    (r"(?im)^\s*the LMM response\s*:", "critic-pointwise", "single answer"),
)
_COMPILED = tuple((re.compile(words), template, task) for words, template, task in _PROMPTS)
OTHER = "other"
NOT_TOLD = "not told"


@dataclass(frozen=True)
class About:
    """A record in figures.

    kind: the format in which the last answer states a verdict, `NO_VERDICT` for none.
    template, task: the format of the prompt and what it is for, `OTHER` where it is none we know.
    domain, response_model: as the record tells, `NOT_TOLD` where it does not. It may tell the task.
    score: the number of a verdict that is one, on the scale of its format; `scale` is its top.
    verdict: of a verdict on two answers: A>>B, A>B, A=B, B>A, B>>A, or A, B, tie.
    """

    kind: str
    template: str
    task: str
    domain: str
    response_model: str
    score: float | None
    scale: float | None
    verdict: str | None
    turns: int
    prompt_characters: int
    answer_characters: int


def describe(record: Record) -> About:
    """A record's figures; its pictures are not opened."""
    template, task = prompt_template(record)
    kind, score, scale, verdict = _verdict(record.conversations[-1]["value"], template)
    return About(
        kind,
        template,
        record.told.get("task", task),
        record.told.get("domain", NOT_TOLD),
        record.told.get("response_model", NOT_TOLD),
        score,
        scale,
        verdict,
        len(record.conversations),
        _characters(record, ("human", "user")),
        _characters(record, ("gpt", "assistant")),
    )


def prompt_template(record: Record) -> tuple[str, str]:
    """(template, task) by the marks that only one format's prompt holds."""
    prompt = "\n".join(turn["value"] for turn in record.conversations[:-1])
    for mark, template, task in _COMPILED:
        if mark.search(prompt):
            return template, task
    return OTHER, OTHER


def _verdict(answer: str, template: str) -> tuple[str, float | None, float | None, str | None]:
    """(kind, score, scale, verdict), read as the prompt asked where it is known.

    A known prompt goes first: `Score: 0.8` is on another scale behind MMVet's prompt.
    """
    asked = [] if template == OTHER else [template]
    for name in (*asked, *KINDS.values()):
        found = parse_verdict(answer, template=name)
        if found.state == "unparsed":
            continue
        kind = next((k for k, t in KINDS.items() if t == name), "score: Score")
        scale = getattr(get_template(name).format, "high", None)
        return kind, found.score, scale if found.score is not None else None, found.verdict
    return NO_VERDICT, None, None, None


def _characters(record: Record, speakers: tuple[str, ...]) -> int:
    return sum(len(turn["value"]) for turn in record.conversations if turn["from"] in speakers)
