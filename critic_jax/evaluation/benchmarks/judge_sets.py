"""Readers of published sets that tell how good a judge is: judge input and reference labels.

A reader turns one record into lines (input, label) of the same id. Where the names of fields come
from stands beside the fixtures, in tests/published_records.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from critic_jax.errors import InputError
from critic_jax.evaluation.benchmarks.record import Record

Lines = tuple[dict[str, Any], dict[str, Any]]
Reader = Callable[[Record], Iterator[Lines]]

_WINNERS = {"model_a": "A", "model_b": "B", "tie": "tie", "tie (bothbad)": "tie"}
_FIVE = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
_DOMAINS = {
    "mathverse": "reasoning",
    "mmmu": "reasoning",
    "hallucination": "hallucination",
    "rlhf": "hallucination",
    "rlaif": "hallucination",
    "wildvision": "general",
    "vlfeedback": "general",
}


def wildvision_arena(record: Record) -> Iterator[Lines]:
    """A battle of WildVision-Arena that a person voted on; several turns are put into one text."""
    name = record.text("question_id")
    question, answer_a = _turns(record, "conversation_a")
    _, answer_b = _turns(record, "conversation_b")
    verdict = record.choice("winner", _WINNERS)
    models = {side: record.text(side) for side in ("model_a", "model_b")}
    asked = {
        "id": name,
        "image": record.picture("image"),
        "question": question,
        "response_a": answer_a,
        "response_b": answer_b,
        "template": "wildvision",
    }
    yield asked, {"id": name, "verdict": verdict, **models}


def wildvision_verdicts(record: Record) -> Iterator[Lines]:
    """A line of WildVision-Bench's verdict files: what its judge said of a model's answer beside
    the reference model's. A verdict or a prompt that was not kept there gives no line."""
    model, question_id = record.text("model"), record.text("question_id")
    found = re.search(r"_reference_(.+)$", record.file.parent.name)
    reference = found.group(1) if found else "reference"
    for number, game in enumerate(record.items("games", "a list of games")):
        name = f"{question_id}-{model}-{number}"
        field = f"games[{number}]"
        if not isinstance(game, dict):
            raise record.wrong(field, game, "an object with user_prompt and score")
        if "score" not in game or "user_prompt" not in game:
            raise record.wrong(field, list(game), "an object with user_prompt and score")
        if game["score"] not in _FIVE or game["user_prompt"] is None:
            continue
        text, picture = _prompt(record, field, game)
        question, first, second = _sections(record, field, text)
        sides = (reference, model) if number == 0 else (model, reference)
        asked = {
            "id": name,
            "image": picture,
            "question": question,
            "response_a": first,
            "response_b": second,
            "template": "wildvision",
        }
        models = dict(zip(("model_a", "model_b"), sides, strict=True))
        yield asked, {"id": name, "verdict": game["score"], **models}


def mllm_judge(record: Record) -> Iterator[Lines]:
    """A line of MLLM-as-a-Judge: one answer with a score, a pair, or a batch with an order.

    Its numbers are counted by source, so that a line is named by its own number too.
    """
    group = record.text("original_dataset")
    common = {"image": record.picture("image_path"), "question": record.text("instruction")}
    if record.has("answers"):
        answers = record.items("answers", "a list of name and answer")
        responses = [_named(record, f"answers[{n}]", one)[1] for n, one in enumerate(answers)]
        order = record.text("human_answer", "the answers' letters, best first")
        places = [ord(letter) - ord("A") for letter in order]
        if sorted(places) != list(range(len(answers))):
            raise record.wrong("human_answer", order, f"an order of {len(answers)} letters")
        name = f"batch-{record.text('id')}-{record.number}"
        yield (
            {"id": name, **common, "responses": responses},
            {"id": name, "ranking": places, "group": group},
        )
    elif record.has("answer1"):
        (a, first), (b, second) = (
            _named(record, field, record.any(field, "name and answer"))
            for field in ("answer1", "answer2")
        )
        verdict = record.choice("human_answer", {"A": "A", "B": "B", "C": "tie"})
        name = f"pair-{record.text('pair_id')}-{record.number}"
        asked = {"response_a": first, "response_b": second, "template": "mllm-judge-pair"}
        label = {"verdict": verdict, "group": group, "model_a": a, "model_b": b}
        yield {"id": name, **common, **asked}, {"id": name, **label}
    else:
        name = f"score-{record.text('score_id')}-{record.number}"
        score = record.choice("human", {str(n): n for n in range(1, 6)})
        asked = {"response": record.text("answer"), "template": "mllm-judge-score"}
        yield (
            {"id": name, **common, **asked},
            {"id": name, "score": score, "group": group, "model": record.text("name")},
        )


def vl_rewardbench(record: Record) -> Iterator[Lines]:
    """A pair of VL-RewardBench. Its label never lies in the order: half of the pairs are turned,
    by the sum of the answers' lengths, as the public harness turns them."""
    name = record.text("id")
    answers = record.items("response", "two answers", 2)
    ranking = record.items("human_ranking", "[0, 1] or [1, 0]", 2)
    if sorted(map(repr, ranking)) != ["0", "1"]:
        raise record.wrong("human_ranking", ranking, "[0, 1] or [1, 0]")
    better = ranking.index(0)
    if sum(map(len, answers)) % 2:
        answers, better = answers[::-1], 1 - better
    word = re.split("[-_]", name)[0].lower()
    asked = {
        "id": name,
        "image": record.picture("image"),
        "question": record.text("query"),
        "response_a": answers[0],
        "response_b": answers[1],
        "template": "vl-rewardbench",
    }
    label = {"id": name, "verdict": "AB"[better], "group": _DOMAINS.get(word, "general")}
    yield asked, label


def mm_rewardbench(record: Record) -> Iterator[Lines]:
    """A pair of Multimodal RewardBench; safety and reasoning are counted in two parts each."""
    name, category = record.text("ID"), record.text("Category")
    parts = {
        "safety": ("pairs", "safety/bias", "safety/toxicity"),
        "reasoning": ("math", "reasoning/math", "reasoning/coding"),
    }
    if category in parts:
        word, one, other = parts[category]
        category = one if name.lower().startswith(word) else other
    asked = {
        "id": name,
        "image": record.picture("Image"),
        "question": record.text("Text"),
        "response_a": record.text("Output1"),
        "response_b": record.text("Output2"),
        "template": "mm-rewardbench",
    }
    verdict = record.choice("Better", {"Output1": "A", "Output2": "B"})
    yield asked, {"id": name, "verdict": verdict, "group": category}


JUDGE_SETS: Mapping[str, Reader] = {
    "wildvision-arena": wildvision_arena,
    "wildvision-verdicts": wildvision_verdicts,
    "mllm-judge": mllm_judge,
    "vl-rewardbench": vl_rewardbench,
    "mm-rewardbench": mm_rewardbench,
}


def _turns(record: Record, name: str) -> tuple[str, str]:
    """A conversation's user turns and its assistant turns, each as one text."""
    said: dict[str, list[str]] = {"user": [], "assistant": []}
    for n, turn in enumerate(record.items(name, "a list of turns (role, content)")):
        if (
            not isinstance(turn, dict)
            or turn.get("role") not in said
            or not isinstance(turn.get("content"), str)
        ):
            raise record.wrong(f"{name}[{n}]", turn, "a turn: role (user or assistant) and content")
        said[turn["role"]].append(turn["content"])
    if not said["user"] or not said["assistant"]:
        raise record.wrong(name, said, "turns of a user and of an assistant")
    return "\n\n".join(said["user"]), "\n\n".join(said["assistant"])


def _named(record: Record, field: str, value: Any) -> tuple[str, str]:
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("name"), str)
        or not isinstance(value.get("answer"), str)
    ):
        raise record.wrong(field, value, "an object with name and answer")
    return value["name"], value["answer"]


def _prompt(record: Record, field: str, game: Mapping[str, Any]) -> tuple[str, str]:
    """The text of a game's prompt, and its picture: a file named by the picture's hash."""
    parts = game.get("user_prompt")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise record.wrong(f"{field}.user_prompt", parts, "a list with a text and an image")
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    hashes = [part["image"] for part in parts if isinstance(part.get("image"), str)]
    if len(texts) != 1 or len(hashes) != 1:
        raise record.wrong(f"{field}.user_prompt", parts, "a list with one text and one image")
    names = [f"{hashes[0]}{ending}" for ending in (".jpg", ".jpeg", ".png", ".webp", "")]
    there = next((name for name in names if (record.places.images / name).is_file()), names[0])
    return texts[0], record.picture_of(f"{field}.user_prompt", there)


def _sections(record: Record, field: str, text: str) -> tuple[str, str, str]:
    """Question and both answers out of a prompt in the benchmark's wording."""
    marks = (
        r"<\|The Start of Assistant {0}'s Answer\|>\n(.*)\n<\|The End of Assistant {0}'s Answer\|>"
    )
    pattern = rf"<\|User Prompt\|>\n(.*)\n\n{marks.format('A')}\n\n{marks.format('B')}\s*"
    found = re.fullmatch(pattern, text, re.DOTALL)
    if found is None:
        raise InputError(
            f"{record.where}: field '{field}.user_prompt' is not in the benchmark's wording; "
            "it should open with <|User Prompt|> and mark both answers"
        )
    return found.group(1), found.group(2), found.group(3)
