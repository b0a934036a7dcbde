"""The page of judgments: counts, plots, cards and filters, as read back from its HTML."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from critic_jax import cli
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.reporting import results as page_of_results
from critic_jax.reporting.results import is_right, ruling, write_results_page


def pair(name: str, verdict: str | None, order: str = "ab", **more: Any) -> dict[str, Any]:
    """A results line on two answers; without a verdict it is unparsed."""
    state = "unparsed" if verdict is None else "tie" if verdict in ("tie", "A=B") else "value"
    said = {"why": "missing: nothing said"} if verdict is None else {"verdict": verdict}
    return {
        "id": name,
        "state": state,
        **said,
        "reason": f"reason of {name} {order}",
        "raw": f"raw of {name} {order}",
        "template": "wildvision",
        "model": "owl",
        "order": order,
        "question": f"question of {name}",
        "response_a": f"first answer of {name}",
        "response_b": f"second answer of {name}",
    } | more


def single(name: str, score: float | None, **more: Any) -> dict[str, Any]:
    """A results line on one answer; without a score it is unparsed."""
    said: dict[str, Any] = {"state": "unparsed", "why": "empty"}
    return {
        "id": name,
        **(said if score is None else {"state": "value", "score": score}),
        "reason": "",
        "raw": "",
        "template": "critic-pointwise",
        "model": "owl",
        "question": f"question of {name}",
        "response": f"answer of {name}",
    } | more


RESULTS = [
    pair("p1", "A>B"),
    pair("p1", "A>>B", "ba"),
    pair("p2", "A>B"),
    pair("p2", "B>A", "ba"),
    pair("p3", "A=B"),
    pair("p4", None),
    single("s1", 80.0),
    single("s2", 35.5),
    single("s3", None),
]
LABELS = [
    {"id": "p1", "verdict": "A"},
    {"id": "p2", "verdict": "A"},
    {"id": "p3", "verdict": "tie"},
    {"id": "p4", "verdict": "B"},
    {"id": "s1", "score": 80},
    {"id": "s2", "score": 40},
]


def write(folder: Path, name: str, lines: list[dict[str, Any]]) -> Path:
    return write_json_lines(folder / name, lines)


def cards(text: str) -> dict[str, tuple[set[str], str]]:
    """Of each card by its name: its tags, and its markup."""
    found = {}
    whole = r'<article class="card" data-tags="(.*?)">(.*?)</article>'
    for tags, body in re.findall(whole, text, re.DOTALL):
        name = re.search(r'<p class="name">(.*?)</p>', body)
        assert name is not None and name[1] not in found
        found[name[1]] = (set(json.loads(html.unescape(tags))), body)
    return found


def facts_of(text: str) -> dict[str, str]:
    return dict(re.findall(r'<dt>(.*?)</dt><dd class="value">(.*?)</dd>', text))


def rows_of(text: str, caption: str) -> list[list[str]]:
    table = re.search(rf"<caption>{caption}</caption>.*?<tbody>(.*?)</tbody>", text)
    assert table is not None
    rows = re.findall(r"<tr>(.*?)</tr>", table[1])
    return [re.findall(r'<span dir="auto">(.*?)</span>', row) for row in rows]


def bars(text: str, title: str) -> dict[str, float]:
    """The bars that stand for something in the plot of that title: what they say."""
    plot = re.search(rf"<figcaption>{title}</figcaption>.*?</figure>", text)
    assert plot is not None
    said = re.findall(r"<rect[^>]*><title>(.*?): ([\d.]+)</title>", plot[0])
    return {html.unescape(name): float(value) for name, value in said if float(value)}


def filters(text: str) -> list[list[str]]:
    groups = re.findall(r'role="group" class="choice">(.*?)</div>', text)
    return [re.findall(r'data-tag="([^"]+)"', group) for group in groups]


def test_counts_and_plots_without_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "r.jsonl", RESULTS)
    output = write_results_page([path], tmp_path / "new" / "page.html")
    text = output.read_text(encoding="utf-8")
    assert facts_of(text) == {
        "Judgments": "9",
        "Unparsed": "0.2222",
        "Order consistency": "0.5",
        "Position bias": "0.5",
    }
    assert "6 of pairs, 3 of single answers" in text and "What owl said" in text
    assert rows_of(text, "By template") == [
        ["owl", "wildvision", "pairwise", "6", "0.1667", "–"],
        ["owl", "critic-pointwise", "pointwise", "3", "0.3333", "57.75"],
    ]
    assert bars(text, "Verdicts on pairs") == {
        "A>B, owl, A shown first": 2,
        "A>>B, owl, B shown first": 1,
        "B>A, owl, B shown first": 1,
        "A=B, owl, A shown first": 1,
        "unparsed, owl, A shown first": 1,
    }
    assert bars(text, "Scores, critic-pointwise") == {"80, owl": 1, "35.5, owl": 1}
    assert filters(text) == [
        ["pairwise", "pointwise"],
        ["value", "tie", "unparsed"],
        ["orders agree", "orders differ"],
        ["critic-pointwise", "wildvision"],
    ]
    assert "True verdict" not in text and "counts as right" not in text and "<img" not in text


def test_cards_show_what_was_judged_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, "r.jsonl", RESULTS)
    found = cards(write_results_page([path], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert list(found) == ["p1", "p2", "p3", "p4", "s1", "s2", "s3"]
    tags, body = found["p2"]
    assert tags == {"pairwise", "value", "orders differ", "wildvision"}
    assert "orders agree" in found["p1"][0]
    for shown in (
        "question of p2",
        "first answer of p2",
        "second answer of p2",
        "reason of p2 ba",
        "raw of p2 ab",
        "A shown first",
        "B shown first",
        "A is better [A&gt;B]",
        "B is better [B&gt;A]",
    ):
        assert shown in body
    assert body.count('class="ruling open"') == 2
    assert found["p3"][0] == {"pairwise", "tie", "wildvision"}
    assert "A tie [A=B]" in found["p3"][1]
    assert found["p4"][0] == {"pairwise", "unparsed", "wildvision"}
    assert "No verdict (missing: nothing said)" in found["p4"][1]
    assert found["s2"][0] == {"pointwise", "value", "critic-pointwise"}
    assert "Score 35.5" in found["s2"][1] and "answer of s2" in found["s2"][1]


def test_labels_say_what_is_right(tmp_path: Path) -> None:
    path = write(tmp_path, "r.jsonl", RESULTS)
    labels = write(tmp_path, "l.jsonl", LABELS)
    text = write_results_page([path], tmp_path / "page.html", labels).read_text(encoding="utf-8")
    found = cards(text)
    right = {name for name, (tags, _) in found.items() if "right" in tags}
    wrong = {name for name, (tags, _) in found.items() if "wrong" in tags}
    assert (right, wrong) == ({"p1", "p3", "s1"}, {"p2", "p4", "s2"})
    assert filters(text)[0] == ["right", "wrong"]
    assert (
        "True verdict: <b>A</b>" in found["p1"][1] and "True verdict: <b>40</b>" in found["s2"][1]
    )
    best = re.search(r'<div class="answer best">.*?<p dir="auto">(.*?)</p>', found["p4"][1])
    assert best is not None and best[1] == "second answer of p4"
    assert "answer best" not in found["p3"][1] and "True verdict" not in found["s3"][1]
    rulings = re.findall(r'class="ruling (\w+)"', found["p2"][1])
    assert rulings == ["right", "wrong"]
    assert bars(text, "Scores, critic-pointwise") == {
        "80, owl": 1,
        "35.5, owl": 1,
        "80, labels": 1,
        "40, labels": 1,
    }


def test_right_means_the_same_winner_or_the_same_score() -> None:
    assert is_right({"verdict": "A"}, {"verdict": "A>B"})
    assert is_right({"verdict": "A=B"}, {"verdict": "tie"})
    assert not is_right({"verdict": "A"}, {"verdict": "tie"})
    assert not is_right({"verdict": "A"}, {"state": "unparsed"})
    assert is_right({"score": 80}, {"score": 80.0})
    assert not is_right({"score": 80}, {"score": 100.0})
    assert not is_right({"score": 0}, {})


def test_a_ruling_tells_two_scores_and_who_was_asked() -> None:
    line = pair("p", "B", "ba", scores=[3, 7.5], template="llava-bench")
    shown = ruling(line, None, "owl")
    assert shown.verdict == "B is better (3 against 7.5)"
    assert shown.label == "owl, B shown first" and shown.right is None
    assert ruling(single("s", 5), {"score": 4}).right is False


def test_a_ruling_tells_what_probabilities_say() -> None:
    read = {"expected": 71.26, "valid": 0.9, "known": 1.0}
    assert ruling(single("s", 70, probabilities=read), None).verdict == "Score 70 (expected 71.3)"
    read = {"A": 0.7, "B": 0.2, "tie": 0.1, "preference": 0.75, "valid": 1.0, "known": 1.0}
    found = ruling(pair("p", "A", probabilities=read), None).verdict
    assert found == "A is better (A better with probability 0.75)"
    read = {"expected_a": 8.0, "expected_b": 6.25, "preference": 0.9, "valid": 1.0, "known": 1.0}
    found = ruling(pair("p", "A", scores=[8, 6], probabilities=read), None).verdict
    said = "expected 8 against 6.25; A better with probability 0.90"
    assert found == f"A is better (8 against 6) ({said})"
    assert ruling(single("s", 70, probabilities=None), None).verdict == "Score 70"


def test_several_files_share_cards_and_get_a_table(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "r.jsonl", [pair("p1", "A>B"), single("s1", 10)])
    other = [pair("p1", "B>A", model="cat"), single("s1", 20, model="cat", response="another")]
    two = write(tmp_path / "two", "r.jsonl", other)
    numbers = {one: {"pairwise_accuracy": 1.0, "spread": None}, two: {"pairwise_accuracy": 0.0}}
    output = write_results_page([one, two], tmp_path / "page.html", None, numbers)
    text = output.read_text(encoding="utf-8")
    assert rows_of(text, "By file") == [
        [str(one), "owl", "2", "0", "1", "–"],
        [str(two), "cat", "2", "0", "0", "–"],
    ]
    assert facts_of(text) == {"Judgments": "4", "Unparsed": "0"}
    articles = re.findall(r"<article.*?</article>", text)
    assert len(articles) == 3  # the pair once, and two answers that only share an id
    assert "owl, A shown first" in articles[0] and "cat, A shown first" in articles[0]
    assert set(bars(text, "Verdicts on pairs")) == {
        "A>B, owl, A shown first",
        "B>A, cat, A shown first",
    }


def test_a_ranking_is_a_card_of_all_its_answers(tmp_path: Path) -> None:
    pairs = [
        {"first": i, "second": j, "state": "value", "verdict": "A", "raw": f"raw {i} {j}"}
        for i in range(3)
        for j in range(3)
        if i != j
    ]
    pairs[0] |= {"state": "unparsed"}
    line = {"id": "r1", "state": "value", "rewards": [2.5, -4.0, 1.5], "ranking": [0, 2, 1]}
    line |= {"pairs": pairs, "template": "mt-bench", "model": "owl", "question": "Which of these?"}
    ranked = line | {"responses": ["one", "two", "three"]}
    bare = {"id": "r2", "state": "unparsed", "why": "no pair", "pairs": pairs, "template": "mmhal"}
    path = write(tmp_path, "r.jsonl", [ranked, single("s1", 10), bare, ranked | {"id": "r3"}])
    text = write_results_page([path], tmp_path / "page.html").read_text(encoding="utf-8")
    tags, body = cards(text)["r1"]
    assert tags == {"ranking", "value", "mt-bench"}
    assert re.findall(r"<h4>(.*?)</h4><p dir=\"auto\">(.*?)</p>", body) == [
        ("1, reward 2.5", "one"),
        ("2, reward -4", "two"),
        ("3, reward 1.5", "three"),
    ]
    assert "Ranked 1 &gt; 3 &gt; 2" in body and "[3 before 1]\nraw 2 0" in body
    assert "No verdict (no pair)" in cards(text)["r2"][1]
    assert "0 of pairs, 1 of single answers, 3 rankings" in text
    assert facts_of(text)["Unparsed"] == "0.1579"  # 3 of 19: a ranking counts as its six pairs
    assert ["pointwise", "ranking"] in filters(text)
    labels = write(tmp_path, "l.jsonl", [{"id": "r1", "verdict": "A"}])
    with pytest.raises(InputError, match=r"l.jsonl: id 'r1' is a ranking in .*r.jsonl"):
        write_results_page([path], tmp_path / "page.html", labels)


def test_files_of_one_model_go_by_their_paths(tmp_path: Path) -> None:
    paths = [write(tmp_path, name, [single("s1", 5)]) for name in ("a.jsonl", "b.jsonl")]
    text = write_results_page(paths, tmp_path / "page.html").read_text(encoding="utf-8")
    assert [row[0] for row in rows_of(text, "By template")] == list(map(str, paths))


def test_pictures_are_found_from_the_results(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / name)
    lines = [
        single("s1", 1, image="../pictures/a.png"),
        single("s2", 1, image=["../pictures/a.png", "../pictures/b.png"]),
        single("s3", 1, image="../pictures/gone.png"),
        single("s4", 1),
    ]
    path = write(tmp_path / "run", "r.jsonl", lines)
    found = cards(write_results_page([path], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [body.count('<img src="data:image/png') for _, body in found.values()] == [1, 2, 0, 0]
    assert "This picture cannot be read." in found["s3"][1]
    assert "cannot be read" not in found["s4"][1]


def test_results_without_what_was_judged_still_make_cards(tmp_path: Path) -> None:
    bare = {"id": "x", "state": "value", "score": 3, "template": "mmhal"}
    path = write(tmp_path, "r.jsonl", [bare])
    found = cards(write_results_page([path], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Score 3" in found["x"][1]


def test_a_long_file_gets_a_page_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_of_results, "MAX_CARDS", 2)
    path = write(tmp_path, "r.jsonl", RESULTS)
    text = write_results_page([path], tmp_path / "page.html").read_text(encoding="utf-8")
    assert list(cards(text)) == ["p1", "p2"]
    assert "The first 2 of 7; the numbers above are of all." in text
    assert facts_of(text)["Judgments"] == "9"


def test_what_cannot_make_a_page_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path, "r.jsonl", RESULTS)
    before = path.read_text()
    labels = write(tmp_path, "l.jsonl", [{"id": "elsewhere", "verdict": "A"}])
    with pytest.raises(InputError, match="no results named"):
        write_results_page([], tmp_path / "page.html")
    with pytest.raises(InputError, match=r"l.jsonl: none of its ids is among those of the results"):
        write_results_page([path], tmp_path / "page.html", labels)
    crossed = write(tmp_path, "crossed.jsonl", [{"id": "p1", "score": 3}])
    with pytest.raises(InputError, match=r"crossed.jsonl: id 'p1' is a pair in .*r.jsonl"):
        write_results_page([path], tmp_path / "page.html", crossed)
    for output in (path, tmp_path):
        with pytest.raises(InputError, match="name another page to write"):
            write_results_page([path], output)
    assert path.read_text() == before and not (tmp_path / "page.html").exists()


def test_the_verb_joins_agreement_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "r.jsonl", RESULTS)
    labels = write(tmp_path, "l.jsonl", LABELS)
    output = tmp_path / "page.html"
    words = ["report", str(path), "--output", str(output), "--labels", str(labels)]
    assert cli.main(words) == 0
    assert facts_of(output.read_text(encoding="utf-8")) == {
        "Judgments": "9",
        "Unparsed": "0.2222",
        "Pairwise accuracy": "0.6667",
        "Order consistency": "0.5",
        "Position bias": "0.5",
        "Pearson r": "1",
        "Unparsed, labelled": "0.125",
    }
    assert cli.main(["report", "--output", str(output)]) == 2
    assert "no results named" in capsys.readouterr().err
    path.write_text("")
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"critic-jax: error: {path}: holds no judgments\n"
