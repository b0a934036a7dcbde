"""The page of judgments: what `critic-jax judge` wrote, counted, plotted and laid out as cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.judging.judgment import winner
from critic_jax.judging.results import VERDICTS, pairwise, read_labels, read_results
from critic_jax.judging.summary import order_consistency, position_bias, summarise
from critic_jax.reporting.cards import Card, Ruling, deck
from critic_jax.reporting.html import Html, element
from critic_jax.reporting.page import Page, section
from critic_jax.reporting.plots import bar_plot, histogram
from critic_jax.reporting.tables import facts, table

Line = Mapping[str, Any]
Numbers = Mapping[Path, Mapping[str, float | None]]

MAX_CARDS = 500
"""Cards of one page. A photograph adds some 30 kB to it; far beyond this, pages open slowly."""

_ORDERS = {"ab": "A shown first", "ba": "B shown first"}
_STATES = ("value", "tie", "unparsed")
_AGREE, _DIFFER = "orders agree", "orders differ"
_ANSWERS = (("response", "Answer"), ("response_a", "A"), ("response_b", "B"))
_MEANINGS = {
    "pairwise_accuracy": ("Pairwise accuracy", "the label's winner; unparsed is wrong"),
    "order_consistency": ("Order consistency", "same winner whichever stands first"),
    "position_bias": ("Position bias", "wins shown first less wins shown second; 0 is none"),
    "pointwise_pearson": ("Pearson r", "score given against the label's"),
    "unparsed_rate": ("Unparsed, labelled", "of judgments that have a label"),
}


@dataclass(frozen=True)
class _Judged:
    """A judgment, the file it is from, what to call that file's judge, and its label if any."""

    line: Line
    path: Path
    judge: str
    label: Line | None


def write_results_page(
    results: Sequence[Path],
    output: Path,
    labels: Path | None = None,
    numbers: Numbers | None = None,
) -> Path:
    """Write one page on files of judgments, and return its path.

    labels: file of true verdicts and scores, which say what is right. numbers: what else is known
    of a file, by its path and by name, such as its agreement with the labels. Raises InputError
    for no results, a wrong file, labels that fit none of the results, or an `output` that is a
    folder or one of the files read.
    """
    if not results:
        raise InputError("no results named; RESULTS are files that critic-jax judge wrote")
    sources = {path.resolve() for path in (*results, *([labels] if labels else []))}
    if output.is_dir() or output.resolve() in sources:
        raise InputError(f"{output}: is a folder or a file to read; name another page to write")
    found = _read(results, labels)
    judges = sorted({str(one.line.get("model", one.judge)) for one in found})
    page = Page("Judgments", f"What {', '.join(judges)} said of answers about pictures.")
    page.add(_facts(found, numbers or {}))
    if len({one.path for one in found}) > 1:
        page.add(_table_of_files(found, numbers or {}))
    page.add(_table_of_templates(found))
    page.add(section("Verdicts and scores", element("div", *_plots(found), class_="plots")))
    page.add(_section_of_cards(found))
    return page.write(output)


def is_right(label: Line, result: Line) -> bool:
    """Whether a judgment agrees with its label: its winner, or exactly its score or order."""
    for name in ("score", "ranking"):
        if name in label:
            return bool(result.get(name) == label[name])
    return winner(result.get("verdict")) == winner(label["verdict"])


def ruling(result: Line, label: Line | None, judge: str = "") -> Ruling:
    """A judgment as a card shows it. judge: its name, where a card shows those of several."""
    return Ruling(
        verdict=_verdict(result) + _expected(result.get("probabilities") or {}),
        reason=result.get("reason", ""),
        raw=result.get("raw", "") if "pairs" not in result else _raw_of_pairs(result["pairs"]),
        right=None if label is None else is_right(label, result),
        label=_asked(result, judge),
    )


def _asked(result: Line, judge: str) -> str:
    """Who was asked, and in which order where that is told."""
    return ", ".join(filter(None, (judge, _ORDERS.get(result.get("order", "")))))


def _raw_of_pairs(pairs: Sequence[Line]) -> str:
    """What was written on each pair of a ranking, one after the other."""
    return "\n\n".join(
        f"[{one['first'] + 1} before {one['second'] + 1}]\n{one.get('raw', '')}" for one in pairs
    )


def _verdict(result: Line) -> str:
    if result["state"] == "unparsed":
        return f"No verdict ({result.get('why', '')})"
    if "pairs" in result:
        order = " > ".join(f"{place + 1}" for place in result["ranking"])
        return f"Ranked {order}" + (", the first ones equal" if result["state"] == "tie" else "")
    if "verdict" not in result:
        return f"Score {result['score']:g}"
    best = winner(result["verdict"])
    text = "A tie" if best == "tie" else f"{best} is better"
    if "scores" in result:
        return f"{text} ({result['scores'][0]:g} against {result['scores'][1]:g})"
    return text if result["verdict"] == best else f"{text} [{result['verdict']}]"


def _expected(read: Mapping[str, float]) -> str:
    """What the probabilities of a judgment say, behind its verdict."""
    said = [f"expected {read['expected']:.3g}"] if "expected" in read else []
    if "expected_a" in read:
        said.append(f"expected {read['expected_a']:.3g} against {read['expected_b']:.3g}")
    if "preference" in read:
        said.append(f"A better with probability {read['preference']:.2f}")
    return f" ({'; '.join(said)})" if said else ""


def _read(results: Sequence[Path], labels: Path | None) -> list[_Judged]:
    files = {path: read_results(path) for path in results}
    truth = {label["id"]: label for label in read_labels(labels)} if labels else {}
    models = {path: str(lines[0].get("model", path)) for path, lines in files.items()}
    files_of = Counter(models.values())
    judges = {path: name if files_of[name] == 1 else str(path) for path, name in models.items()}
    found = [
        _Judged(line, path, judges[path], truth.get(line["id"]))
        for path, lines in files.items()
        for line in lines
    ]
    for one in found:
        if one.label is not None and _labelled(one) != (
            "score" if "score" in one.label else "verdict"
        ):
            kind = {"pairwise": "a pair", "pointwise": "a single answer"}.get(
                _kind(one), "a ranking"
            )
            raise InputError(f"{labels}: id {one.line['id']!r} is {kind} in {one.path}")
    if labels and all(one.label is None for one in found):
        raise InputError(f"{labels}: none of its ids is among those of the results")
    return found


def _groups(found: Sequence[_Judged], key: Callable[[_Judged], Any]) -> dict[Any, list[_Judged]]:
    """Judgments by key, in order of first appearance."""
    groups: dict[Any, list[_Judged]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return groups


def _unparsed(found: Sequence[_Judged]) -> float:
    """As the summary counts it: a ranking by its pairs."""
    return float(summarise([one.line for one in found], "")["unparsed_rate"])


def _numbers(of_file: Sequence[_Judged], numbers: Numbers) -> dict[str, float | None]:
    """What is known of a file: of its pairs asked in both orders, and what the caller knows."""
    lines = [one.line for one in of_file]
    known = {"order_consistency": order_consistency(lines), "position_bias": position_bias(lines)}
    told = {name: value for name, value in known.items() if value is not None}
    return told | dict(numbers.get(of_file[0].path, {}))


def _facts(found: Sequence[_Judged], numbers: Numbers) -> Html:
    kinds = Counter(_kind(one) for one in found)
    counts = f"{kinds['pairwise']:,} of pairs, {kinds['pointwise']:,} of single answers"
    if kinds["ranking"]:
        counts += f", {kinds['ranking']:,} rankings"
    shown: list[tuple[str, object, str]] = [
        ("Judgments", len(found), counts),
        ("Unparsed", _unparsed(found), "share without a verdict"),
    ]
    if len({one.path for one in found}) == 1:
        for key, value in _numbers(found, numbers).items():
            name, meaning = _MEANINGS.get(key, (key, ""))
            shown += [(name, value, meaning)] if value is not None else []
    return facts(shown)


def _table_of_files(found: Sequence[_Judged], numbers: Numbers) -> Html:
    files = _groups(found, lambda one: one.path)
    known = {path: _numbers(of_it, numbers) for path, of_it in files.items()}
    keys = list(dict.fromkeys(key for of_file in known.values() for key in of_file))
    rows = [
        [str(path), of_it[0].line.get("model"), len(of_it), _unparsed(of_it)]
        + [known[path].get(key) for key in keys]
        for path, of_it in files.items()
    ]
    named = [_MEANINGS.get(key, (key, ""))[0] for key in keys]
    return table(("file", "model", "judgments", "unparsed", *named), rows, "By file")


def _table_of_templates(found: Sequence[_Judged]) -> Html:
    rows = []
    for (judge, name), of_it in _groups(found, lambda j: (j.judge, j.line["template"])).items():
        scores = [one.line["score"] for one in of_it if "score" in one.line]
        mean = sum(scores) / len(scores) if scores else None
        rows.append([judge, name, _kind(of_it[0]), len(of_it), _unparsed(of_it), mean])
    columns = ("judge", "template", "kind", "judgments", "unparsed", "mean score")
    return table(columns, rows, "By template")


def _kind(one: _Judged) -> str:
    if "pairs" in one.line:
        return "ranking"
    return "pairwise" if pairwise(one.line) else "pointwise"


def _labelled(one: _Judged) -> str:
    """Which field a label of such a judgment has; of a ranking none."""
    return {"pairwise": "verdict", "pointwise": "score"}.get(_kind(one), "")


def _plots(found: Sequence[_Judged]) -> list[Html]:
    """Bars of verdicts, a series for each judge and order; a histogram of scores a template."""
    plots = []
    if pairs := [one for one in found if pairwise(one.line)]:
        stated = Counter(
            (_asked(one.line, one.judge), one.line.get("verdict", "unparsed")) for one in pairs
        )
        shown = [v for v in (*VERDICTS, "unparsed") if any(v == verdict for _, verdict in stated)]
        series = {name: [float(stated[name, v]) for v in shown] for name, _ in stated}
        plots.append(bar_plot(shown, series, "Verdicts on pairs", "verdict", "judgments"))
    scored = [one for one in found if "score" in one.line]
    for template, of_it in _groups(scored, lambda one: one.line["template"]).items():
        true = {one.line["id"]: one.label["score"] for one in of_it if one.label is not None}
        scores = {"labels": list(true.values())} if true else {}
        for judge, of_judge in _groups(of_it, lambda one: one.judge).items():
            scores[judge] = [one.line["score"] for one in of_judge]
        plots.append(histogram(scores, f"Scores, {template}", "score", "answers"))
    return plots


def _section_of_cards(found: Sequence[_Judged]) -> Html:
    """A card for each thing judged, with all that was said of it, under filters."""
    several = len({one.judge for one in found}) > 1
    things = list(_groups(found, _thing).values())
    cards = [_card(of_it, several) for of_it in things[:MAX_CARDS]]
    present = {tag for one in cards for tag in one.tags}
    templates = sorted({one.line["template"] for one in found})
    kinds = ("pairwise", "pointwise", "ranking")
    choices = (("right", "wrong"), kinds, _STATES, (_AGREE, _DIFFER), templates)
    filters = [[tag for tag in choice if tag in present] for choice in choices]
    notes = []
    if len(things) > MAX_CARDS:
        notes.append(f"The first {MAX_CARDS:,} of {len(things):,}; the numbers above are of all.")
    if any(one.label is not None for one in found):
        notes.append(
            "A pair counts as right when every asking names the label's winner, a single answer "
            "when its score is exactly the label's. The answer that should win is marked."
        )
    return section(
        "What was judged", *notes, deck(cards, [choice for choice in filters if len(choice) > 1])
    )


def _thing(one: _Judged) -> tuple[Any, ...]:
    """What two judgments of the same thing have in common; pictures have a path in each file."""
    named = (one.line.get(name) for name in ("id", "question", *(n for n, _ in _ANSWERS)))
    return (*named, *one.line.get("responses", ()))


def _card(of_it: Sequence[_Judged], several: bool) -> Card:
    line, label = of_it[0].line, of_it[0].label
    images = line.get("image", [])
    paths = tuple(
        of_it[0].path.parent / i for i in (images if isinstance(images, list) else [images])
    )
    rulings = tuple(ruling(one.line, label, one.judge if several else "") for one in of_it)
    states = {one.line["state"] for one in of_it}
    tags = [_kind(of_it[0]), *(s for s in _STATES if s in states)]
    consistent = [order_consistency([one.line for one in by]) for by in _by_judge(of_it)]
    tags += [_AGREE] if 1.0 in consistent else []
    tags += [_DIFFER] if 0.0 in consistent else []
    if label is not None:
        tags.insert(0, "right" if all(r.right for r in rulings) else "wrong")
    best = None if label is None else winner(label.get("verdict"))
    return Card(
        picture=None if not paths else paths[0] if len(paths) == 1 else paths,
        question=line.get("question", ""),
        answers=_answers(of_it[0]),
        rulings=rulings,
        truth="" if label is None else _truth(label),
        best="AB".index(best) if best in ("A", "B") and "response_a" in line else None,
        tags=(*tags, *dict.fromkeys(one.line["template"] for one in of_it)),
        name=line["id"],
    )


def _by_judge(of_it: Sequence[_Judged]) -> list[list[_Judged]]:
    return list(_groups(of_it, lambda one: one.path).values())


def _answers(one: _Judged) -> tuple[tuple[str, str], ...]:
    """What to call each answer, and its text; answers that were ranked tell their reward."""
    line = one.line
    if "responses" not in line:
        return tuple((name, line[key]) for key, name in _ANSWERS if key in line)
    rewards = line.get("rewards", [])
    told = [f", reward {reward:g}" for reward in rewards] or [""] * len(line["responses"])
    return tuple(
        (f"{number}{reward}", text)
        for number, (text, reward) in enumerate(zip(line["responses"], told, strict=False), 1)
    )


def _truth(label: Line) -> str:
    return (
        f"{label['score']:g}"
        if "score" in label
        else str(label.get("verdict", label.get("ranking")))
    )
