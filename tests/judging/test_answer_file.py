"""Answering a file of prompts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import save_checkpoint
from critic_jax.cli import main
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.judging import best
from critic_jax.judging.answer_file import generate_file

LINES: list[dict[str, Any]] = [
    {"id": "one", "prompt": "<image>\nWhich digit?", "image": "0.png"},
    {"id": "two", "prompt": "Which\tday?"},
    {"id": "three", "prompt": "<image>\n<image>\nWhich is larger?", "image": ["1.png", "2.png"]},
]


def say(prompt: str) -> str:
    return f"Answer to {prompt.split('user', 1)[1].strip().removesuffix('assistant').strip()}"


def test_each_line_gets_n_answers(critic_folder: Path, script: Any, pictures: Path) -> None:
    engine = script(say)
    source = write_json_lines(pictures / "in.jsonl", LINES)
    output = pictures / "out.jsonl"
    settings = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "max_new_tokens": 9, "seed": 4}
    summary = generate_file(str(critic_folder), source, output, n=2, **settings)
    assert summary == {"model": "tiny", "answered": 3, "rejected": 0}
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert found == [
        {
            "id": i,
            "prompt": p,
            "responses": [f"Answer to {p}"] * 2,
            "model": "tiny",
            "fingerprint": tiny_checkpoint().fingerprint(),
            "sampling": {"n": 2, **settings},
        }
        for i, p in [
            ("one", "Which digit?"),
            ("two", "Which\tday?"),
            ("three", "Which is larger?"),
        ]
    ]
    (sampling,) = engine.settings
    assert {name: getattr(sampling, name) for name in settings} == settings


def test_what_the_output_holds_is_not_answered_again(
    critic_folder: Path, script: Any, pictures: Path, capsys: Any
) -> None:
    engine = script(say)
    source = write_json_lines(pictures / "in.jsonl", LINES[:2])
    output = pictures / "out" / "a.jsonl"
    words = ["generate", "--model", str(critic_folder), "--input", str(source)]
    words += ["--output", str(output)]
    assert main(words) == 0 and len(engine.asked) == 2
    write_json_lines(source, LINES)
    assert main(words) == 0 and len(engine.asked) == 5  # a piece is answered whole
    found = [json.loads(line)["id"] for line in output.read_text().splitlines()]
    assert found == ["one", "two", "three"]
    before = output.read_bytes()
    assert main(words) == 0 and len(engine.asked) == 5 and output.read_bytes() == before
    capsys.readouterr()
    assert main([*words, "--n", "2"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{output} line 1: sampling is n 1, temperature 0.0" in error
    assert ", not n 2, temperature 0.0" in error and "name another output" in error
    assert output.read_bytes() == before and list(output.parent.iterdir()) == [output]


def test_a_crash_while_the_best_are_chosen_keeps_what_was_done(
    critic_folder: Path, script: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best, "PROMPTS", 1)
    drawn = iter("abcdefgh")
    judged: list[str] = []

    def until_it_fails(prompt: str) -> str:
        if "[Assistant 1]" not in prompt:
            return next(drawn)
        judged.append(prompt)
        if len(judged) == 4:
            raise KeyboardInterrupt
        return "7 5"

    engine = script(until_it_fails)
    source = write_json_lines(pictures / "in.jsonl", LINES)
    output = pictures / "out" / "a.jsonl"
    how: dict[str, Any] = {"best_of": 2, "judge": str(critic_folder)}
    with pytest.raises(KeyboardInterrupt):
        generate_file(str(critic_folder), source, output, **how)
    names = ["a.jsonl.answers.partial", "a.jsonl.partial"]
    assert sorted(path.name for path in output.parent.iterdir()) == names
    summary = generate_file(str(critic_folder), source, output, **how)
    assert (summary["answered"], summary["judgments"]) == (3, 6)
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [r["responses"] for r in found] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert [r["rewards"] for r in found] == [[0, 0]] * 3
    # The first prompt had been ranked, and no prompt was answered twice.
    assert len(judged) == 4 + 4 and next(drawn) == "g"
    assert list(output.parent.iterdir()) == [output] and len(engine.asked) == 3 + 8
    with pytest.raises(InputError, match="judge is tiny, not as usual; name another output"):
        generate_file(str(critic_folder), source, output, n=2, temperature=0.7, top_p=0.9)


@pytest.mark.parametrize("judged", [False, True])
def test_answers_that_are_all_there_may_be_of_another_model_by_now(
    judged: bool, script: Any, pictures: Path
) -> None:
    model, judge = pictures / "m" / "tiny", pictures / "j" / "judge"
    for folder in (model, judge):
        save_checkpoint(folder, tiny_checkpoint())
    script(lambda prompt: "7 5" if "[Assistant 1]" in prompt else say(prompt), model)
    source = write_json_lines(pictures / "in.jsonl", LINES)
    output = pictures / "out" / "a.jsonl"
    how: dict[str, Any] = {"best_of": 2, "judge": str(judge)} if judged else {}
    generate_file(str(model), source, output, **how)
    generate_file(str(model), source, output, **how)
    before = output.read_bytes()
    save_checkpoint(judge if judged else model, tiny_checkpoint(seed=1))
    name = "judge_fingerprint" if judged else "fingerprint"
    with pytest.raises(InputError, match=f"holds answers of a 'tiny' with the {name} "):
        generate_file(str(model), source, output, **how)
    assert output.read_bytes() == before


def test_without_an_output_answers_are_printed(
    critic_folder: Path, script: Any, pictures: Path, capsys: Any
) -> None:
    script(say)
    source = write_json_lines(pictures / "in.jsonl", LINES[:2])
    assert main(["generate", "--model", str(critic_folder), "--input", str(source)]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(p["id"], len(p["responses"])) for p in printed] == [("one", 1), ("two", 1)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"id": "x"', "line 2: not valid JSON ("),
        ({"id": "x"}, "line 2: field 'prompt' is missing or no text"),
        ({"prompt": "x"}, "line 2: field 'id' is missing; every record needs one"),
        ({"id": "", "prompt": "x"}, "line 2: field 'id' is ''; it should be a text that is not"),
        ({"id": "one", "prompt": "x"}, "line 2: id 'one' is taken by line 1"),
        ({"id": "x", "prompt": "x", "image": "gone.png"}, "gone.png: no such file"),
        ({"id": "x", "prompt": "<image> <image> x", "image": "0.png"}, "2 <image> markers and 1"),
    ],
)
def test_a_wrong_line_is_told_or_skipped(
    critic_folder: Path, script: Any, pictures: Path, capsys: Any, bad: Any, said: str
) -> None:
    script(say)
    text = bad if isinstance(bad, str) else json.dumps(bad)
    source, output = pictures / "in.jsonl", pictures / "out.jsonl"
    source.write_text("\n".join([json.dumps(LINES[0]), text, json.dumps(LINES[1])]))
    words = ["--model", str(critic_folder), "--input", str(source), "--output", str(output)]
    assert main(["generate", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{source} line 2: " in error and said in error
    assert not output.exists()
    assert main(["generate", *words, "--skip-bad"]) == 0
    assert [json.loads(r)["id"] for r in output.read_text().splitlines()] == ["one", "two"]
    (rejected,) = (pictures / "rejected.jsonl").read_text().splitlines()
    entry = json.loads(rejected)
    expected = None if isinstance(bad, str) else bad.get("id")
    assert (entry["line"], entry["id"]) == (2, expected) and said in entry["reason"]


@pytest.mark.parametrize(("setting", "value"), [("n", 0), ("temperature", -1.0), ("top_p", 2.0)])
def test_a_wrong_setting_is_told(
    critic_folder: Path, script: Any, pictures: Path, setting: str, value: float
) -> None:
    script(say)
    source = write_json_lines(pictures / "in.jsonl", LINES)
    with pytest.raises(InputError, match=f"^{setting} is {value}; it must be"):
        generate_file(str(critic_folder), source, pictures / "out.jsonl", **{setting: value})


def test_the_best_of_several_is_named(
    critic_folder: Path, script: Any, pictures: Path, capsys: Any
) -> None:
    drawn = iter(["a", "aaa", "a", "aa", "??", "x", "y", "??", "b", "b", "b", "b"])
    two = re.compile(r"\[Assistant 1\]\n(.*?)\n\[End.*\[Assistant 2\]\n(.*?)\n\[End", re.DOTALL)

    def say_or_judge(prompt: str) -> str:
        if (pair := two.search(prompt)) is None:
            return next(drawn)
        first, second = (text.count("a") for text in pair.groups())
        return "no" if "??" in "".join(pair.groups()) else f"{first + 2} {second + 1}"

    engine = script(say_or_judge)
    source = write_json_lines(pictures / "in.jsonl", LINES)
    output = pictures / "out.jsonl"
    words = ["--model", str(critic_folder), "--input", str(source), "--output", str(output)]
    words += ["--best-of", "4", "--judge", str(critic_folder)]
    assert main(["generate", *words]) == 0
    assert [s.temperature for s in engine.settings] == [0.7, 0.0]
    assert engine.settings[0].top_p == 0.9
    one, two_, three = [json.loads(line) for line in output.read_text().splitlines()]
    assert one["responses"] == ["a", "aaa", "a", "aa"]
    assert (one["state"], one["best"], one["response"]) == ("value", 1, "aaa")
    assert one["rewards"] == [-6.0, 6.0, -6.0, 0.0] and one["judge"] == "tiny"
    assert (one["judgments"], one["unparsed"]) == (6, 0)  # the two equal answers count once
    assert (two_["state"], "best" in two_, two_["responses"]) == (
        "unparsed",
        False,
        ["??", "x", "y", "??"],
    )
    assert (three["state"], three["best"], three["response"]) == ("tie", 0, "b")
    assert three["rewards"] == [0.0] * 4 and three["judgments"] == 0
    printed = capsys.readouterr().out
    assert re.search(r"without_best +1\n", printed) and re.search(r"judgments +12\n", printed)
    assert re.search(r"unparsed_rate +0.3333\n", printed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--best-of", "3"], "best-of and judge go together"),
        (["--judge", "x"], "best-of and judge go together"),
        (["--best-of", "1", "--judge", "x"], "best-of is 1; it must be at least 2"),
        (["--best-of", "3", "--judge", "x", "--n", "2"], "n and best-of exclude each other"),
        (["--best-of", "3", "--judge", "x", "--temperature", "0"], "temperature is 0"),
    ],
)
def test_a_wrong_wish_for_the_best_is_told(
    critic_folder: Path, script: Any, pictures: Path, capsys: Any, words: list[str], said: str
) -> None:
    engine = script(say)
    source = write_json_lines(pictures / "in.jsonl", LINES)
    assert main(["generate", "--model", str(critic_folder), "--input", str(source), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error and not engine.asked
