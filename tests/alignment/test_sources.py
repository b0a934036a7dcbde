"""What an answer is worth, by each source; and the pairs made of it by the verb."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Chat, Fault, chatting
from PIL import Image

from critic_jax.alignment.choice import Limits
from critic_jax.alignment.pairs import pairs_file
from critic_jax.alignment.sources import Wish, make_source
from critic_jax.cli import main
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines

TWO = re.compile(r"\[Assistant 1\]\n(.*?)\n\[End.*\[Assistant 2\]\n(.*?)\n\[End", re.DOTALL)
SAID = {
    "good": ["aa", "a", "aaa", "a"],
    "same": ["b", "b"],
    "tie": ["ab", "ba"],
    "odd": ["a?", "a"],
}
PROMPTS = {name: f"Which of {len(said)}?" for name, said in SAID.items()}


def by_letters(prompt: str) -> str:
    """Two scores: the number of a's, and a point more for the answer shown first."""
    pair = TWO.search(prompt)
    assert pair is not None
    first, second = (text.count("a") for text in pair.groups())
    return "I cannot." if "?" in "".join(pair.groups()) else f"{first + 2} {second + 1}\nSo it is."


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Prompts and the answers to them, as rollouts leave them."""
    Image.new("RGB", (16, 16)).save(tmp_path / "0.png")
    prompts: list[dict[str, Any]] = [{"id": n, "prompt": text} for n, text in PROMPTS.items()]
    prompts[0]["image"] = "0.png"
    lines = [{"id": n, "prompt": PROMPTS[n], "responses": said} for n, said in SAID.items()]
    return (
        write_json_lines(tmp_path / "prompts.jsonl", prompts),
        write_json_lines(tmp_path / "rollouts.jsonl", lines),
    )


@pytest.fixture
def words(files: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """The verb `pairs` with all but a source."""
    output = tmp_path / "out" / "pairs.jsonl"
    return ["pairs", "--input", *map(str, (files[0], "--rollouts", files[1], "--output", output))]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with chatting(Chat(say=by_letters)) as running:
        yield running


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_judge_compares_every_ordered_pair(
    chat: Chat, words: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "cache"))
    asked = [*words, "--judge", "letters", "--endpoint", chat.url, "--json"]
    assert main(asked) == 0
    # Of the answers aa, a, aaa and a, three are distinct; the two b's are not asked about.
    assert len(chat.prompts) == 6 + 2 + 2
    (pair,) = read(tmp_path / "out" / "pairs.jsonl")
    # r_i = 2 (4 a_i - sum of a), over all twelve pairs; the second answer is the first of two.
    assert pair == {
        "id": "good",
        "image": "../0.png",
        "prompt": "Which of 4?",
        "chosen": "aaa",
        "rejected": "a",
        "rewards": {"chosen": 2.0 * (12 - 7), "rejected": 2.0 * (4 - 7)},
    }
    assert read(tmp_path / "out" / "dropped.jsonl") == [
        {"id": "same", "why": "equal_answers", "rewards": [0.0, 0.0]},
        {"id": "tie", "why": "equal_rewards", "rewards": [0.0, 0.0]},
        {"id": "odd", "why": "unparsed", "rewards": [None, None]},
    ]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["pairs"], summary["judgments"]) == (1, 10)
    dropped = {"equal_answers": 1, "equal_rewards": 1, "unparsed": 1}
    assert (summary["dropped"], summary["unparsed_rate"]) == (dropped, 0.2)
    assert (summary["margin_mean"], summary["position_bias"]) == (16.0, 1.0)
    # Means of what was given: 2 + 1.5 of six pairs of 6 a's, and 1 + 1.5 of two of 2.
    assert summary["score_mean"] == pytest.approx(((2 + 1.5) + (1 + 1.5)) / 2)
    assert summary["source"]["judge"] == "letters" and summary["source"]["fingerprint"]
    assert chat.url not in (tmp_path / "out" / "summary.json").read_text()
    # The same command finds all of it there.
    before = (tmp_path / "out" / "pairs.jsonl").read_bytes()
    assert main(asked) == 0 and len(chat.prompts) == 10
    assert (tmp_path / "out" / "pairs.jsonl").read_bytes() == before


def test_a_judge_that_always_prefers_the_first_answer_yields_no_pairs(
    chat: Chat, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "cache"))
    chat.say = lambda prompt: "8.3 7.6"
    asked = [*words, "--judge", "first", "--endpoint", chat.url]
    assert main(asked) == 0
    assert read(tmp_path / "out" / "pairs.jsonl") == []
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["dropped"] == {"equal_answers": 1, "equal_rewards": 3}
    assert summary["position_bias"] == pytest.approx(0.7)


def test_what_an_endpoint_refuses_is_dropped(
    chat: Chat, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "cache"))
    chat.when = lambda prompt: Fault(400, "no") if "of 4" in prompt else None
    assert main([*words, "--judge", "letters", "--endpoint", chat.url]) == 0
    dropped = {one["id"]: one["why"] for one in read(tmp_path / "out" / "dropped.jsonl")}
    assert dropped["good"] == "no_rewards" and len(dropped) == 4


def scores(folder: Path, **changes: Any) -> Path:
    lines = [
        {"id": name, "response": text, "score": text.count("a") / 4}
        for name, said in SAID.items()
        for text in dict.fromkeys(said)
    ]
    return write_json_lines(folder / "scores.jsonl", [lines[0] | changes, *lines[1:]])


def test_scores_of_a_reward_model(words: list[str], tmp_path: Path) -> None:
    file = str(scores(tmp_path))
    assert main([*words, "--scores", file]) == 0
    (pair,) = read(tmp_path / "out" / "pairs.jsonl")
    assert (pair["chosen"], pair["rejected"]) == ("aaa", "a")
    assert pair["rewards"] == {"chosen": 0.75, "rejected": 0.25}
    assert main([*words, "--scores", file, "--min-margin", "0.6"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["pairs"], summary["dropped"]["small_margin"]) == (0, 1)


def test_preferences_of_people(words: list[str], tmp_path: Path) -> None:
    said = [
        ("good", "aa", "a", "A>>B"),
        ("good", "aaa", "aa", "B"),
        ("good", "aa", "never sampled", "B"),
        ("tie", "ab", "ba", "tie"),
        ("unknown", "x", "y", "A"),
    ]
    names = ("id", "response_a", "response_b", "verdict")
    file = write_json_lines(
        tmp_path / "people.jsonl", [dict(zip(names, one, strict=True)) for one in said]
    )
    assert main([*words, "--preferences", str(file)]) == 0
    (pair,) = read(tmp_path / "out" / "pairs.jsonl")
    # aa won twice, a and aaa lost once; the first of these comes first.
    assert (pair["chosen"], pair["rejected"]) == ("aa", "a")
    assert pair["rewards"] == {"chosen": 2, "rejected": -1}
    why = {one["id"]: one["why"] for one in read(tmp_path / "out" / "dropped.jsonl")}
    assert why == {"same": "equal_answers", "tie": "equal_rewards", "odd": "no_rewards"}


def test_a_function_is_called_as_trainers_call_it(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--reward-function", "reward_functions.vowels"]) == 0
    pairs = {one["id"]: one for one in read(tmp_path / "out" / "pairs.jsonl")}
    assert set(pairs) == {"odd"}  # the other answers hold no other share of vowels
    assert pairs["odd"]["rewards"] == {"chosen": 1.0, "rejected": 0.5}


def test_a_function_goes_on_where_it_was_stopped(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from critic_jax.alignment import function

    monkeypatch.setattr(function, "PROMPTS", 1)
    source = make_source(Wish(reward_function="reward_functions.by_hash"))
    plain, called = source._function, []  # type: ignore[attr-defined]

    def until_it_fails(**given: Any) -> Any:
        called.append(given["prompts"][0])
        if len(called) == 3:
            raise KeyboardInterrupt
        return plain(**given)

    source._function = until_it_fails  # type: ignore[attr-defined]
    output = tmp_path / "out" / "pairs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        pairs_file(*files, output, source, Limits())
    assert not output.exists()
    pairs_file(*files, output, source, Limits())
    assert called == [PROMPTS[n] for n in ("good", "same", "tie", "tie", "odd")]
    again = pairs_file(*files, tmp_path / "whole" / "pairs.jsonl", source, Limits())
    assert again["pairs"] == 3
    assert output.read_bytes() == (tmp_path / "whole" / "pairs.jsonl").read_bytes()
    # Answers that were sampled anew are not those that were rewarded.
    write_json_lines(files[1], [{"id": "good", "prompt": "Which of 4?", "responses": ["x", "y"]}])
    with pytest.raises(InputError, match="holds rewards of other answers to prompt 'good'"):
        pairs_file(*files, output, source, Limits())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "Give one of judge, scores, preferences, reward_function, not none of them"),
        (["--judge", "x", "--scores", "y"], "not judge and scores"),
        (["--scores", "y", "--endpoint", "http://z"], "give the name of its model as judge"),
        (["--judge", "x", "--template", "critic-pointwise"], "compares no two answers"),
        (["--judge", "gone"], "gone: no such checkpoint folder"),
        (["--reward-function", "vowels"], "it should be like my_rewards.length"),
        (["--reward-function", "no_such.vowels"], "No module named 'no_such'"),
        (["--reward-function", "reward_functions.none"], "has no function none"),
        (["--reward-function", "reward_functions.too_few"], "returned 1 rewards for 10 answers"),
        (["--reward-function", "reward_functions.words"], "returned 'good'; it should be a number"),
        (
            ["--reward-function", "reward_functions.nothing"],
            "nothing: TypeError: 'NoneType' object",
        ),
        (
            ["--reward-function", "reward_functions.no_arguments"],
            "TypeError: no_arguments() got an",
        ),
        (["--scores", "y", "--max-unparsed", "2"], "max_unparsed is 2.0"),
        (["--scores", "gone.jsonl"], "gone.jsonl: no such file"),
    ],
)
def test_a_wrong_source_is_one_line(
    words: list[str], capsys: Any, more: list[str], said: str, tmp_path: Path
) -> None:
    assert main([*words, *more]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "pairs.jsonl").exists()


def test_a_function_that_fails_is_one_line_with_its_place(
    words: list[str], capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert main([*words, "--reward-function", "reward_functions.failing"]) == 1
    error = capsys.readouterr().err
    assert re.search(r"ConnectionError: nobody answers \(reward_functions.py line \d+\)", error)
    (tmp_path / "unfinished.py").write_text("def f(:")
    assert main([*words, "--reward-function", "unfinished.f"]) == 2
    error += capsys.readouterr().err
    assert "reward_function unfinished.f: SyntaxError" in error and error.count("\n") == 2


def test_judgments_of_other_answers_are_not_taken_for_these(
    chat: Chat, words: list[str], files: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    asked = [*words, "--judge", "letters", "--endpoint", chat.url]
    assert main(asked) == 0
    before, count = (tmp_path / "out" / "pairs.jsonl").read_bytes(), len(chat.prompts)
    assert main([*asked, "--template", "mt-bench"]) == 2
    said = {"id": "good", "prompt": PROMPTS["good"], "responses": ["b", "ab", "aab", "b"]}
    write_json_lines(files[1], [said])
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert error.count("answers.jsonl: holds other answers to prompt 'good', or another templ") == 2
    assert (tmp_path / "out" / "pairs.jsonl").read_bytes() == before
    assert len(chat.prompts) == count


def test_no_file_that_is_read_is_written_over(
    files: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    held = [path.read_bytes() for path in files]
    words = ["pairs", "--input", str(files[0]), "--rollouts", str(files[1])]
    words += ["--reward-function", "reward_functions.vowels", "--output"]
    for output in map(str, files):
        assert main([*words, output]) == 2
        assert f"{output}: is read, and would be written over" in capsys.readouterr().err
    assert main([*words, str(tmp_path)]) == 2
    assert f"{tmp_path}: a folder; the output is a file of pairs" in capsys.readouterr().err
    assert [path.read_bytes() for path in files] == held


@pytest.mark.parametrize(
    ("option", "line", "said"),
    [
        ("scores", {"id": "good", "score": 1}, "line 1: field 'response' is missing"),
        ("scores", {"id": "a", "response": "a", "score": "1"}, "field 'score' is '1'"),
        ("scores", {"id": "a", "response": "a"}, "field 'score' is null"),
        ("scores", {"id": "good", "response": "aa", "score": 1}, "of the answer 'a' to prompt"),
        ("preferences", {"id": "a", "response_a": "x"}, "field 'response_b' is missing"),
        (
            "preferences",
            {"id": "a", "response_a": "x", "response_b": "y", "verdict": "C"},
            "field 'verdict' is 'C'; it should be one of A>>B",
        ),
    ],
)
def test_a_wrong_line_of_a_given_file_is_named(
    words: list[str], tmp_path: Path, capsys: Any, option: str, line: dict[str, Any], said: str
) -> None:
    file = write_json_lines(tmp_path / "given.jsonl", [line])
    assert main([*words, f"--{option}", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error and str(file) in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "other", "prompt": "x", "responses": ["a", "b"]}, "is no answer to a prompt"),
        ({"id": "good", "prompt": "x", "responses": ["a", "b"]}, "is no answer to a prompt"),
        ({"id": "good", "prompt": "Which of 4?"}, "field 'responses' should be a list of texts"),
        ({"id": "good", "prompt": "Which of 4?", "responses": ["a"]}, "two answers or more"),
    ],
)
def test_a_wrong_rollout_is_named(
    files: tuple[Path, Path], words: list[str], capsys: Any, line: dict[str, Any], said: str
) -> None:
    write_json_lines(files[1], [line])
    assert main([*words, "--reward-function", "reward_functions.vowels"]) == 2
    error = capsys.readouterr().err
    assert f"{files[1]} line 1: " in error and said in error and error.count("\n") == 1
