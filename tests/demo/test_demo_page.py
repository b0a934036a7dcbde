"""The demo's report: the pair on a 7 first, every judgment below, numbers as given."""

import re
from pathlib import Path
from typing import Any

from critic_jax.demo.digits import make_digits
from critic_jax.demo.page import judged_card, write_report
from critic_jax.demo.records import heldout_lines, write_heldout
from critic_jax.reporting import Card


def _cards(folder: Path, wrong: set[str]) -> list[Card]:
    digits = make_digits(0)
    write_heldout(digits, 0, folder)
    cards = []
    for line, label in zip(*heldout_lines(digits, 0), strict=True):
        results: list[dict[str, Any]]
        if "score" in label:
            score = 99.0 if line["id"] in wrong else float(label["score"])
            results = [{"state": "value", "score": score, "reason": "Seen.", "raw": "raw"}]
        else:
            other = "AB".replace(label["verdict"], "") if line["id"] in wrong else label["verdict"]
            results = [
                {"state": "value", "verdict": label["verdict"], "order": "ab", "raw": "first raw"},
                {"state": "value", "verdict": other, "order": "ba", "reason": "Seen twice."},
            ]
        cards.append(judged_card(line, label, results, folder))
    return cards


def test_report_opens_on_a_7_and_holds_every_judgment(tmp_path: Path) -> None:
    cards = _cards(tmp_path / "heldout", wrong={"pair-003", "score-001"})
    assert [c.name for c in cards if "wrong" in c.tags] == ["pair-003", "score-001"]
    path = write_report(
        tmp_path / "report.html",
        {"pairwise_accuracy": 0.9775, "seconds": 231.4, "by template": {"mt-bench": 0.5}},
        cards,
        {"loss": [(0, 3.0), (10, 0.5)]},
        [(100, 100), (20, 80)],
    )
    text = path.read_text(encoding="utf-8")
    opening = re.search(r'<article class="card".*?</article>', text, flags=re.S)
    assert opening is not None and "pair-000" in opening[0]
    assert re.search(r"\b(7|seven)\b", opening[0]) and "A shown first" in opening[0]
    assert text.index("pair-000") < text.index("0.9775") < text.index("<polyline")
    assert text.count("<article") == 701 and text.count('src="data:image/png') == 701
    assert text.count('class="ruling wrong"') == 2
    for shown in ("231.4", "mt-bench", "by template", "given by the critic", "first raw"):
        assert shown in text
    for tag in ("right", "wrong", "pairwise", "pointwise", "digit", "parity"):
        assert f'data-tag="{tag}"' in text


def test_an_unparsed_judgment_says_why(tmp_path: Path) -> None:
    digits = make_digits(0)
    lines, labels = heldout_lines(digits, 0)
    result = {"state": "unparsed", "why": "missing: no verdict", "raw": "hm"}
    one = judged_card(lines[0], labels[0], [result], tmp_path)
    assert one.rulings[0].verdict == "No verdict (missing: no verdict)"
    assert one.rulings[0].right is False and "wrong" in one.tags
    tie = judged_card(lines[0], labels[0], [{"state": "tie", "verdict": "A=B"}], tmp_path)
    assert tie.rulings[0].verdict == "A tie [A=B]"


def test_a_report_without_judgments_is_still_a_page(tmp_path: Path) -> None:
    text = write_report(tmp_path / "r.html", {}, [], {}, []).read_text(encoding="utf-8")
    assert "no data" in text and "<article" not in text
