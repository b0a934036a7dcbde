"""Judging a file: order, resuming, both orders, and what stands where something went wrong."""

import json
import re
import resource
from pathlib import Path
from typing import Any

import pytest
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import save_checkpoint
from critic_jax.cli import main
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging import batch
from critic_jax.judging.batch import judge_file

PAIR = re.compile(r"first response: \[(.*?)\]\nThe second response: \[(.*?)\]", re.DOTALL)
SINGLE = re.compile(r"LMM response: \[(.*?)\]", re.DOTALL)


def say(prompt: str) -> str:
    """More points for more a's; of two answers the one with more."""
    pair = PAIR.search(prompt)
    if pair:
        a, b = (text.count("a") for text in pair.groups())
        if a == b:
            return "Both responses are equally good."
        return f"Café. The better response: [{'first' if a > b else 'second'}]"
    single = SINGLE.search(prompt)
    assert single is not None
    if "?" in single[1]:
        return "I cannot tell."
    return f"Naïve — true.\nScore: {10 * single[1].count('a')}"


def line(number: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": f"q{number}", "question": "Which digit?"}
    if number != 2:
        fields["image"] = f"{number}.png"
    if number % 2:
        answers = {"response_a": "a" * (number - 3 + 1), "response_b": "aa"}
        return fields | answers  # q1: "", q3: a, q5: aaa, q7: aaaaa, against aa
    return fields | {"response": "it is ??" if number == 4 else "a" * number}


@pytest.fixture
def source(pictures: Path) -> Path:
    return write_json_lines(pictures / "in.jsonl", [line(n) for n in range(8)])


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def test_results_stand_in_the_order_of_the_input(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path
) -> None:
    engine = script(say)
    output = tmp_path / "out" / "results.jsonl"
    summary = judge_file(str(critic_folder), source, output)
    found = results(output)
    assert [r["id"] for r in found] == [f"q{n}" for n in range(8)]
    assert [r.get("score") for r in found[::2]] == [0, 20, None, 60]
    assert [r.get("verdict") for r in found[1::2]] == ["B", "B", "A", "A"]
    assert found[0] == {
        "id": "q0",
        "state": "value",
        "score": 0.0,
        "reason": "Naïve — true.",
        "raw": "Naïve — true.\nScore: 0",
        "template": "critic-pointwise",
        "model": "tiny",
        "fingerprint": tiny_checkpoint().fingerprint(),
        "image": "../0.png",
        "question": "Which digit?",
        "response": "",
    }
    assert (found[4]["state"], found[4]["raw"]) == ("unparsed", "I cannot tell.")
    assert found[4]["why"].startswith("missing: ") and "score" not in found[4]
    assert all("order" not in r for r in found)
    assert len(engine.asked) == 8
    assert {s.temperature for s in engine.settings} == {0.0}
    assert {s.max_new_tokens for s in engine.settings} == {12}  # the checkpoint's own
    assert summary == {
        "model": "tiny",
        "fingerprint": found[0]["fingerprint"],
        "judgments": 8,
        "unparsed": 1,
        "unparsed_rate": 1 / 8,
        "mean_score": 80 / 3,
        "verdicts": {"A": 2, "B": 2},
        "rejected": 0,
    }
    assert json.loads((output.parent / "summary.json").read_text()) == summary
    assert sorted(p.name for p in output.parent.iterdir()) == ["results.jsonl", "summary.json"]


def test_both_orders_speak_of_the_answers_as_the_line_names_them(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path
) -> None:
    engine = script(say)
    output = tmp_path / "both.jsonl"
    judge_file(str(critic_folder), source, output, order="both")
    found = results(output)
    names = [(r["id"], r.get("order")) for r in found]
    assert names == [
        *(("q0", None), ("q1", "ab"), ("q1", "ba"), ("q2", None), ("q3", "ab"), ("q3", "ba")),
        *(("q4", None), ("q5", "ab"), ("q5", "ba"), ("q6", None), ("q7", "ab"), ("q7", "ba")),
    ]
    verdicts = {(r["id"], r["order"]): r["verdict"] for r in found if "order" in r}
    assert verdicts == {(f"q{n}", o): "BBAA"[n // 2] for n in (1, 3, 5, 7) for o in ("ab", "ba")}
    # What the judge itself wrote says the opposite in the second order.
    assert [r["raw"][-8:] for r in found if r["id"] == "q5"] == [" [first]", "[second]"]
    shown = [PAIR.search(text) for text in engine.asked]
    assert [m.groups() for m in shown if m][:2] == [("", "aa"), ("aa", "")]
    assert {r["response_a"] for r in found if r["id"] == "q5"} == {"aaa"}


def test_a_judge_with_a_bias_for_the_first_answer_contradicts_itself(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path
) -> None:
    script(lambda prompt: "The better response: [first]")
    output = tmp_path / "both.jsonl"
    judge_file(str(critic_folder), source, output, order="both")
    pairs = [r for r in results(output) if "order" in r]
    assert [(r["order"], r["verdict"]) for r in pairs] == [("ab", "A"), ("ba", "B")] * 4


@pytest.mark.parametrize("cut", ["mid-line", "mid-character", "whole"])
def test_a_run_that_was_cut_short_is_gone_on_with(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path, cut: str
) -> None:
    engine = script(say)
    whole, output = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    judge_file(str(critic_folder), source, whole, order="both")
    assert len(engine.asked) == 12
    partial = tmp_path / "cut.jsonl.partial"
    written = whole.read_bytes()
    lines = written.splitlines(keepends=True)
    if cut == "mid-line":
        end = len(b"".join(lines[:5])) + 30
    elif cut == "mid-character":  # between the two bytes of an é
        end = written.index("é".encode(), len(b"".join(lines[:5]))) + 1
    else:
        end = len(b"".join(lines[:6]))
    partial.write_bytes(written[:end])
    kept = written[:end].count(b"\n")

    engine.asked.clear()
    summary = judge_file(str(critic_folder), source, output, order="both")
    assert len(engine.asked) == 12 - kept
    assert output.read_bytes() == written
    assert summary["judgments"] == 12
    assert not partial.exists()


def test_what_the_output_holds_is_not_judged_again(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path
) -> None:
    engine = script(say)
    output = tmp_path / "out.jsonl"
    judge_file(str(critic_folder), source, output, limit=3)
    assert [r["id"] for r in results(output)] == ["q0", "q1", "q2"]
    first = judge_file(str(critic_folder), source, output)
    assert len(engine.asked) == 8 and len(results(output)) == 8
    before = output.read_bytes()
    assert judge_file(str(critic_folder), source, output) == first
    assert judge_file(str(critic_folder), source, output, limit=2) == first  # nothing is dropped
    assert len(engine.asked) == 8 and output.read_bytes() == before
    # Asking the other order too keeps the verdicts of the first, and says which they are.
    judge_file(str(critic_folder), source, output, order="both")
    assert len(engine.asked) == 12
    assert [r["order"] for r in results(output) if "verdict" in r] == ["ab", "ba"] * 4


def test_a_prescribed_penalty_is_in_force_until_it_is_switched_off(
    source: Path, tmp_path: Path, script: Any, prescribing: Path
) -> None:
    engine = script(say, prescribing)
    first = judge_file(str(prescribing), source, tmp_path / "a.jsonl")
    second = judge_file(str(prescribing), source, tmp_path / "b.jsonl", repetition_penalty=1.0)
    assert [s.repetition_penalty for s in engine.settings[:: len(engine.settings) - 1]] == [1.05, 1]
    # The two judge alike here, but are not the same judge.
    assert first["fingerprint"] != second["fingerprint"]
    with pytest.raises(InputError, match="repetition_penalty is -1; it must be above 0"):
        judge_file(str(prescribing), source, tmp_path / "c.jsonl", repetition_penalty=-1)


def test_results_of_other_weights_or_settings_are_not_gone_on_with(
    source: Path, tmp_path: Path, script: Any, prescribing: Path
) -> None:
    engine = script(say, prescribing)
    output = tmp_path / "out.jsonl"
    judge_file(str(prescribing), source, output, limit=3)
    before, asked = output.read_bytes(), len(engine.asked)
    with pytest.raises(InputError, match="holds judgments of a 'tiny' with the fingerprint "):
        judge_file(str(prescribing), source, output, repetition_penalty=1.0)
    assert len(engine.asked) == asked and output.read_bytes() == before


def test_results_that_are_all_there_may_be_of_another_model_by_now(
    source: Path, tmp_path: Path, script: Any, prescribing: Path
) -> None:
    engine = script(say, prescribing)
    output = tmp_path / "out.jsonl"
    judge_file(str(prescribing), source, output)
    before, asked = output.read_bytes(), len(engine.asked)
    others: list[dict[str, Any]] = [{"weights": "int8"}, {"dtype": "bfloat16"}]
    for settings in [*others, {"max_new_tokens": 7}]:
        with pytest.raises(InputError, match="holds judgments of a 'tiny' with the fingerprint "):
            judge_file(str(prescribing), source, output, **settings)
    save_checkpoint(prescribing, tiny_checkpoint(seed=1))
    with pytest.raises(InputError, match="holds judgments of a 'tiny' with the fingerprint "):
        judge_file(str(prescribing), source, output)
    assert len(engine.asked) == asked and output.read_bytes() == before


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            {"id": "q0", "model": "other"},
            "a judgment of model 'other', not of 'tiny'; name another",
        ),
        ({"id": "q0", "note": "mine"}, "no judgment, not of 'tiny'; name another output"),
    ],
)
def test_another_models_results_are_left_alone(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path, held: Any, said: str
) -> None:
    engine = script(say)
    output = write_json_lines(tmp_path / "out.jsonl", [held])
    before = output.read_bytes()
    with pytest.raises(InputError, match=re.escape(f"{output} line 1: is {said}")):
        judge_file(str(critic_folder), source, output)
    assert output.read_bytes() == before and not engine.asked
    # Nothing of it stands in the way once the file is gone.
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_a_failure_leaves_an_earlier_output_as_it_was(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path
) -> None:
    engine = script(say)
    output = tmp_path / "out.jsonl"
    judge_file(str(critic_folder), source, output)
    before = {p: p.read_bytes() for p in (output, tmp_path / "summary.json")}
    more = [line(n) for n in range(8)] + [line(0) | {"id": "new", "image": "gone.png"}]
    write_json_lines(source, more)
    with pytest.raises(InputError, match=r"in.jsonl line 9: .*gone.png: no such file"):
        judge_file(str(critic_folder), source, output)
    assert {p: p.read_bytes() for p in before} == before
    write_json_lines(source, [*more[:8], more[8] | {"image": "0.png"}])
    judge_file(str(critic_folder), source, output)
    assert len(engine.asked) == 9
    assert [r["id"] for r in results(output)] == [*(f"q{n}" for n in range(8)), "new"]


def test_a_crash_in_the_middle_keeps_what_was_judged(
    source: Path,
    critic_folder: Path,
    script: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def fails_late(prompt: str) -> str:
        calls.append(prompt)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return say(prompt)

    script(fails_late)
    monkeypatch.setattr(batch, "CHUNK", 8)
    output = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        judge_file(str(critic_folder), source, output, order="both")
    assert not output.exists()
    engine = script(say)
    judge_file(str(critic_folder), source, output, order="both")
    assert len(results(output)) == 12
    assert len(engine.asked) == 3  # nine were written before the crash


def test_a_full_disk_is_one_line_and_keeps_what_was_judged(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path, capsys: Any
) -> None:
    engine = script(say)
    output = tmp_path / "out" / "r.jsonl"
    words = ["judge", "--model", str(critic_folder), "--input", str(source), "--no-cache"]
    words += ["--output", str(output)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert main(words) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{output}: no room left to write (File too large)" in error
    assert output.with_name("r.jsonl.partial").stat().st_size == 1000 and not output.exists()
    before = len(engine.asked)
    assert main(words) == 0 and len(results(output)) == 8
    assert 0 < len(engine.asked) - before < 8


def test_files_with_nothing_to_judge(critic_folder: Path, script: Any, tmp_path: Path) -> None:
    script(say)
    source = tmp_path / "empty.jsonl"
    source.write_text("\n")
    summary = judge_file(str(critic_folder), source, tmp_path / "out.jsonl")
    assert summary["judgments"] == 0 and summary["unparsed_rate"] is None
    with pytest.raises(InputError, match=r"none.jsonl: no such file"):
        judge_file(str(critic_folder), tmp_path / "none.jsonl", tmp_path / "out.jsonl")


def test_lines_with_one_picture_are_asked_together(
    pictures: Path, critic_folder: Path, script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CHUNK", 3)
    engine = script(say)
    lines = [line(2 * n) | {"id": f"q{n}", "image": f"{n % 2}.png"} for n in range(10)]
    source = write_json_lines(pictures / "in.jsonl", lines)
    output = pictures / "out.jsonl"
    judge_file(str(critic_folder), source, output)
    assert [r["id"] for r in results(output)] == [f"q{n}" for n in range(10)]
    counts = [text.count("a" * 3) for text in engine.asked]
    assert len(counts) == 10
    shown = [SINGLE.search(text) for text in engine.asked]
    asked = [len(m[1]) // 2 % 2 if "?" not in m[1] else 0 for m in shown if m]
    assert asked == [0] * 5 + [1] * 5


def test_what_was_judged_before_is_taken_from_the_cache(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path, capsys: Any
) -> None:
    engine = script(say)
    words = ["judge", "--model", str(critic_folder), "--input", str(source), "--order", "both"]
    outputs = [tmp_path / f"{n}.jsonl" for n in range(4)]
    assert main([*words, "--output", str(outputs[0])]) == 0
    assert main([*words, "--output", str(outputs[1])]) == 0
    assert len(engine.asked) == 12 and outputs[1].read_bytes() == outputs[0].read_bytes()
    assert main([*words, "--output", str(outputs[2]), "--no-cache"]) == 0
    assert main([*words, "--output", str(outputs[3]), "--cache", str(tmp_path / "own")]) == 0
    assert len(engine.asked) == 36
    assert {path.read_bytes() for path in outputs} == {outputs[0].read_bytes()}
    assert len([p for p in (tmp_path / "own").rglob("*") if p.is_file()]) == 12
    assert main([*words, "--output", str(outputs[0]), "--no-cache", "--cache", "x"]) == 2
    assert "--cache and --no-cache exclude each other" in capsys.readouterr().err
    assert main([*words, "--output", str(outputs[0]), "--cache", str(source)]) == 2
    assert f"--cache {source}: is a file; it should be a folder" in capsys.readouterr().err


def test_sampling_makes_another_judge(
    source: Path, critic_folder: Path, script: Any, tmp_path: Path
) -> None:
    engine = script(say)

    def judge(name: str, **settings: Any) -> str:
        return str(
            judge_file(str(critic_folder), source, tmp_path / name, **settings)["fingerprint"]
        )

    greedy = judge("a")
    assert judge("b", seed=5) == greedy  # nothing is drawn
    assert {s.seed for s in engine.settings} == {0}
    engine.settings.clear()
    drawn = judge("c", temperature=0.5, seed=5, max_new_tokens=7)
    (sampling,) = set(engine.settings)
    assert (sampling.temperature, sampling.seed, sampling.max_new_tokens) == (0.5, 5, 7)
    assert len({greedy, drawn, judge("d", temperature=0.5, seed=6, max_new_tokens=7)}) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--fail-under", "mean_score=20", "--fail-on-unparsed", "0.2"], 0, ""),
        (["--fail-under", "mean_score=30"], 1, "mean_score is 26.67, under 30"),
        (["--fail-on-unparsed", "0.1"], 1, "unparsed_rate is 0.125, over 0.1"),
        (
            ["--fail-under", "judgments=9", "--fail-under", "order_consistency=1"],
            1,
            "judgments is 8, under 9; order_consistency is not known",
        ),
        (["--fail-under", "accuracy=1"], 2, "no metric is called 'accuracy'"),
        (["--fail-on-unparsed", "12"], 2, "should be a share from 0 to 1"),
    ],
)
def test_a_limit_that_is_missed_is_exit_code_1_once_all_is_written(
    source: Path,
    critic_folder: Path,
    script: Any,
    tmp_path: Path,
    capsys: Any,
    words: list[str],
    code: int,
    said: str,
) -> None:
    script(say)
    output = tmp_path / "out.jsonl"
    files = ["--input", str(source), "--output", str(output), "--json"]
    assert main(["judge", "--model", str(critic_folder), *files, *words]) == code
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == (code != 0)
    assert output.exists() == (code != 2)
    if code != 2:
        assert json.loads(printed.out) == json.loads((tmp_path / "summary.json").read_text())
        assert len(results(output)) == 8
