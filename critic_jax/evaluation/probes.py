"""What moves a judge's verdicts that should not, and what does not move them that should.

Every line is asked as it stands and once more in each changed form:

- swapped: the two answers change places; nothing should move.
- padded: answer B, or the one answer, says the same again in other words; nothing should move.
- blank: the picture is white, of the same size; a judge that looks should be at a loss.
- exchanged: the picture is that of another line; the same.

Self-preference needs no further asking: how much more often the judge's own answers win by its word
than by the labels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from critic_jax.errors import InputError
from critic_jax.evaluation.measures import POINTS
from critic_jax.evaluation.statistics import DEFAULT, Bootstrap, Places
from critic_jax.files import write_json, write_json_lines
from critic_jax.imaging import open_picture
from critic_jax.judging.judgment import swapped, winner
from critic_jax.judging.lines import JudgeLine, read_judge_lines
from critic_jax.judging.results import read_labels, read_results

PLAIN = "plain"
CHANGES = ("swapped", "padded", "blank", "exchanged")

Judge = Callable[[Path, Path], Any]
Line = Mapping[str, Any]


def probe(
    input: Path,
    output: Path,
    judge: Judge,
    labels: Path | None = None,
    own: str | None = None,
    limit: int | None = None,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Any]:
    """Ask all forms of each line of `input`, in one go, and tell how far verdicts move.

    By form: `pairs`, with `moved`, the share whose winner is another than as it stands;
    `towards_b`, by how many points B gains (a win 1, a tie 1/2); `accuracy` where there are labels;
    and `scores`, with `change`, the mean, and `moved`, the mean of its size. An unparsed answer has
    no winner. own: whose answers are the judge's own, by the labels' model_a and model_b. In
    `output` stand then input.jsonl, results.jsonl and probes.json. Goes on where judging was
    stopped. Raises InputError for a wrong file.
    """
    lines = _lines(input, limit)
    truth = {label["id"]: label for label in read_labels(labels)} if labels else {}
    if own is not None and labels is None:
        raise InputError("own: whose answers they are stands in labels; name them with --labels")
    forms = list(_forms(lines, output, bootstrap.seed))
    asked = [form.line | {"id": f"{form.id}|{form.change}"} for form in forms]
    write_json_lines(output / "input.jsonl", asked)
    judge(output / "input.jsonl", output / "results.jsonl")
    by_id = {result["id"]: result for result in read_results(output / "results.jsonl")}
    said = {
        change: {
            form.id: _turned_back(by_id[f"{form.id}|{change}"], change)
            for form in forms
            if form.change == change
        }
        for change in (PLAIN, *CHANGES)
    }
    document: dict[str, Any] = {"model": next(iter(by_id.values())).get("model")}
    for change, results in said.items():
        document[change] = _moves(said[PLAIN], results, truth, bootstrap)
    if own is not None:
        both = [said[PLAIN], said["swapped"]]
        document["self_preference"] = _self_preference(own, both, truth, bootstrap)
    write_json(output / "probes.json", document)
    return document


@dataclass(frozen=True)
class _Form:
    """A line, changed in one way, ready to be written beside its pictures."""

    id: str
    change: str
    line: dict[str, Any]


def _lines(path: Path, limit: int | None) -> list[JudgeLine]:
    lines: list[JudgeLine] = []
    for found in read_judge_lines(path):
        if not isinstance(found, JudgeLine):
            raise InputError(found.reason)
        if not found.responses:  # a ranking is asked in pairs, both ways, already
            lines.append(found)
    if not lines:
        raise InputError(
            f"{path}: holds no line with a response, or with response_a and response_b"
        )
    return lines[:limit]


def _forms(lines: Sequence[JudgeLine], folder: Path, seed: int) -> Iterator[_Form]:
    folder.mkdir(parents=True, exist_ok=True)
    shown = [_shown(line, folder) for line in lines]
    pictures = list(dict.fromkeys(_key(line) for line in shown if "image" in line))
    random.Random(seed).shuffle(pictures)
    following = dict(zip(pictures, pictures[1:] + pictures[:1], strict=True))
    for line, fields in zip(lines, shown, strict=True):
        yield _Form(line.id, PLAIN, fields)
        if line.pairwise:
            a, b = fields["response_a"], fields["response_b"]
            yield _Form(line.id, "swapped", fields | {"response_a": b, "response_b": a})
        last = "response_b" if line.pairwise else "response"
        again = f"{fields[last]}\n\nIn other words: {fields[last]}"
        yield _Form(line.id, "padded", fields | {last: again})
        if "image" in fields:
            blank = [_blank(folder, image) for image in _key(fields)]
            yield _Form(line.id, "blank", fields | {"image": blank})
            if len(pictures) > 1:
                other = list(following[_key(fields)])
                yield _Form(line.id, "exchanged", fields | {"image": other})


def _shown(line: JudgeLine, folder: Path) -> dict[str, Any]:
    more = {n: v for n in ("reference", "criteria") if (v := line.texts[n]) is not None}
    return {**line.shown(folder), **more, "template": line.template.name}


def _key(fields: Line) -> tuple[str, ...]:
    image = fields["image"]
    return tuple(image) if isinstance(image, list) else (image,)


def _blank(folder: Path, image: str) -> str:
    """A white picture as large as another, as a path from the folder."""
    size = open_picture(folder / image).size
    name = f"blank-{size[0]}x{size[1]}.png"
    if not (folder / name).exists():
        Image.new("RGB", size, (255, 255, 255)).save(folder / name)
    return name


def _turned_back(result: Line, change: str) -> Line:
    """A result whose verdict speaks of A and B as the line names them."""
    if change != "swapped" or "verdict" not in result:
        return result
    return {**result, "verdict": swapped(result["verdict"])}


def _moves(
    plain: Mapping[str, Line],
    changed: Mapping[str, Line],
    truth: Mapping[str, Line],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    found: dict[str, Any] = {"asked": len(changed)}
    if not changed:
        return found
    everything = list(changed)
    unread = [changed[name]["state"] == "unparsed" for name in everything]
    found["unparsed_rate"] = _estimate(unread, bootstrap)
    read = [n for n in everything if "unparsed" not in (plain[n]["state"], changed[n]["state"])]
    pairs = [n for n in everything if "response_a" in changed[n]]
    if pairs:
        moved = [
            winner(plain[n].get("verdict")) != winner(changed[n].get("verdict")) for n in pairs
        ]
        gained = [_points_b(changed[n]) - _points_b(plain[n]) for n in read if n in set(pairs)]
        found["pairs"] = {
            "asked": len(pairs),
            "moved": _estimate(moved, bootstrap),
            "towards_b": _estimate(gained, bootstrap),
        }
        labelled = [n for n in pairs if "verdict" in truth.get(n, {})]
        if labelled:
            right = [
                winner(changed[n].get("verdict")) == winner(truth[n]["verdict"]) for n in labelled
            ]
            found["pairs"]["accuracy"] = _estimate(right, bootstrap)
    scores = [n for n in read if "score" in changed[n]]
    if scores:
        change = [float(changed[n]["score"]) - float(plain[n]["score"]) for n in scores]
        found["scores"] = {
            "asked": len([n for n in everything if "response" in changed[n]]),
            "change": _estimate(change, bootstrap),
            "moved": _estimate([abs(c) for c in change], bootstrap),
        }
    return found


def _self_preference(
    own: str,
    asked: Sequence[Mapping[str, Line]],
    truth: Mapping[str, Line],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Points of the judge's own answers in pairs with others: by its word, in both places, and by
    the labels; and how many more they are by its word."""
    judged, labelled = [], []
    for name, label in truth.items():
        sides = [label.get("model_a") == own, label.get("model_b") == own]
        said = [results[name] for results in asked if name in results]
        if sum(sides) != 1 or "verdict" not in label or not said:
            continue
        if any(one["state"] == "unparsed" for one in said):
            continue
        points = float(np.mean([1 - _points_b(one) for one in said]))
        true = POINTS[str(winner(label["verdict"]))]
        judged.append(points if sides[0] else 1 - points)
        labelled.append(true if sides[0] else 1 - true)
    if not judged:
        raise InputError(
            f"own: no labelled pair has an answer of {own!r} beside another's; "
            "labels name them in model_a and model_b"
        )
    more = [ours - true for ours, true in zip(judged, labelled, strict=True)]
    named = {"judged": judged, "labelled": labelled, "more": more}
    return {"pairs": len(judged)} | {n: _estimate(v, bootstrap) for n, v in named.items()}


def _points_b(result: Line) -> float:
    return 1 - POINTS[str(winner(result["verdict"]))]


def _estimate(values: Sequence[float], bootstrap: Bootstrap) -> dict[str, Any]:
    """The mean of some values."""
    known = np.array(values, float)

    def mean(places: Places) -> float:
        return float(known[places].mean()) if len(places) else float("nan")

    return bootstrap.estimate(mean, [np.arange(len(known))])
