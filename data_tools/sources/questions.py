"""Questions about pictures, from the sets that preference data starts from.

A row's own fields tell its layout:

- LLaVA's: `id`, `image`, `conversations` of turns from human and gpt. LLaVA-Instruct-150K, LLaVAR,
  LLaVA-Med and SVIT's folder format/llava-v1.5 have it. The first question is taken, its answer is
  the reference.
- SVIT's own (folder data): `image_id` and `conversations`, each an object whose `content` is turns
  from user and gpt; the first question of each is taken. The picture is IMAGE_ID.jpg, as in Visual
  Genome.
- M3IT's: `instruction`, `inputs`, `outputs` and `image_base64_str`, a text or a list.
- VLFeedback's instructions: `prompt` and `img_path`.
- LRV-Instruct's: `image_id`, `question` and `answer`. The picture is IMAGE_ID.jpg, as in Visual
  Genome; one id asks many questions.
- PCA-EVAL's: `domain`, `index`, `image`, `question`, `actions`, `answer_index` and `reason`. The
  actions are shown with letters behind the question; the reference is the right one with the
  reason. Pictures lie in the folder imgs beside the file. PCA-Bench's tables hold the whole prompt
  as `question_prompt` and the picture itself.
- Ours: `id`, `image`, `question`, and `reference` or `answer`, which may be absent.

ComVint is published as lines that nothing public describes; they are read if they are in one of
these layouts, and told line by line if not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from critic_jax.data import BadRecord, picture_sources
from critic_jax.data.records import shown
from critic_jax.errors import InputError
from critic_jax.judging.input_rows import Row, scan_rows
from critic_jax.text import leading_markers

from ..making.packing import Picture

_MARKS = ("conversations", "instruction", "prompt", "actions", "question")
"""Fields of which every layout has one."""


@dataclass(frozen=True)
class Question:
    """A question about pictures. reference: an answer that came with it, "" for none."""

    id: str
    source: str
    line: int
    place: str
    images: tuple[Picture, ...]
    text: str
    reference: str = ""
    domain: str = ""


def read_questions(
    paths: Sequence[Path], images: Path | None
) -> tuple[list[Question], list[BadRecord]]:
    """The questions of some files, in order, and the wrong rows.

    An id that is taken becomes ID#2, ID#3. images: the folder of the pictures, by default each
    file's own. Raises InputError for a file that cannot be read or holds no question.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"{images}: no such folder of pictures")
    questions: list[Question] = []
    wrong: list[BadRecord] = []
    taken: dict[str, int] = {}
    for path in paths:
        before = len(questions)
        for row in scan_rows(path):
            try:
                if isinstance(row.found, InputError):
                    raise row.found
                found = list(_questions(row, row.found, images or path.parent))
            except InputError as error:
                told = isinstance(row.found, InputError)
                reason = str(error) if told else f"{row.where}: {error}"
                name = None if isinstance(row.found, InputError) else _name(row.found)
                wrong.append(BadRecord(row.number, name, reason))
                continue
            for one in found:
                taken[one.id] = number = taken.get(one.id, 0) + 1
                questions.append(one if number == 1 else replace(one, id=f"{one.id}#{number}"))
        if len(questions) == before:
            raise InputError(wrong[0].reason if wrong else f"{path}: holds no question")
    return questions, wrong


def _questions(row: Row, fields: Mapping[str, Any], folder: Path) -> Iterator[Question]:
    turns = fields.get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "content" in turns[0]:
        for one in turns:
            question, answer = _first(one.get("content") if isinstance(one, dict) else None)
            pictured = {**fields, "image": f"{fields.get('image_id')}.jpg"}
            yield _question(row, pictured, folder, question, answer)
    elif turns is not None:
        yield _question(row, fields, folder, *_first(turns))
    elif "instruction" in fields:
        parts = [fields["instruction"], fields.get("inputs")]
        asked = "\n".join(part for part in parts if isinstance(part, str) and part.strip())
        coded = fields.get("image_base64_str")
        coded = coded if isinstance(coded, list) or coded is None else [coded]
        pictures = [{"bytes": one} for one in coded or ()] or fields.get("image")
        whole = {**fields, "image": pictures}
        yield _question(row, whole, folder, asked, fields.get("outputs"))
    elif "prompt" in fields:
        pictured = {**fields, "image": fields.get("img_path", fields.get("image"))}
        yield _question(row, pictured, folder, fields["prompt"], None)
    elif "actions" in fields:
        yield _choice(row, fields, folder)
    elif "question" not in fields:
        there = ", ".join(map(str, fields)) or "nothing"
        raise InputError(f"holds no known layout: no {', '.join(_MARKS)}; there are {there}")
    elif "image_id" in fields and fields.get("image") is None:
        pictured = {**fields, "image": f"{fields['image_id']}.jpg"}
        yield _question(row, pictured, folder, fields["question"], fields.get("answer"))
    else:
        reference = fields.get("reference", fields.get("answer"))
        yield _question(row, fields, folder, fields["question"], reference)


def _choice(row: Row, fields: Mapping[str, Any], folder: Path) -> Question:
    """A question of PCA-EVAL: one of several actions is right."""
    actions = fields["actions"]
    if not isinstance(actions, list) or not all(isinstance(one, str) for one in actions):
        raise InputError(f"field 'actions' is {shown(actions)}; it should be a list of texts")
    lettered = [f"{chr(ord('A') + n)}. {action}" for n, action in enumerate(actions)]
    right, asked, reference = fields.get("answer_index"), fields.get("question_prompt"), None
    if right is not None:
        if type(right) is not int or not 0 <= right < len(actions):
            raise InputError(
                f"field 'answer_index' is {shown(right)}; it should be a place in 'actions', "
                f"0 to {len(actions) - 1}"
            )
        reason = fields.get("reason")
        reference = "\n".join([lettered[right], *([reason] if isinstance(reason, str) else [])])
    if asked is None and isinstance(fields.get("question"), str):
        asked = "\n".join([fields["question"], *lettered])
    image = fields.get("image")
    if isinstance(image, str) and not (folder / image).exists() and (folder / "imgs").is_dir():
        folder = folder / "imgs"
    name = f"{fields.get('domain', row.path.stem)}-{fields.get('index', row.number)}"
    return _question(row, {"id": name, **fields}, folder, asked, reference)


def _first(turns: Any) -> tuple[Any, Any]:
    """The first question of some turns, and its answer."""
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        for place, turn in enumerate(turns):
            if turn.get("from") in ("human", "user"):
                answer = turns[place + 1].get("value") if place + 1 < len(turns) else None
                return turn.get("value"), answer
    raise InputError("field 'conversations' holds no question; a turn should be from human")


def _question(
    row: Row, fields: Mapping[str, Any], folder: Path, text: Any, reference: Any
) -> Question:
    if not isinstance(text, str) or not text.strip():
        said = "missing" if text is None else repr(text)[:40]
        raise InputError(f"the question is {said}; it should be a text that is not empty")
    pictures = picture_sources(fields, folder)
    asked = text.replace("<image>", "") if len(pictures) == 1 else text
    source = fields.get("source")
    domain = fields.get("domain")
    return Question(
        _name(fields) or f"{row.path.stem}-{row.number}",
        source if isinstance(source, str) and source else row.path.stem,
        row.number,
        row.where,
        pictures,
        leading_markers(asked, len(pictures)).strip(),
        reference.strip() if isinstance(reference, str) else "",
        domain if isinstance(domain, str) else "",
    )


def _name(fields: Mapping[str, Any]) -> str | None:
    value = fields.get("id", fields.get("image_id"))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
