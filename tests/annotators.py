"""A scripted annotator for `chat_server`: it judges as it is asked, and misbehaves on purpose."""

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b

from chat_server import Chat, Fault

REFUSAL = "I'm sorry, but I can't help with that."


def number(prompt: str, below: int, salt: str = "") -> int:
    """A number that the prompt alone decides."""
    digest = blake2b((salt + prompt).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % below


def judgment(prompt: str) -> str:
    """A judgment in the form that the prompt asks for; of a settled one, that one."""
    reason = f"The picture decides it, case {number(prompt, 10**6)}."
    if settled := re.search(r"^Settled verdict: (.+)$", prompt, re.M):
        if "Judgement" in settled[1]:
            fields = [f'"Analysis": "{reason}"', settled[1]]
            return "{" + ", ".join(fields[::-1] if "comes first" in prompt else fields) + "}"
        first = re.search(r"Begin with exactly", prompt)
        return f"{settled[1]}\n{reason}" if first else f"{reason}\n{settled[1]}"
    if "first line nothing but the two scores" in prompt:
        return f"{number(prompt, 10) + 1} {number(prompt, 10, 'b') + 1}\n{reason}"
    if "[[A>>B]]" in prompt:
        return f"{reason}\n[[{('A>>B', 'A>B', 'A=B', 'B>A', 'B>>A')[number(prompt, 5)]}]]"
    if "[[C]]" in prompt:
        return f"{reason}\n[[{'ABC'[number(prompt, 3)]}]]"
    if "Final Score: N" in prompt:
        return f"{reason}\nFinal Score: {number(prompt, 101)}"
    if "Rating: N" in prompt:
        return f"{reason}\nRating: {number(prompt, 7)}"
    if "0.0 (all wrong)" in prompt:
        return f"{reason}\nScore: {number(prompt, 11) / 10}"
    return f"{reason}\nScore: {number(prompt, 101)}"


def contradictory(prompt: str) -> bool:
    """Whether the annotator contradicts itself on this prompt, as often as it is asked."""
    return number(prompt, 40, "contradiction") == 0


@dataclass
class Annotator:
    """Its `say` and `when` are those of a `Chat`. Every prompt's first tries may go wrong."""

    faulty: bool = True
    tries: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, prompt: str) -> str:
        with self.lock:
            self.answers[prompt] += 1
            turn = self.answers[prompt]
        if not self.faulty:
            return judgment(prompt)
        if contradictory(prompt):
            return "Score: 10\nNo, wait.\nScore: 20\nFinal Score: 3\nFinal Score: 4\n[[A]]\n[[B]]"
        if turn == 1 and number(prompt, 30, "refusal") == 0:
            return REFUSAL
        return judgment(prompt)

    def when(self, prompt: str) -> Fault | None:
        if not self.faulty:
            return None
        self.tries[prompt] += 1
        kind = number(prompt, 40, f"fault {self.tries[prompt]}")
        cut = {"Content-Length": "9999", "Connection": "close"}
        faults = {
            0: Fault(429, '{"error": {"message": "slow down"}}', {"Retry-After": "0.02"}),
            1: Fault(500, "oops"),
            2: Fault(200, '{"choices": [{"message": {"content": "Sco', cut),
            3: Fault(200, "<html>not JSON</html>"),
            4: Fault(None),
            5: Fault(503, "", delay=0.1),
        }
        return faults.get(kind)


def misbehaving() -> Chat:
    """A chat with an annotator that goes wrong in every way."""
    annotator = Annotator()
    return Chat(say=annotator.say, when=annotator.when, usage=counted)


def counted(prompt: str, answer: str) -> tuple[int, int]:
    """Tokens as a tokenizer of four bytes a token counts them."""
    return len(prompt.encode()) // 4, max(1, len(answer.encode()) // 4)
