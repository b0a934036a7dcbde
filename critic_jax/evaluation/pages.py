"""One page of what evaluations found: judges, policies, leaderboards, probes; the paper beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.evaluation.measures import WRONG
from critic_jax.reporting import Html, Page, bar_plot, element, histogram, section, table

Document = Mapping[str, Any]
Named = tuple[str, Document]

KINDS = {
    "judges": ("pairwise", "pointwise", "ranking"),
    "policies": ("benchmark", "score"),
    "leaderboards": ("anchor", "rows"),
    "probes": ("plain", "padded"),
}


def published() -> dict[str, Any]:
    """The paper's tables, as paper.json beside this file holds them."""
    text = resources.files(__package__).joinpath("paper.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


def write_page(files: Sequence[Path], output: Path, paper: bool = False) -> Path:
    """Write one page on files that `critic-jax evaluate` wrote or printed with --json.

    paper: show the paper's tables and charts beside them. Raises InputError for no file, a wrong
    file, or an output that is one of them.
    """
    if not files and not paper:
        raise InputError("no files named; FILES are what critic-jax evaluate wrote, as JSON")
    if output.is_dir() or output.resolve() in {path.resolve() for path in files}:
        raise InputError(f"{output}: is a folder or a file to read; name another page to write")
    found: dict[str, list[Named]] = {kind: [] for kind in KINDS}
    for path in files:
        kind, document = _read(path)
        found[kind].append((_name(path, document), document))
    page = Page("Evaluation", "How judges agree with labels, and how policies do by a judge.")
    for kind, of in (
        ("judges", _judges),
        ("policies", _policies),
        ("leaderboards", _leaderboards),
        ("probes", _probes),
    ):
        if found[kind]:
            page.add(*of(found[kind]))
    if paper:
        page.add(*_paper())
    return page.write(output)


def _read(path: Path) -> tuple[str, Document]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if isinstance(document, dict):
        for kind, marks in KINDS.items():
            there = [mark in document for mark in marks]
            if any(there) if kind == "judges" else all(there):
                return kind, document
    raise InputError(
        f"{path}: is none of what critic-jax evaluate writes: agreement.json, score.json, "
        "probes.json, or what leaderboard or agreement print with --json"
    )


def _name(path: Path, document: Document) -> str:
    """What to call a document: its model, and its folder where nothing tells it."""
    return str(document.get("model") or document.get("anchor") or path.parent.name or path.stem)


def _judges(found: Sequence[Named]) -> list[Html]:
    """A table of all numbers, and for each document its distributions and its models' order."""
    found = [(f"{n}, {d['benchmark']}" if "benchmark" in d else n, d) for n, d in found]
    rows = []
    for name, document in found:
        for kind in KINDS["judges"]:
            for where, block in _blocks(document.get(kind)):
                for number, estimate in _estimates(block):
                    interval = _interval(estimate)
                    rows.append([name, kind, where, number, estimate["value"], interval])
    columns = ("judge", "kind", "of", "number", "value", "95 %")
    pieces: list[Html] = []
    benchmarks = sorted({g for _, d in found for g in d.get("pointwise", {}).get("groups", {})})
    if benchmarks:
        series = {name: [_pearson(d, g) for g in benchmarks] for name, d in found}
        pieces.append(bar_plot(benchmarks, series, "Pearson's r by benchmark", "", "r"))
    if len(found) > 1:
        pieces.append(_comparison(found))
    for name, document in found:
        for kind in ("pointwise", "pairwise"):
            pieces += _spread(name, kind, document.get(kind, {}))
    plots = element("div", *pieces, class_="plots")
    return [section("Judges and labels", table(columns, rows), plots)]


def _blocks(kind: Any) -> list[tuple[str, Document]]:
    if not kind:
        return []
    groups = [(str(name), block) for name, block in kind.get("groups", {}).items()]
    macro = [("mean of groups", kind["macro"])] if "macro" in kind else []
    return [("all", kind), *groups, *macro]


def _estimates(block: Document) -> list[tuple[str, Document]]:
    """Each estimate of a block with its name: unparsed ones are told apart by their reading."""
    found: list[tuple[str, Document]] = []
    for name, value in block.items():
        if not isinstance(value, Mapping) or name in ("groups", "macro", "distribution", "models"):
            continue
        if "value" in value:
            found.append((_said(name), value))
        else:
            found += [(f"{_said(name)}, {_said(r)}", one) for r, one in value.items()]
    return found


def _comparison(found: Sequence[Named]) -> Html:
    """One number a judge: what scales with data and with size."""
    named = {
        "Pearson's r": ("pointwise", "pearson"),
        "accuracy": ("pairwise", "accuracy"),
        "accuracy without ties": ("pairwise", "accuracy_without_ties"),
    }
    series = {}
    for title, (kind, number) in named.items():
        values = [_value(d.get(kind, {}).get(number, {}).get(WRONG)) for _, d in found]
        if any(value == value for value in values):
            series[title] = values
    return bar_plot([name for name, _ in found], series, "Judges beside each other", "", "")


def _spread(name: str, kind: str, block: Document) -> list[Html]:
    pieces = []
    counts = block.get("distribution", {})
    if counts and kind == "pointwise":
        values = {
            side: [float(v) for v, count in of.items() for _ in range(count)]
            for side, of in counts.items()
        }
        pieces.append(histogram(values, f"{name}: scores", "score", "how many"))
    elif counts:
        winners = ("A", "tie", "B")
        series = {s: [float(of.get(w, 0)) for w in winners] for s, of in counts.items()}
        pieces.append(bar_plot(winners, series, f"{name}: winners", "winner", "how many"))
    models = block.get("models") or {}
    if len(models) > 1:
        order = sorted(models, key=lambda model: -models[model]["labelled"])
        sides = ("judged", "labelled")
        series = {side: [models[model][side] for model in order] for side in sides}
        pieces.append(bar_plot(order, series, f"{name}: models, best by the labels first", "", ""))
    return pieces


def _policies(found: Sequence[Named]) -> list[Html]:
    """A table of policies by benchmarks, and a chart for each benchmark."""
    benchmarks = list(dict.fromkeys(document["benchmark"] for _, document in found))
    policies = list(dict.fromkeys(name for name, _ in found))
    score: dict[tuple[str, str], float] = {}
    for name, document in found:
        readings = document["score"]
        estimate = readings.get(WRONG) or next(iter(readings.values()))
        score[name, document["benchmark"]] = _value(estimate)
    rows = [[p, *(_shown(score.get((p, b))) for b in benchmarks)] for p in policies]
    charts = [
        bar_plot(policies, {b: [score.get((p, b), float("nan")) for p in policies]}, b, "", "")
        for b in benchmarks
    ]
    body = element("div", *charts, class_="plots")
    return [section("Policies", table(("policy", *benchmarks), rows), body)]


def _leaderboards(found: Sequence[Named]) -> list[Html]:
    columns = ("model", "score", "95 %", "elo", "win rate", "reward", "votes")
    pieces = []
    for _, document in found:
        rows = document["rows"]
        lines = [
            [row["model"], row["score"], _interval(row)]
            + [row[name] for name in ("elo", "win_rate", "reward", "votes")]
            for row in rows
        ]
        names = [row["model"] for row in rows]
        series = {"score": [_shown_or_nan(row["score"]) for row in rows]}
        title = f"Probability of winning against {document['anchor']}, in percent"
        pieces += [table(columns, lines), bar_plot(names, series, title, "", "")]
    return [section("Leaderboards", *pieces)]


def _probes(found: Sequence[Named]) -> list[Html]:
    columns = ("judge", "form", "moved", "towards B", "accuracy", "score change", "unparsed")
    rows = []
    for name, document in found:
        for form in ("plain", "swapped", "padded", "blank", "exchanged"):
            of = document.get(form, {})
            pairs, scores = of.get("pairs", {}), of.get("scores", {})
            numbers = [
                pairs.get("moved"),
                pairs.get("towards_b"),
                pairs.get("accuracy"),
                scores.get("change"),
                of.get("unparsed_rate"),
            ]
            rows.append([name, form, *(_shown(_value(n)) for n in numbers)])
    return [section("Probes", table(columns, rows))]


def _paper() -> list[Html]:
    tables = published()
    pieces: list[Html | str] = [tables["about"]]
    for name in ("pointwise", "pairwise", "mllm-judge", "policies"):
        of = tables[name]
        rows = [[judge, *values] for judge, values in of["rows"].items()]
        pieces.append(table(("", *of["columns"]), rows, of["caption"]))
    policies, judges = tables["policies"], tables["pointwise"]
    charts = []
    bars = {
        "base": ("OV-7B", "OV-72B"),
        "+ RLHF reward": ("OV-7B + RLHF reward", "OV-72B + RLHF reward"),
        "+ critic": ("OV-7B + Critic-7B", "OV-72B + Critic-72B"),
    }
    for n, benchmark in enumerate(policies["columns"]):
        series = {
            bar: [_shown_or_nan(policies["rows"][row][n]) for row in rows]
            for bar, rows in bars.items()
        }
        charts.append(bar_plot(bars["base"], series, benchmark, "", ""))
    means = {"mean r": [values[-1] for values in judges["rows"].values()]}
    title = "Scaling: more data, a larger model"
    charts.append(bar_plot(list(judges["rows"]), means, title, "", "r"))
    pieces.append(element("div", *charts, class_="plots"))
    return [section("The paper's numbers", *pieces)]


def _pearson(document: Document, group: str) -> float:
    block = document.get("pointwise", {}).get("groups", {}).get(group, {})
    return _value(block.get("pearson", {}).get(WRONG))


def _value(estimate: Any) -> float:
    return _shown_or_nan(estimate["value"] if estimate else None)


def _shown_or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _shown(value: float | None) -> float | None:
    return None if value is None or value != value else value


def _interval(estimate: Document) -> str:
    if not estimate.get("interval"):
        return ""
    low, high = estimate["interval"]
    return f"{low:.3g} to {high:.3g}"


def _said(name: str) -> str:
    return name.replace("_", " ")
