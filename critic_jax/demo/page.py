"""The demo's report: numbers, curves, and every held-out judgment to look at."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from critic_jax.reporting import (
    Card,
    Html,
    Page,
    card,
    deck,
    element,
    facts,
    histogram,
    line_plot,
    section,
    table,
)
from critic_jax.reporting.results import ruling

# Keys of the summary that open the page: (key, name, what it says).
_HEADLINES = (
    ("pairwise_accuracy", "Pairwise accuracy", "held-out pairs, asked in both orders"),
    ("order_consistency", "Order consistency", "same winner whichever stands first"),
    ("pointwise_pearson", "Pearson r", "score given against true score"),
    ("unparsed_rate", "Unparsed", "judgments without a verdict"),
    ("blank_accuracy", "Picture blanked", "pairwise accuracy; chance is 0.5"),
    ("seconds", "Seconds", "from scans to this page"),
)


def judged_card(
    line: Mapping[str, Any],
    label: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    folder: str | os.PathLike[str],
) -> Card:
    """A held-out line with what the critic said about it, once or in both orders.

    line, label: of `heldout_lines`; results: lines that `critic-jax judge` writes; folder: the one
    that picture paths are relative to.
    """
    pair = "response_a" in line
    answers = (
        (("A", line["response_a"]), ("B", line["response_b"]))
        if pair
        else (("Answer", line["response"]),)
    )
    rulings = tuple(ruling(result, label) for result in results)
    return Card(
        picture=Path(folder) / line["image"],
        question=line["question"],
        answers=answers,
        rulings=rulings,
        truth=str(label["verdict"] if pair else label["score"]),
        best="AB".index(label["verdict"]) if pair else None,
        tags=(
            "right" if all(one.right for one in rulings) else "wrong",
            "pairwise" if pair else "pointwise",
            label["kind"],
            line["template"],
        ),
        name=line["id"],
    )


def write_report(
    path: str | os.PathLike[str],
    summary: Mapping[str, Any],
    cards: Sequence[Card],
    curve: Mapping[str, Sequence[tuple[float, float]]],
    scores: Sequence[tuple[float, float]],
    sections: Sequence[Html] = (),
) -> Path:
    """Write the demo's page and return its path.

    summary: name -> number; numbers in a mapping of their own get a table of their own.
    cards: in the order of the held-out lines, so that the first one is the pair on a 7.
    curve: series name -> (step, loss). scores: (true, predicted) of the pointwise lines. sections:
    what else the page tells, before the judgments.
    """
    page = Page(
        "A critic of handwritten digits",
        "A tiny multimodal critic, trained from scratch a few minutes ago, judges answers about "
        "scans that it has never seen, in words that its training never used.",
    )
    if cards:
        page.add(card(cards[0]))
    page.add(facts((name, summary[key], note) for key, name, note in _HEADLINES if key in summary))
    plots = [line_plot(curve, "Training", "step", "loss")]
    if scores:
        true, predicted = zip(*scores, strict=True)
        plots.append(
            histogram(
                {"true": true, "given by the critic": predicted}, "Scores", "score", "answers"
            )
        )
    page.add(section("Learning and scoring", element("div", *plots, class_="plots")))
    numbers = [(k, v) for k, v in summary.items() if not isinstance(v, Mapping)]
    page.add(section("All numbers", table(("number", "value"), numbers)))
    for key, group in summary.items():
        if isinstance(group, Mapping):
            page.add(table((key, "value"), list(group.items())))
    page.add(*sections)
    page.add(
        section(
            "Every held-out judgment",
            "A pair counts as right when the critic names the right answer in both orders, a "
            "single answer when its score is exactly the true one. The answer that should win is "
            "marked.",
            deck(cards, (("right", "wrong"), ("pairwise", "pointwise"), _kinds(cards))),
        )
    )
    return page.write(path)


def _kinds(cards: Sequence[Card]) -> list[str]:
    present = {tag for one in cards for tag in one.tags}
    return [kind for kind in ("digit", "parity") if kind in present]
