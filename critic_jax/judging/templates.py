"""The questions that a judge is asked, as a table of templates.

A template turns a question and one answer (pointwise) or two (pairwise) into the text of the user's
turn, and says in which format the verdict comes back; `verdicts.parse_verdict` reads that format.
The wording is our own. The section markers and the verdict markers are those of the benchmarks and
of LLaVA-Critic's training data, because a critic has learned to answer to them.

To add a template, add a row to `_TABLE`. In a body, `{question}`, `{response}`, `{response_a}` and
`{response_b}` stand for the texts, `{criteria}` and `{reference}` for optional sections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from critic_jax.errors import InputError

Kind = Literal["pointwise", "pairwise"]


@dataclass(frozen=True)
class ScoreFormat:
    """One number between `low` and `high` behind a marker.

    Markers: "score" is `Score: N` and its usual spellings, "final-score" is `Final Score: N`,
    "rating" is `Rating: N`, "rating-brackets" is `Rating: [[N]]`, "result" is `[RESULT] N`.
    `whole`: only whole numbers are on the scale. `bare`: a text that is just the number counts.
    """

    marker: Literal["score", "final-score", "rating", "rating-brackets", "result"]
    low: float
    high: float
    whole: bool = False
    bare: bool = False


@dataclass(frozen=True)
class TwoScoreFormat:
    """Two numbers between `low` and `high` on the first line: answer A's, then answer B's."""

    low: float
    high: float


@dataclass(frozen=True)
class LabelFormat:
    """A label in double square brackets. `labels` maps what stands inside to the verdict."""

    labels: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True)
class BetterFormat:
    """`The better response: [first]`, or a statement that both are equally good."""


Format = ScoreFormat | TwoScoreFormat | LabelFormat | BetterFormat

_SLOT = re.compile(r"\{(question|response_a|response_b|response|criteria|reference)\}")


@dataclass(frozen=True)
class Template:
    """One way of asking for a verdict.

    `criteria_section` and `reference_section` are inserted, with their text, only when that text is
    given. `default_criteria` is used where a format makes no sense without criteria.
    """

    name: str
    kind: Kind
    format: Format
    body: str
    criteria_section: str
    reference_section: str
    default_criteria: str | None = None

    def render(
        self,
        *,
        question: str,
        response: str | None = None,
        response_a: str | None = None,
        response_b: str | None = None,
        reference: str | None = None,
        criteria: str | None = None,
    ) -> str:
        """The text of the user's turn, without the picture's placeholder.

        Every given text stands in the result exactly as it is: braces, markers and line ends in it
        are not looked at. Raises InputError when the answers do not suit the template's kind.
        """
        single, pair = response is not None, (response_a is not None, response_b is not None)
        if self.kind == "pointwise" and (not single or any(pair)):
            raise InputError(
                f"template {self.name} judges one answer: "
                "give response, and neither response_a nor response_b"
            )
        if self.kind == "pairwise" and (single or not all(pair)):
            raise InputError(
                f"template {self.name} compares two answers: "
                "give response_a and response_b, and no response"
            )
        if criteria is None:
            criteria = self.default_criteria
        texts: dict[str, str] = {
            "question": question,
            "response": response or "",
            "response_a": response_a or "",
            "response_b": response_b or "",
            "criteria": ""
            if criteria is None
            else self.criteria_section.replace("{}", criteria, 1),
            "reference": ""
            if reference is None
            else self.reference_section.replace("{}", reference, 1),
        }
        return _SLOT.sub(lambda slot: texts[slot.group(1)], self.body)

    def fixed_lines(self) -> tuple[str, ...]:
        """The template's own words line by line, in order, cut where a text is inserted."""
        fragments = re.split(_SLOT.pattern.replace("(", "(?:"), self.body)
        lines = (line.strip() for fragment in fragments for line in fragment.split("\n"))
        return tuple(line for line in lines if len(line) > 5)

    def openers(self) -> tuple[str, ...]:
        """The words on the line before each judged answer, such as `The LMM response: [`."""
        found = re.finditer(r"([^\n{}]+)\n?\{response(?:_a|_b)?\}", self.body)
        return tuple(match.group(1).strip() for match in found)


_LINE_CRITERIA = "Criteria: [{}]\n"
_LINE_REFERENCE = "Reference answer: [{}]\n"

_CRITIC_POINTWISE = """\
You see a picture and a question about it, and you are an unbiased and fair judge of the answer \
that a Large Multimodal Model (LMM) gave. Score the response out of 100 and explain the score \
with specific details. Close with the line Score: N. The case to judge:
{criteria}Question: [{question}]
{reference}The LMM response: [{response}]
ASSISTANT:"""

_CRITIC_PAIRWISE = """\
You see a picture and a question about it, and you are an unbiased and fair judge of two answers \
that Large Multimodal Models (LMMs) gave. Determine which answer is better and explain why with \
specific details. Close with the line The better response: [first] or The better response: \
[second], or say that both are equally good. The case to judge:
{criteria}Question: [{question}]
{reference}The first response: [{response_a}]
The second response: [{response_b}]
ASSISTANT:"""

_LLAVA_BENCH = """\
[Question]
{question}

{reference}[Assistant 1]
{response_a}
[End of Assistant 1]

[Assistant 2]
{response_b}
[End of Assistant 2]

{criteria}[System]
Two AI assistants answered the question above about the picture that you see. Rate how helpful, \
relevant, accurate and detailed each answer is, with one overall score from 1 to 10 for each; \
higher is better.
Write on the first line nothing but the two scores, of Assistant 1 and of Assistant 2, with a \
space in between. Explain your evaluation from the second line on, without bias and without \
regard to the order of the answers."""

_WILDVISION = """\
[System]
As an impartial judge, compare the answers of two AI assistants to the user prompt below about \
the picture that you see. Solve the prompt yourself first, then compare both answers with your \
own: are they correct, helpful, relevant and concise, and what do they leave out? The order of \
the answers must not matter.
After your explanation give exactly one of these verdicts, on a line of its own:
1. Assistant A is significantly better: [[A>>B]]
2. Assistant A is slightly better: [[A>B]]
3. Both are about as good: [[A=B]]
4. Assistant B is slightly better: [[B>A]]
5. Assistant B is significantly better: [[B>>A]]

{criteria}<|User Prompt|>
{question}

{reference}<|The Start of Assistant A's Answer|>
{response_a}
<|The End of Assistant A's Answer|>

<|The Start of Assistant B's Answer|>
{response_b}
<|The End of Assistant B's Answer|>"""

_CAPTION = """\
Judge how well a text caption describes the picture that you see: is what it says there to be \
seen, does it miss anything important, does it invent anything?
From 0 to 100, how do you rate the caption? Explain first, then close with the line Final Score: \
N.
{criteria}Instruction: {question}
{reference}Text Caption: {response}
[End of Caption]"""

_MT_BENCH = """\
[System]
As an impartial judge, compare the answers of two AI assistants to the user question below about \
the picture that you see. Weigh helpfulness, relevance, accuracy, depth and detail. Neither the \
order nor the length of the answers nor the names of the assistants may sway you. Explain first, \
then close with your verdict in this exact form: [[A]] if assistant A is better, [[B]] if \
assistant B is better, [[C]] for a tie.

{criteria}[User Question]
{question}

{reference}[The Start of Assistant A's Answer]
{response_a}
[The End of Assistant A's Answer]

[The Start of Assistant B's Answer]
{response_b}
[The End of Assistant B's Answer]"""

_MMHAL = """\
Judge how informative a response about the picture that you see is, and whether it hallucinates: \
whether it says anything that neither the picture nor the reference supports. Explain first, \
then close with the line Rating: N, where N is a whole number from 0 to 6:
6 is very informative with good analysis, no hallucination
5 is very informative, no hallucination
4 is somewhat informative, no hallucination
3 is not informative, no hallucination
2 is very informative, with hallucination
1 is somewhat informative, with hallucination
0 is not informative, with hallucination

{criteria}### Question
{question}

{reference}### LMM Response to Evaluate
{response}

### Evaluation"""

_MMVET = """\
Compare the prediction with the ground truth, where there is one, and with the picture that you \
see, and say how correct the prediction is: from 0.0 (all wrong) to 1.0 (all right), in steps of \
0.1. Parts of the ground truth joined by <AND> must all be met, of parts joined by <OR> one is \
enough. Close with the line Score: N.
{criteria}Question: {question}
{reference}Prediction: {response}
[End of Prediction]"""

_AUTO_J = """\
Write a critique of a submitted response to a user's query about the picture that you see, then \
grade the response overall on a scale of 1 to 10. Close with the grade in this exact form: \
Rating: [[N]].

[BEGIN DATA]
***
{criteria}[Query]: {question}
***
{reference}[Response]: {response}
***
[END DATA]"""

_PROMETHEUS = """\
###Task Description:
You see a picture and are given an instruction, a response to evaluate and a score rubric.
1. Write detailed feedback that judges the response by the rubric alone, not in general.
2. After the feedback write a score that is a whole number from 1 to 5, as the rubric says.
3. The output looks like this: "Feedback: (your feedback) [RESULT] (a whole number from 1 to 5)"

###The instruction to evaluate:
{question}

###Response to evaluate:
{response}

{reference}{criteria}###Feedback:"""

_BRACKET_CRITERIA = "[Criteria]\n{}\n[End of Criteria]\n\n"
_BRACKET_REFERENCE = "[Reference Answer]\n{}\n[End of Reference Answer]\n\n"

_TABLE: tuple[Template, ...] = (
    Template(
        "critic-pointwise",
        "pointwise",
        ScoreFormat("score", 0, 100, bare=True),
        _CRITIC_POINTWISE,
        _LINE_CRITERIA,
        _LINE_REFERENCE,
    ),
    Template(
        "critic-pairwise",
        "pairwise",
        BetterFormat(),
        _CRITIC_PAIRWISE,
        _LINE_CRITERIA,
        _LINE_REFERENCE,
    ),
    Template(
        "llava-bench",
        "pairwise",
        TwoScoreFormat(1, 10),
        _LLAVA_BENCH,
        _BRACKET_CRITERIA,
        _BRACKET_REFERENCE,
    ),
    Template(
        "wildvision",
        "pairwise",
        LabelFormat({label: label for label in ("A>>B", "A>B", "A=B", "B>A", "B>>A")}),
        _WILDVISION,
        "<|Criteria|>\n{}\n\n",
        "<|The Start of Reference Answer|>\n{}\n<|The End of Reference Answer|>\n\n",
    ),
    Template(
        "caption",
        "pointwise",
        ScoreFormat("final-score", 0, 100),
        _CAPTION,
        "Criteria: {}\n",
        "Reference Caption: {}\n",
    ),
    Template(
        "mt-bench",
        "pairwise",
        LabelFormat({"A": "A", "B": "B", "C": "tie"}),
        _MT_BENCH,
        _BRACKET_CRITERIA,
        _BRACKET_REFERENCE,
    ),
    Template(
        "mmhal",
        "pointwise",
        ScoreFormat("rating", 0, 6, whole=True),
        _MMHAL,
        "### Criteria\n{}\n\n",
        "### Standard Human-Generated Answer\n{}\n\n",
    ),
    Template(
        "mmvet",
        "pointwise",
        ScoreFormat("score", 0, 1, bare=True),
        _MMVET,
        "Criteria: {}\n",
        "Ground truth: {}\n",
    ),
    Template(
        "auto-j",
        "pointwise",
        ScoreFormat("rating-brackets", 1, 10),
        _AUTO_J,
        "[Criteria]: {}\n***\n",
        "[Reference]: {}\n***\n",
    ),
    Template(
        "prometheus",
        "pointwise",
        ScoreFormat("result", 1, 5, whole=True),
        _PROMETHEUS,
        "###Score Rubrics:\n{}\n\n",
        "###Reference Answer (Score 5):\n{}\n\n",
        default_criteria="Is the response correct, helpful and true to the picture? "
        "1 is not at all, 3 is in part, 5 is fully.",
    ),
)

_BY_NAME = {template.name: template for template in _TABLE}


def template_names() -> tuple[str, ...]:
    """The names that `get_template` knows, in the order of the table."""
    return tuple(_BY_NAME)


def get_template(name: str) -> Template:
    """The template of that name. Raises InputError, with the known names, when there is none."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise InputError(
            f"no template is called {name!r}; there are {', '.join(_BY_NAME)}"
        ) from None
