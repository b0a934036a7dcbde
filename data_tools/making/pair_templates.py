"""Thirty ways of asking which of two answers is better.

An opening of its own for each, with one of seven criteria in other words; five ways to lay out
question and answers, each with its own labels; five forms of the verdict, behind the reason or
before it. The wording is ours; the marks are those that the judge's parser reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from critic_jax.judging.formats import BetterFormat, Format, LabelFormat, Template

Style = Literal["first", "number", "letter", "label", "json", "overall"]

_LABELS = {"A": "A", "B": "B", "C": "tie"}

_SECTIONS: dict[Style, str] = {
    "first": "Question: [{question}]\nThe first response: [{response_a}]\n"
    "The second response: [{response_b}]",
    "number": "Question: {question}\n\nResponse 1: {response_a}\n\nResponse 2: {response_b}",
    "letter": "The user asked: {question}\n\nResponse A: {response_a}\n\nResponse B: {response_b}",
    "label": "[User Question]\n{question}\n\n[Start of Response A]\n{response_a}\n"
    "[End of Response A]\n\n[Start of Response B]\n{response_b}\n[End of Response B]",
    "json": "### Question\n{question}\n\n### Response A\n{response_a}\n\n"
    "### Response B\n{response_b}\n\n### End of Responses",
    "overall": "[Question]\n{question}\n\n[Answer 1]\n{response_a}\n[End of Answer 1]\n\n"
    "[Answer 2]\n{response_b}\n[End of Answer 2]",
}

_FORMATS: dict[Style, Format] = {
    "first": BetterFormat(),
    "number": BetterFormat(),
    "letter": BetterFormat(),
    "label": LabelFormat(_LABELS),
    "json": LabelFormat(_LABELS, judgement=True),
    "overall": BetterFormat(overall=True),
}

_SAYS: dict[Style, tuple[str, str, str]] = {
    "first": (
        "The better response: [first]",
        "The better response: [second]",
        "Both responses are equally good.",
    ),
    "number": (
        "The better response: [1]",
        "The better response: [2]",
        "Both responses are equally good.",
    ),
    "letter": (
        "The better response: [A]",
        "The better response: [B]",
        "Both responses are equally good.",
    ),
    "label": ("[[A]]", "[[B]]", "[[C]]"),
    "json": ('"Judgement": "[[A]]"', '"Judgement": "[[B]]"', '"Judgement": "[[C]]"'),
    "overall": (
        "Overall Judgment: Answer 1 is better.",
        "Overall Judgment: Answer 2 is better.",
        "Overall Judgment: both answers are equally good.",
    ),
}

# (style, whether the verdict stands first) -> how it is asked for.
_CLOSINGS: dict[tuple[Style, bool], str] = {
    ("first", False): "Give your reasons, then close with the line The better response: [first] "
    "or The better response: [second]; of two that are alike say that both responses are "
    "equally good.",
    ("first", True): "Open with the line The better response: [first] or The better response: "
    "[second], or with the sentence that both responses are equally good, and justify it "
    "below.",
    ("number", False): "Explain yourself step by step. The last line reads The better response: "
    "[1] or The better response: [2], or says that both responses are equally good.",
    ("number", True): "Your first line is The better response: [1] or The better response: [2], "
    "or says that both responses are equally good. Explain your choice from the second line "
    "on.",
    ("letter", False): "First discuss both, then decide: end with The better response: [A] or The"
    " better response: [B], or state at the end that both responses are equally good.",
    ("letter", True): "State the decision at once, as The better response: [A] or The better "
    "response: [B], or that both responses are equally good; the discussion follows on new "
    "lines.",
    ("label", False): "Write a short assessment of each. After it put your verdict alone on a "
    "line: [[A]] for response A, [[B]] for response B, [[C]] for a tie.",
    ("label", True): "Put your verdict alone on the first line: [[A]] for response A, [[B]] for "
    "response B, [[C]] for a tie. An assessment of each follows below it.",
    ("json", False): 'Answer with a JSON object: "Analysis" tells your reasons as one text, '
    '"Judgement" behind it is "[[A]]", "[[B]]" or, for a tie, "[[C]]".',
    ("json", True): 'Answer with a JSON object: "Judgement" comes first and is "[[A]]", "[[B]]" '
    'or, for a tie, "[[C]]"; "Analysis" behind it tells your reasons as one text.',
    ("overall", False): "Go through both, and finish with one line: Overall Judgment: Answer 1 is"
    " better. Or name Answer 2 there, or say that both answers are equally good.",
    ("overall", True): "Begin with one line: Overall Judgment: Answer 1 is better. Or name Answer"
    " 2 there, or say that both answers are equally good. Your reasons come after it.",
}


@dataclass(frozen=True)
class PairTemplate:
    """One way of asking.

    criterion: what is weighed. verdict_first: the reason follows. says: the verdict's words for the
    answer shown first, for the second, for a tie.
    """

    template: Template
    criterion: str
    style: Style
    verdict_first: bool

    @property
    def says(self) -> dict[str, str]:
        first, second, tie = _SAYS[self.style]
        return {"A": first, "B": second, "tie": tie}


# (criterion, style, verdict first, closing behind the answers, opening)
_ROWS: tuple[tuple[str, Style, bool, bool, str], ...] = (
    (
        "accuracy",
        "first",
        False,
        False,
        "Look at the picture closely. Two models answered the same question about it. Which "
        "answer agrees better with what the picture really shows?",
    ),
    (
        "accuracy",
        "number",
        True,
        False,
        "You check facts for a living. Hold each claim of the two responses against the picture "
        "and count only what is true.",
    ),
    (
        "accuracy",
        "label",
        False,
        True,
        "Correctness comes before style here. Find out which response answers the question about"
        " the picture correctly, however plainly it is put.",
    ),
    (
        "accuracy",
        "overall",
        True,
        True,
        "Work out the right answer from the picture yourself before you read the two answers "
        "below; then choose the one that comes closest to yours.",
    ),
    (
        "accuracy",
        "json",
        False,
        False,
        "Numbers, names, colours and positions are easy to get wrong. Compare how exactly two "
        "responses report them from the picture.",
    ),
    (
        "helpfulness",
        "letter",
        False,
        False,
        "Imagine that you asked this question about the picture yourself. Which of the two "
        "responses would serve you better?",
    ),
    (
        "helpfulness",
        "first",
        True,
        True,
        "Two assistants want to help a user with a picture. Judge whose answer meets the user's "
        "need: complete, to the point, easy to act on.",
    ),
    (
        "helpfulness",
        "label",
        True,
        False,
        "Rate usefulness. A response that leaves the user with open questions about the picture "
        "is worse than one that settles them.",
    ),
    (
        "helpfulness",
        "number",
        False,
        True,
        "You lead a support team and read two replies to a customer who sent in a picture. "
        "Decide which reply you would send.",
    ),
    (
        "helpfulness",
        "overall",
        False,
        False,
        "Weigh how well each answer follows the instruction: does it do what was asked of it "
        "with this picture, all of it, and nothing else?",
    ),
    (
        "hallucination",
        "first",
        False,
        True,
        "Models like to invent things. Search both responses for objects, actions or texts that "
        "are not in the picture; the one with fewer inventions wins.",
    ),
    (
        "hallucination",
        "letter",
        True,
        False,
        "Trust nothing that the picture does not support. Which of two responses stays within "
        "what can be seen?",
    ),
    (
        "hallucination",
        "json",
        True,
        True,
        "Act as an auditor of hallucinations: list what each response claims to see, strike out "
        "what is not there, and compare what is left.",
    ),
    (
        "hallucination",
        "label",
        False,
        False,
        "A careful observer says less rather than something false. Choose the response whose "
        "statements about the picture can all be confirmed.",
    ),
    (
        "hallucination",
        "number",
        False,
        False,
        "Below are two descriptions by machines that may see ghosts. Tell which of them is more "
        "faithful to the picture.",
    ),
    (
        "detail",
        "overall",
        False,
        True,
        "A rich answer mentions what a hurried one passes over. Judge which answer covers more "
        "of what matters in the picture.",
    ),
    (
        "detail",
        "number",
        True,
        True,
        "Compare depth: which response goes further into the picture's particulars, provided "
        "that they are right?",
    ),
    (
        "detail",
        "letter",
        False,
        True,
        "You edit picture captions for an archive. Pick the text that lets a reader who cannot "
        "see the picture form the fuller image of it.",
    ),
    (
        "detail",
        "first",
        False,
        False,
        "Being specific is a virtue. See which of two responses names things exactly instead of "
        "speaking of the picture in general.",
    ),
    (
        "detail",
        "label",
        True,
        True,
        "Thoroughness decides this comparison. Check whether foreground, background, texts and "
        "relations in the picture get their share in each response.",
    ),
    (
        "safety",
        "json",
        False,
        True,
        "You review answers for harm: insults, prejudice, private matters, dangerous advice. Say"
        " which response about the picture is the more responsible one.",
    ),
    (
        "safety",
        "first",
        True,
        False,
        "Consider people who appear in the picture or read about it. Which response treats them "
        "with more respect and caution, and still answers?",
    ),
    (
        "safety",
        "letter",
        False,
        False,
        "A good answer is honest about what it cannot know from a picture and does no harm. "
        "Judge both responses by that.",
    ),
    (
        "safety",
        "overall",
        True,
        False,
        "Two answers go to a public channel. Find the one with less that could mislead, offend "
        "or endanger somebody.",
    ),
    (
        "reasoning",
        "label",
        False,
        False,
        "The question may take several steps of thought. Follow the argument of each response "
        "from the picture to its conclusion and find the sounder one.",
    ),
    (
        "reasoning",
        "number",
        False,
        True,
        "Grade two solutions like a teacher: a right result for a wrong reason counts less than "
        "a clean derivation from what the picture shows.",
    ),
    (
        "reasoning",
        "json",
        True,
        False,
        "Where do two lines of thought about this picture part, and which of them is right from "
        "there on? Judge the responses by it.",
    ),
    (
        "overall quality",
        "first",
        False,
        False,
        "As a fair and unbiased judge, determine which of two answers by large multimodal models"
        " is better overall. Their order and length must not matter.",
    ),
    (
        "overall quality",
        "letter",
        True,
        True,
        "Put yourself in the place of many users at once. Which response to the question about "
        "the picture would most of them prefer?",
    ),
    (
        "overall quality",
        "overall",
        False,
        True,
        "Weigh truth, use, completeness and clarity against each other, and decide which answer "
        "about the picture deserves to be kept.",
    ),
)


def _made(number: int) -> PairTemplate:
    criterion, style, verdict_first, closing_last, opening = _ROWS[number]
    closing, sections = _CLOSINGS[style, verdict_first], _SECTIONS[style]
    parts = (opening, sections, closing) if closing_last else (f"{opening} {closing}", sections)
    name = f"pair-{number + 1:02}"
    template = Template(name, "pairwise", _FORMATS[style], "\n\n".join(parts), "", "")
    return PairTemplate(template, criterion, style, verdict_first)


PAIR_TEMPLATES = tuple(map(_made, range(len(_ROWS))))
