"""`critic-data pointwise`: answers judged in seven benchmarks' styles, through all that can go
wrong at an endpoint and five kills; what cannot be read is told and no record."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotators import Annotator, contradictory, counted, judgment, misbehaving
from chat_server import Chat, chatting
from data_tools_helpers import answer_line, write_answers

from critic_data.cli import main
from critic_data.making.cases import read_cases
from critic_data.making.pointwise import BENCHMARKS, Drawn, draw
from critic_jax.files import write_json_lines
from critic_jax.judging.judgment import winner
from critic_jax.judging.lines import JudgeLine, read_judge_lines
from critic_jax.judging.results import read_labels
from critic_jax.judging.templates import get_template
from critic_jax.judging.verdicts import parse_verdict

SECRET = "sk-do-not-write-me-0123456789"
PRICES = ("--price-prompt", "2.5", "--price-answer", "10")


@pytest.fixture(autouse=True)
def key(endpoint_at_hand: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@pytest.fixture
def chat() -> Iterator[Chat]:
    annotator = Annotator(faulty=False)
    with chatting(Chat(say=annotator.say, usage=counted)) as running:
        yield running


def run(chat: Chat, source: Path, output: Path, *more: str) -> int:
    words = ["pointwise", str(source), "--output", str(output), "--endpoint", chat.url]
    return main([*words, "--model", "gpt-test", *more])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def expected(source: Path) -> tuple[dict[str, str], set[str]]:
    """What the records should say, by id; and the ids of those that cannot be read."""
    drawn, _ = draw(read_cases(source)[0], [get_template(name) for name in BENCHMARKS], 0)
    said = {d.case.id: judgment(d.prompt) for d in drawn if not contradictory(d.prompt)}
    return said, {d.case.id for d in drawn} - set(said)


def held_by(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_a_misbehaving_endpoint_gives_each_judgment_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_answers(tmp_path, 200)
    with chatting(misbehaving()) as chat:
        chat.key = SECRET
        assert run(chat, source, tmp_path / "out", *PRICES, "--json") == 0
        said, unread = expected(source)
        prompts = set(chat.prompts)
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    records, rejected = (
        lines(tmp_path / "out/records.jsonl"),
        lines(tmp_path / "out/rejected.jsonl"),
    )
    assert {r["id"]: r["conversations"][1]["value"] for r in records} == said
    assert len(records) == len(said) and {r["id"] for r in rejected} == unread
    assert len(unread) > 2 and len(said) + len(unread) == 200
    assert {r["reason"].split(":")[0] for r in rejected} <= {"conflicting", "missing", "malformed"}
    assert all(
        prompts >= {r["conversations"][0]["value"].removeprefix("<image>\n")} for r in records
    )
    assert summary["records"] == len(said) and summary["rejected"] == len(unread)
    assert set(summary["templates"]) == set(BENCHMARKS)
    assert summary["spent"] > 0 and "expected to cost" in printed.err
    assert main(["validate", str(tmp_path / "out/records.jsonl")]) == 0
    assert SECRET not in held_by(tmp_path) + printed.out + printed.err


def test_templates_are_drawn_evenly_among_those_that_fit(tmp_path: Path) -> None:
    source = write_answers(tmp_path, 2000, pictures=0)
    drawn, unfit = draw(read_cases(source)[0], [get_template(name) for name in BENCHMARKS], 3)
    assert not unfit and len(drawn) == 2000

    def share(chosen: list[Drawn]) -> dict[str, float]:
        counts = Counter(one.template.name for one in chosen)
        return {name: count / len(chosen) for name, count in counts.items()}

    plain = [d for d in drawn if not d.case.reference and not d.prompt.count("Describe")]
    assert set(share(plain)) == {"llava-bench", "mmhal", "wildvision", "refomb"}
    both = [d for d in drawn if d.case.reference and d.case.question.startswith("Describe")]
    assert set(share(both)) == set(BENCHMARKS)
    for found in (share(plain), share(both)):
        assert max(abs(value - 1 / len(found)) for value in found.values()) < 0.07
    sides = [
        d.texts["response_a"] == d.case.response
        for d in drawn
        if len(d.texts) == 3 and d.template.name in ("wildvision", "refomb")
    ]
    assert abs(sum(sides) / len(sides) - 0.5) < 0.07
    for d in drawn:
        if d.template.name in ("llava-bench", "llava-wilder"):
            assert d.texts["response_b"] == d.case.response
            if d.case.reference:
                assert d.texts["response_a"] == d.case.reference
        if d.template.kind == "pairwise":
            assert d.texts["response_a"] != d.texts["response_b"]
    again, _ = draw(read_cases(source)[0], [get_template(name) for name in BENCHMARKS], 3)
    assert again == drawn


def test_a_share_is_held_back_to_measure_agreement_on(chat: Chat, tmp_path: Path) -> None:
    source = write_answers(tmp_path, 160, pictures=20)
    output = tmp_path / "out"
    assert run(chat, source, output, "--hold-back", "0.3") == 0
    labels = {label["id"]: label for label in read_labels(output / "agreement/labels.jsonl")}
    asked = list(read_judge_lines(output / "agreement/input.jsonl"))
    records = lines(output / "records.jsonl")
    assert len(labels) == len(asked) > 20 and len(labels) + len(records) == 160
    pictures = set[str]()
    for one in asked:
        assert isinstance(one, JudgeLine)
        pictures |= {path.name for path in one.images if isinstance(path, Path) and path.exists()}
        prompt = one.template.render(**{k: v for k, v in one.texts.items() if v is not None})
        verdict = parse_verdict(judgment(prompt), one.template)
        label = labels[one.id]
        assert label.get("score") == verdict.score
        assert winner(label.get("verdict")) == winner(verdict.verdict)
    assert pictures and not pictures & {Path(r["image"]).name for r in records}


def test_a_second_opinion_tells_how_far_the_annotator_agrees_with_itself(
    chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_answers(tmp_path, 40)
    assert run(chat, source, tmp_path / "out", "--reask-share", "0.9", "--json") == 0
    found = json.loads(capsys.readouterr().out)["agreement_with_itself"]
    assert found["compared"] == len(chat.bodies) - 40 > 20
    assert found["same_winner"] == 1.0 and found["score_difference"] == 0.0
    assert {body["temperature"] for body in chat.bodies} == {0.0, 0.7}
    assert len(lines(tmp_path / "out/records.jsonl")) == 40


def test_a_dry_run_sends_nothing(
    chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_answers(tmp_path, 40)
    assert run(chat, source, tmp_path / "out", *PRICES, "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert not chat.bodies and not (tmp_path / "out").exists()
    assert found["requests"] == 40 and sum(found["templates"].values()) == 40
    assert 0 < found["cost"] < found["cost_at_most"] and "picture 0" in found["first_prompt"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"response": ""}, "field 'response'"),
        ({"question": None}, "field 'question' is missing"),
        ({"template": "no-such"}, "no template is called 'no-such'"),
        ({"template": "mmvet", "pair": "alone"}, "as mmvet would need"),
        ({"image": "gone.png"}, "gone.png"),
        ({"id": "p1/m1"}, "is taken by line"),
    ],
)
def test_a_wrong_line_is_told_and_costs_no_other(
    chat: Chat, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    source = write_answers(tmp_path, 12)
    good = lines(source)[4:12]
    write_json_lines(source, [*good, answer_line(7, 8) | {"id": "wrong"} | changes])
    assert run(chat, source, tmp_path / "out") == 0
    (rejected,) = lines(tmp_path / "out/rejected.jsonl")
    assert said in rejected["reason"]
    assert len(lines(tmp_path / "out/records.jsonl")) == 8


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--hold-back", "1"], "--hold-back is 1"),
        (["--budget", "3"], "--price-prompt"),
        (["--price-prompt", "3"], "go together"),
        (["--templates", "no-such"], "no template is called"),
    ],
)
def test_wrong_options_are_told(
    chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert run(chat, write_answers(tmp_path, 4), tmp_path / "out", *more) == 2
    assert said in capsys.readouterr().err and not chat.bodies


def test_killed_it_ends_with_the_same_set(tmp_path: Path) -> None:
    check_kills(tmp_path, count=200, kills=1)


@pytest.mark.slow
def test_five_thousand_judgments_go_through_five_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, count=5000, kills=5)


def check_kills(tmp_path: Path, count: int, kills: int) -> None:
    source = write_answers(tmp_path, count, pictures=0)
    output, rng = tmp_path / "out", random.Random(count)
    partial, sizes = output / "annotations.jsonl.partial", [0]
    program = "import sys; from critic_data.cli import main; sys.exit(main())"
    with chatting(misbehaving()) as chat:
        chat.delay = 0.002
        command = [sys.executable, "-c", program, "pointwise", str(source), "--output"]
        command += [str(output), "--endpoint", chat.url, "--model", "gpt-test", *PRICES]
        command += ["--concurrency", "16", "--budget", "1000"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        for turn in range(kills + 1):
            process = subprocess.Popen(
                command,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
                stdout=subprocess.DEVNULL,
            )
            if turn < kills:
                wanted = sizes[-1] + rng.randint(2_000, 20_000)
                while process.poll() is None and _size(partial) <= wanted:
                    time.sleep(0.005)
                process.send_signal(signal.SIGKILL)
            _, error = process.communicate(timeout=300)
            assert process.returncode == (-signal.SIGKILL if turn < kills else 0), error
            sizes.append(_size(partial))
        answered = len(chat.bodies)
        said, unread = expected(source)
    assert sizes[1:-1] == sorted(set(sizes[1:-1])) and sizes[-1] == 0
    records, rejected = lines(output / "records.jsonl"), lines(output / "rejected.jsonl")
    assert {r["id"]: r["conversations"][1]["value"] for r in records} == said
    assert len(records) == len(said) and sorted(r["id"] for r in rejected) == sorted(unread)
    assert len(said) + len(unread) == count < answered
    tries = {entry["try"] for entry in lines(output / "ledger.jsonl")}
    assert len(tries) >= answered  # nothing was sent that the ledger does not count
    assert SECRET not in held_by(tmp_path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
