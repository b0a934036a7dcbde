"""Questions about a digit, and simulated response models that answer them.

An answer is a *claim* (the digit it names, odd or even, yes or no) put in one of many wordings.
The skill of a model decides whether the claim is right; its style decides the wording. Every
skill comes with every style, so that no wording says anything about being right.
"""

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["digit", "parity"]
Style = Literal["terse", "wordy", "confident", "hedging"]
Grade = Literal["right", "close", "wrong"]

KINDS: tuple[Kind, ...] = ("digit", "parity")
KIND_SHARES: dict[Kind, int] = {"digit": 4, "parity": 1}
STYLES: tuple[Style, ...] = ("terse", "wordy", "confident", "hedging")
SKILLS = (0.95, 0.75, 0.5, 0.2)

# Digits that a hasty reader takes for each other. The relation is a perfect matching, so a wrong
# answer drawn with it is as likely to be "b for a" as "a for b": the two claims of a pair do not
# tell which one is right.
LOOKALIKE = {0: 6, 6: 0, 1: 7, 7: 1, 2: 8, 8: 2, 3: 5, 5: 3, 4: 9, 9: 4}
LOOKALIKE_SHARE = 1 / 3


QUESTIONS: dict[Kind, tuple[str, ...]] = {
    "digit": (
        "Which digit is this?",
        "What number is written here?",
        "Which digit does the scan show?",
        "Read the handwritten digit.",
    ),
    "parity": (
        "Is the digit odd or even?",
        "Is this number odd or even?",
        "Odd or even: which is the number in the scan?",
    ),
}

# Slots: {d} 7, {a}/{A} the article of the digit, {v}/{V} odd or even.
#
# An answer that training sees is put together anew each time, from a core and a lead or a tail:
# hundreds of sentences, so that a critic learns to find the claim in any, not to know each one.
CORES: dict[Kind, tuple[str, ...]] = {
    "digit": (
        "{d}",
        "{a} {d}",
        "it is {d}",
        "it is {a} {d}",
        "this is {a} {d}",
        "the digit is {d}",
        "the number is {d}",
        "the picture shows {a} {d}",
        "the scan shows the digit {d}",
        "I see {a} {d}",
        "somebody wrote {a} {d}",
        "here stands the number {d}",
        "the strokes make {a} {d}",
        "one reads {d}",
        "what is written is {d}",
        "the pen drew {a} {d}",
    ),
    "parity": (
        "{v}",
        "it is {v}",
        "the digit is {v}",
        "it is an {v} number",
        "this is an {v} digit",
        "the number is {v}",
        "I see an {v} number",
        "somebody wrote an {v} digit",
    ),
}
_LEADS: dict[Style, tuple[str, ...]] = {
    "terse": ("",),
    "wordy": (
        "Well, ",
        "Looking at the scan, ",
        "From the strokes, ",
        "In this picture ",
        "As far as the ink goes, ",
        "Let me see: ",
        "On the paper ",
        "At first sight ",
        "After a close look, ",
        "We see that ",
    ),
    "confident": (
        "Clearly ",
        "Certainly ",
        "Without doubt ",
        "I am sure that ",
        "Definitely ",
        "Of course ",
        "No question: ",
    ),
    "hedging": (
        "Maybe ",
        "Perhaps ",
        "I think ",
        "Possibly ",
        "I am not sure, but ",
        "It is hard to tell, but ",
        "I would guess ",
    ),
}
_TAILS: dict[Style, tuple[str, ...]] = {
    "terse": ("", ".", "!"),
    "wordy": (
        ", written by hand.",
        ", drawn with a pen.",
        " in dark ink.",
        " on white paper.",
        ", as asked.",
    ),
    "confident": ("!", ", no question.", ", without doubt.", ", I am certain."),
    "hedging": (
        ", but I am not sure.",
        ", maybe.",
        ", though it is hard to tell.",
        ", or so it seems.",
    ),
}

# Training never sees these sentences, only (most of) their words in other places.
HELD_OUT_WORDINGS: dict[tuple[Kind, Style], tuple[str, ...]] = {
    ("digit", "terse"): ("The digit {d}.", "Number {d}."),
    ("digit", "wordy"): (
        "In this scan we see the number {d}, written by hand.",
        "I see that the picture shows {a} {d}.",
    ),
    ("digit", "confident"): (
        "I am sure the digit is {d}.",
        "Clearly the number {d}, without doubt.",
    ),
    ("digit", "hedging"): (
        "I am not sure, perhaps it is {a} {d}.",
        "Maybe the scan shows {a} {d}, it is hard to tell.",
    ),
    ("parity", "terse"): ("An {v} digit.",),
    ("parity", "wordy"): ("The scan shows an {v} number.",),
    ("parity", "confident"): ("No doubt, it is {v}.",),
    ("parity", "hedging"): ("Maybe an {v} digit, but it is hard to tell.",),
}


@dataclass(frozen=True)
class Question:
    """A question about one picture."""

    kind: Kind
    text: str

    def truth(self, digit: int) -> str:
        """The right claim about a picture of `digit`."""
        if self.kind == "digit":
            return str(digit)
        return "odd" if digit % 2 else "even"

    def grade(self, digit: int, claim: str) -> Grade:
        """How good a claim is: close is a digit that is easily taken for the one shown."""
        if claim == self.truth(digit):
            return "right"
        if self.kind == "digit" and int(claim) == LOOKALIKE[digit]:
            return "close"
        return "wrong"

    def fact(self, digit: int) -> str:
        """What the picture shows, as far as this question needs it."""
        shown = f"The picture shows a {digit}"
        return f"{shown}, {self.truth(digit)}" if self.kind == "parity" else shown


@dataclass(frozen=True)
class Answer:
    """What a simulated model said: its claim, the style and the words."""

    claim: str
    style: Style
    text: str

    @property
    def sure(self) -> bool:
        return self.style != "hedging"


@dataclass(frozen=True)
class ResponseModel:
    """A simulated model: right with probability `skill`, speaking in one style."""

    skill: float
    style: Style

    @property
    def name(self) -> str:
        return f"{self.style}-{round(100 * self.skill)}"

    def answer(
        self, question: Question, digit: int, draw: random.Random, heldout: bool = False
    ) -> Answer:
        """Answer a question about a picture of `digit`, in words held out from training or not."""
        if draw.random() < self.skill:
            claim = question.truth(digit)
        else:
            claim = wrong_claim(question, digit, draw)
        return word_answer(question, claim, self.style, draw, heldout)


RESPONSE_MODELS = tuple(ResponseModel(skill, style) for skill in SKILLS for style in STYLES)


def ask(kind: Kind, draw: random.Random) -> Question:
    """A question of one kind, in a random wording."""
    return Question(kind, draw.choice(QUESTIONS[kind]))


def ask_any(draw: random.Random) -> Question:
    """A question of either kind, digits four times as often as parity."""
    return ask(draw.choices(KINDS, weights=[KIND_SHARES[k] for k in KINDS])[0], draw)


def wrong_claim(question: Question, digit: int, draw: random.Random) -> str:
    """A wrong claim; for a digit the lookalike in a third of the cases, else any other one."""
    if question.kind == "parity":
        return "even" if digit % 2 else "odd"
    if draw.random() < LOOKALIKE_SHARE:
        return str(LOOKALIKE[digit])
    return str(draw.choice([d for d in range(10) if d not in (digit, LOOKALIKE[digit])]))


def word_answer(
    question: Question, claim: str, style: Style, draw: random.Random, heldout: bool = False
) -> Answer:
    """Put a claim into words of the style."""
    if heldout:
        wording = draw.choice(HELD_OUT_WORDINGS[question.kind, style])
    else:
        wording = compose(question.kind, style, draw)
    return Answer(claim, style, fill(wording, question, claim))


def compose(kind: Kind, style: Style, draw: random.Random) -> str:
    """A wording for training: a core with a lead or a tail of the style."""
    core = draw.choice(CORES[kind])
    leads = draw.random() < 0.5
    wording = f"{draw.choice(_LEADS[style])}{core}." if leads else core + draw.choice(_TAILS[style])
    # A slot of the claim at the start has a capital form of its own.
    if wording.startswith(("{a}", "{v}")):
        return wording[0] + wording[1].upper() + wording[2:]
    return wording[0].upper() + wording[1:]


def fill(wording: str, question: Question, claim: str) -> str:
    """Fill the slots of a wording."""
    if question.kind == "digit":
        digit = int(claim)
        article = "an" if digit == 8 else "a"
        return wording.format(d=digit, a=article, A=article.capitalize())
    return wording.format(v=claim, V=claim.capitalize())
