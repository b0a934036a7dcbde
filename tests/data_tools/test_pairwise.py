"""`critic-data pairwise`: published preferences explained, in thirty ways of asking."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotators import Annotator, contradictory, counted, judgment, misbehaving
from chat_server import Chat, chatting
from PIL import Image
from preference_sets import llava_rlhf, picture, rows, vlfeedback

from critic_data.cli import main
from critic_data.making.pair_templates import PAIR_TEMPLATES, PairTemplate
from critic_data.making.pairwise import Posed, pose
from critic_data.sources.known_pairs import Choice, KnownPair, read_known_pairs
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging.endpoint import Reply
from critic_jax.judging.judgment import winner
from critic_jax.judging.verdicts import parse_verdict


@pytest.fixture
def chat() -> Iterator[Chat]:
    with chatting(Chat(say=Annotator(faulty=False).say, usage=counted)) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(2):
        Image.new("RGB", (30, 20), (70 * n, 80, 90)).save(tmp_path / f"{n}.png")
    return tmp_path


def run(chat: Chat, sources: list[Path], output: Path, *more: str) -> int:
    words = ["pairwise", *map(str, sources), "--output", str(output), "--endpoint", chat.url]
    return main([*words, "--model", "gpt-test", *more])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_vlfeedback_gives_pairs_beyond_the_gap_and_ties(folder: Path) -> None:
    means = {
        "clear": [["5", "5", "5"], ["4", "4", "5"]],  # 0.667 apart
        "close": [["5", "5", "5"], ["5", "5", "4"]],  # 0.333
        "tied": [["5", "4", "3"], ["3", "4", "5"]],
        "unrated": [["5", "5", "5"], ["N/A", "1", "1"]],
    }
    for columns in (False, True):
        path = write_json_lines(
            folder / "vl.jsonl", [vlfeedback(n, r, columns) for n, r in means.items()]
        )
        pairs, wrong = read_known_pairs([path], None, Choice(), seed=0)
        assert not wrong
        found = {pair.id: pair for pair in pairs}
        assert set(found) == {"vlfeedback_clear", "vlfeedback_tied"}
        clear = found["vlfeedback_clear"]
        assert clear.better.startswith("Answer 0") and clear.other.startswith("Answer 1")
        assert not clear.tie and found["vlfeedback_tied"].tie
        assert clear.images == (folder / "0.png",)
    (all_but_ties, _) = read_known_pairs([path], None, Choice(gap=0.3, ties=0), seed=0)
    assert {pair.id for pair in all_but_ties} == {"vlfeedback_clear", "vlfeedback_close"}


def test_of_vlfeedback_so_many_are_drawn_one_a_row_at_most(folder: Path) -> None:
    source = rows(folder)[0]
    choice = Choice(pairs=10, ties=5)
    pairs, _ = read_known_pairs([source], None, choice, seed=1)
    assert Counter(pair.tie for pair in pairs) == {False: 10, True: 5}
    assert len({pair.id for pair in pairs}) == 15
    assert read_known_pairs([source], None, choice, seed=1)[0] == pairs
    assert read_known_pairs([source], None, choice, seed=2)[0] != pairs


def test_llava_rlhf_and_rlhf_v_are_read_as_published(folder: Path) -> None:
    _, second, third = rows(folder)
    pairs, wrong = read_known_pairs([second, third], None, Choice(), seed=0)
    assert not wrong and len(pairs) == 15
    assert pairs[0] == KnownPair(
        "llava-rlhf_000000000000",
        "llava-rlhf",
        f"{second} line 2",
        2,
        (folder / "1.png",),
        "And what is number 0?",
        "Output one, 0.",
        "Output two, 0.",
    )
    assert pairs[1].better == "Output two, 1."
    edited = pairs[9]
    assert (edited.id, edited.images) == ("rlhf-v_0", (picture(),))
    assert (edited.question, edited.better) == ("Describe number 0.", "A true answer, 0.")


def test_repeated_ids_are_told_apart(folder: Path) -> None:
    same = [{"id": "a", "prompt": "Q?", "chosen": f"Yes {n}", "rejected": "No"} for n in range(3)]
    path = write_json_lines(folder / "p.jsonl", same)
    pairs, _ = read_known_pairs([path], None, Choice(), seed=0)
    assert [pair.id for pair in pairs] == ["pairs_a", "pairs_a#2", "pairs_a#3"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (llava_rlhf(1, preference=3), "field 'preference' is 3"),
        (llava_rlhf(1) | {"output_2": None}, "field 'output_2' is missing"),
        (llava_rlhf(1) | {"conversations": []}, "holds no question"),
        (vlfeedback("x", [["N/A", "1", "1"]]), "no answer with three ratings"),
        ({"text": "{", "image": "0.png"}, "field 'text' is no JSON"),
        ({"prompt": "Q?", "chosen": "Same.", "rejected": "Same."}, "both answers are the same"),
        ({"question": "Q?"}, "holds no known layout"),
    ],
)
def test_a_wrong_row_is_told_and_costs_no_other(
    folder: Path, row: dict[str, Any], said: str
) -> None:
    path = write_json_lines(folder / "rows.jsonl", [llava_rlhf(0), row])
    pairs, (wrong,) = read_known_pairs([path], None, Choice(), seed=0)
    assert len(pairs) == 1 and said in wrong.reason and f"{path} line 2: " in wrong.reason
    write_json_lines(path, [row])
    with pytest.raises(InputError, match=r"rows\.jsonl line 1: "):
        read_known_pairs([path], None, Choice(), seed=0)


def test_thirty_ways_differ_in_all_that_they_should() -> None:
    assert len({way.template.body for way in PAIR_TEMPLATES}) == 30
    criteria = {way.criterion for way in PAIR_TEMPLATES}
    assert criteria >= {"accuracy", "helpfulness", "hallucination", "detail", "safety"}
    assert {(way.style, way.verdict_first) for way in PAIR_TEMPLATES} == {
        (style, first)
        for style in ("first", "number", "letter", "label", "json", "overall")
        for first in (False, True)
    }
    for way in PAIR_TEMPLATES:
        prompt = way.template.render(question="Q{u}?", response_a="{A}1", response_b="{B}2")
        assert prompt.index("Q{u}?") < prompt.index("{A}1") < prompt.index("{B}2")


def posed(way: PairTemplate, verdict: str) -> Posed:
    pair = KnownPair("p", "pairs", "here", 1, (), "Q?", "The good.", "The bad.", verdict == "tie")
    return Posed(pair, way, verdict)


@pytest.mark.parametrize("way", PAIR_TEMPLATES, ids=lambda way: way.template.name)
def test_a_reason_is_kept_where_its_own_verdict_agrees(way: PairTemplate) -> None:
    for verdict in ("A", "B", "tie"):
        one = posed(way, verdict)
        task = one.task()
        assert task.prompt.startswith(one.prompt) and "settled" not in one.prompt
        text = judgment(task.prompt)
        assert one.check(Reply(text, True)) == ""
        others = [posed(way, other) for other in {"A", "B", "tie"} - {verdict}]
        assert all(o.check(Reply(text, True)).startswith("contradiction") for o in others)
        told = text.replace("The picture decides it", "As the settled verdict says, it is so")
        assert one.check(Reply(told, True)).startswith("given away")
        assert one.check(Reply(way.says[verdict], True)).split(":")[0] in ("no reason", "missing")
        assert one.check(Reply("I'm sorry, I can't help.", True)).split(":")[0] in (
            "missing",
            "cut off",
        )
        if way.style != "json":
            turned = "\n".join(reversed(text.split("\n")))
            assert one.check(Reply(turned, True)) != ""


def test_the_better_answer_stands_first_in_half(folder: Path) -> None:
    pairs, _ = read_known_pairs(rows(folder, 60, 21, 14), None, Choice(30, 20), seed=0)
    chosen = pose(pairs, seed=0)
    for source in ("vlfeedback", "llava-rlhf", "rlhf-v"):
        verdicts = Counter(p.verdict for p in chosen if p.pair.source == source)
        assert abs(verdicts["A"] - verdicts["B"]) <= 1
    assert len({p.way.template.name for p in chosen}) > 20
    for one in chosen:
        first, second = (one.pair.better, one.pair.other)[:: -1 if one.verdict == "B" else 1]
        assert one.prompt.index(first) < one.prompt.index(second)


def test_a_misbehaving_endpoint_gives_each_reason_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, output = rows(folder, 80, 40, 30), folder / "out"
    with chatting(misbehaving()) as chat:
        assert run(chat, sources, output, "--pairs", "40", "--ties", "10", "--json") == 0
        summary = json.loads(capsys.readouterr().out)
        pairs, _ = read_known_pairs(sources, None, Choice(40, 10), seed=0)
        want = {
            p.pair.id: (p.prompt, judgment(p.task().prompt), p)
            for p in pose(pairs, 0)
            if not contradictory(p.task().prompt)
        }
    records, rejected = lines(output / "records.jsonl"), lines(output / "rejected.jsonl")
    assert len(records) == len(want) and len(records) + len(rejected) == 120 and rejected
    for record in records:
        human, gpt = record["conversations"]
        prompt, text, one = want[record["id"]]
        assert human["value"] == f"<image>\n{prompt}" and gpt["value"] == text
        verdict = parse_verdict(text, one.way.template).verdict
        assert winner(verdict) == one.verdict
    assert {r["id"] for r in rejected} == {p.id for p in pairs} - set(want)
    assert sum(summary["sets"].values()) == len(records)
    assert set(summary["sets"]) == {"vlfeedback", "vlfeedback ties", "llava-rlhf", "rlhf-v"}
    assert main(["validate", str(output / "records.jsonl")]) == 0
    capsys.readouterr()
    assert main(["stats", str(output / "records.jsonl"), "--json"]) == 0
    assert "no verdict" not in json.loads(capsys.readouterr().out)["kinds"]


def test_a_dry_run_tells_the_mix_and_sends_nothing(
    chat: Chat, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--pairs", "15", "--ties", "5", "--dry-run", "--json")
    assert run(chat, rows(folder), folder / "out", *more) == 0
    found = json.loads(capsys.readouterr().out)
    assert not chat.bodies and not (folder / "out").exists()
    assert found["sets"] == {"vlfeedback": 15, "vlfeedback ties": 5, "llava-rlhf": 9, "rlhf-v": 6}
