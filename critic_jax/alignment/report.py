"""One page about a run of rounds, or about several: rewards, win rates, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from critic_jax.alignment.rounds import MANIFEST, read_round
from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.files import write_json
from critic_jax.reporting import (
    Card,
    Html,
    Page,
    Ruling,
    deck,
    element,
    facts,
    line_plot,
    paragraph,
    section,
    table,
)

EXAMPLES = 100
"""Cards of a run at most."""

OUTCOMES = ("won", "lost", "tie", "unknown")

_COLUMNS = (
    *("round", "prompts", "distinct answers", "pairs", "margin", "judgments", "unparsed"),
    *("position bias", "score", "win rate", "reward margin", "accuracy"),
)

Rounds = Sequence[Mapping[str, Any]]


def write_report(output: Path) -> Path:
    """Write `report.html` of a run into its folder, and `summary.json`, its numbers by round."""
    rounds = read_rounds(output)
    write_json(output / "summary.json", summary(rounds))
    return write_page([output], output / "report.html")


def write_page(outputs: Sequence[Path], path: Path, labels: Path | None = None) -> Path:
    """Write a page that holds runs against each other: those by a critic and by people, say.

    outputs: the folders of `critic-jax align`. Raises InputError for one that is none, and for
    labels, which are of judgments.
    """
    if labels is not None:
        raise InputError(f"{labels}: a page about rounds takes no labels; leave them out")
    if len({output.name for output in outputs}) < len(outputs):
        raise InputError("two runs have folders of one name; rename one")
    runs = {output.name: read_rounds(output) for output in outputs}
    page = Page(
        "Rounds of preference training",
        "Answers are sampled, ranked, and the best is held against the worst; the next round "
        "starts from what was learned.",
    )
    page.add(facts(_facts(runs)))
    page.add(section("Rounds against the start", element("div", *_curves(runs), class_="plots")))
    for output in outputs:
        page.add(*_run(output, runs[output.name], alone=len(outputs) == 1))
    return page.write(path)


def read_rounds(output: Path) -> list[dict[str, Any]]:
    """The manifests of a run's rounds that are done. Raises InputError if there is none."""
    rounds: list[dict[str, Any]] = []
    while (folder := output / f"round_{len(rounds) + 1}").joinpath(MANIFEST).exists():
        rounds.append(read_round(folder))
    if not rounds:
        raise InputError(f"{output}: holds no round that is done; is it of critic-jax align?")
    return rounds


def summary(rounds: Rounds) -> dict[str, Any]:
    """The numbers of each round that a program would read, as lists."""
    names = ("pairs", "dropped", "margin_mean", "score_mean", "position_bias", "unparsed_rate")
    found: dict[str, Any] = {name: [one[name] for one in rounds] for name in names}
    return {"rounds": len(rounds)} | found | {"win_rate": [_win_rate(one) for one in rounds]}


def _win_rate(one: Mapping[str, Any]) -> float | None:
    rate: float | None = one["compared"]["win_rate"] if one["compared"] else None
    return rate


def _facts(runs: Mapping[str, Rounds]) -> list[tuple[str, object, str]]:
    if len(runs) > 1:
        note = "won against the answers before, a tie half"
        return [(name, _win_rate(rounds[-1]), note) for name, rounds in runs.items()]
    (rounds,) = runs.values()
    return [
        ("Rounds", len(rounds), ""),
        ("Prompts", rounds[-1]["prompts"], "answered anew in every round"),
        ("Pairs", sum(one["pairs"] for one in rounds), "best against worst, all rounds"),
        ("Win rate", _win_rate(rounds[-1]), "after the last round, against the start"),
    ]


def _curves(runs: Mapping[str, Rounds]) -> list[Html]:
    """What stands for a whole round, one line a run."""

    def lines(value: Any) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [(one["round"], v) for one in rounds if (v := value(one)) is not None]
            for name, rounds in runs.items()
        }

    plots = [
        line_plot(lines(_win_rate), "Win rate against the start", "round", "share won"),
        line_plot(lines(lambda one: one["margin_mean"]), "Best less worst", "round", "reward"),
    ]
    levels = lines(lambda one: one["score_mean"])
    if any(levels.values()):
        plots.append(line_plot(levels, "What an answer is given", "round", "score"))
    return plots


def _run(output: Path, rounds: Rounds, alone: bool) -> list[Html]:
    source = ", ".join(f"{name} {value}" for name, value in rounds[0]["source"].items())
    steps = _steps(output, len(rounds))
    pieces = [
        paragraph(f"What an answer is worth: {source}."),
        table(_COLUMNS, [_row(one) for one in rounds]),
        _dropped(rounds),
        element(
            "div",
            line_plot(
                {name: steps[name] for name in ("rewards/chosen", "rewards/rejected")},
                "Rewards while training, round after round",
                "step",
                "beta x (policy - reference)",
            ),
            line_plot({"loss": steps["loss"]}, "Loss", "step", "loss"),
            class_="plots",
        ),
    ]
    found = [section("Numbers" if alone else output.name, *pieces)]
    if cards := _cards(output, len(rounds)):
        words = "The likeliest answer of the first model, and of the last policy."
        named = "Before and after" if alone else f"{output.name}: before and after"
        found.append(section(named, words, deck(cards, (OUTCOMES,))))
    return found


def _row(one: Mapping[str, Any]) -> list[object]:
    last = one["training"]["last_step"]
    return [
        *(one[name] for name in ("round", "prompts", "distinct_answers", "pairs", "margin_mean")),
        *(one[name] for name in ("judgments", "unparsed_rate", "position_bias", "score_mean")),
        *(_win_rate(one), last["rewards/margins"], last["rewards/accuracies"]),
    ]


def _dropped(rounds: Rounds) -> Html:
    reasons = sorted({reason for one in rounds for reason in one["dropped"]})
    rows = [[reason, *(one["dropped"].get(reason, 0) for one in rounds)] for reason in reasons]
    columns = ["dropped", *(f"round {one['round']}" for one in rounds)]
    return table(columns, rows, "Prompts that gave no pair")


def _steps(output: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Metrics by step; steps are counted on from round to round, between which a line breaks."""
    names = ("loss", "rewards/chosen", "rewards/rejected")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    before = 0
    for number in range(1, rounds + 1):
        lines = [
            line
            for _, line in read_json_lines(output / f"round_{number}" / "dpo" / "metrics.jsonl")
        ]
        for name in names:
            found[name] += [(before + line["step"], line[name]) for line in lines]
            found[name].append((before + len(lines), float("nan")))
        before += len(lines)
    return found


def _cards(output: Path, rounds: int) -> list[Card]:
    path = output / f"round_{rounds}" / "compared.jsonl"
    if not path.exists():
        return []
    cards = []
    for _, line in list(read_json_lines(path))[:EXAMPLES]:
        images = line.get("image", [])
        listed = images if isinstance(images, list) else [images]
        outcome = line["outcome"]
        cards.append(
            Card(
                picture=tuple(path.parent / image for image in listed) or None,
                question=line["prompt"],
                answers=(("Before", line["before"]), ("After", line["after"])),
                rulings=(Ruling(f"After: {outcome}"),),
                best={"won": 1, "lost": 0}.get(outcome),
                tags=(outcome,),
                name=line["id"],
            )
        )
    return cards
