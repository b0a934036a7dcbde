"""Recipes that are wrong, and one that is only looked at."""

import json
from pathlib import Path
from typing import Any

import pytest
from annotators import Annotator, counted
from chat_server import Chat, chatting
from published_set import picture_file

from critic_data.cli import main
from critic_jax.files import write_json_lines

GOOD = """\
output = "made"
[annotator]
endpoint = "{url}"
model = "m"
price_prompt = 1
price_answer = 2.0
[pointwise]
input = "answers.jsonl"
hold_back = 0.25
templates = ["caption"]
[pairwise]
sources = ["pairs.jsonl"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0.png").write_bytes(picture_file(0))
    line = {"image": "0.png", "question": "Describe it."}
    answers = [line | {"id": str(n), "response": f"Answer {n}."} for n in range(6)]
    write_json_lines(tmp_path / "answers.jsonl", answers)
    pair = {"image": "0.png", "prompt": "What?", "chosen": "This.", "rejected": "That."}
    write_json_lines(tmp_path / "pairs.jsonl", [pair | {"id": f"p{n}"} for n in range(4)])
    return tmp_path


def test_a_dry_run_asks_nothing_and_a_run_makes_what_there_is(folder: Path, capsys: Any) -> None:
    with chatting(Chat(say=Annotator(faulty=False).say, usage=counted)) as chat:
        file = folder / "recipe.toml"
        file.write_text(GOOD.format(url=chat.url))
        assert main(["recipe", str(file), "--dry-run"]) == 0
        told = capsys.readouterr().out
        assert not chat.bodies and "pointwise." in told and "pairwise." in told
        assert main(["recipe", str(file)]) == 0
        assert len(chat.bodies) == 10
    made = folder / "made"
    assert len((made / "pairwise/records.jsonl").read_text().splitlines()) == 4
    kept = [made / "pointwise" / name for name in ("records.jsonl", "agreement/labels.jsonl")]
    assert sum(len(p.read_text().splitlines()) for p in kept if p.exists()) == 6


def test_what_came_later_is_imported_too(folder: Path) -> None:
    with chatting(Chat(say=Annotator(faulty=False).say)) as chat:
        file, told = folder / "recipe.toml", folder / "made/set/import.json"
        file.write_text(GOOD.format(url=chat.url) + "[import]\n")
        assert main(["recipe", str(file)]) == 0
        first, made = json.loads(told.read_text()), told.stat().st_mtime_ns
        assert main(["recipe", str(file)]) == 0
        assert told.stat().st_mtime_ns == made
        pair = {"id": "new", "image": "0.png", "prompt": "Why?", "chosen": "A.", "rejected": "B."}
        with (folder / "pairs.jsonl").open("a") as pairs:
            pairs.write(json.dumps(pair) + "\n")
        assert main(["recipe", str(file)]) == 0
        assert len(chat.bodies) == 11
    assert json.loads(told.read_text())["records"] == first["records"] + 1


def test_what_is_not_made_yet_is_waited_for(folder: Path, capsys: Any) -> None:
    file = folder / "recipe.toml"
    file.write_text(GOOD.format(url="http://nowhere").replace("answers.jsonl", "later.jsonl"))
    assert main(["recipe", str(file), "--dry-run", "--json"]) == 0
    assert '"waits_for"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("output =", "outptu =", "output is missing; it should be a folder"),
        ("[pairwise]", "[pairwize]", "no field 'pairwize'; did you mean 'pairwise'?"),
        ("hold_back", "hold_bak", "[pointwise]: no field 'hold_bak'; did you mean 'hold_back'?"),
        ("0.25", '"a quarter"', "[pointwise] hold_back is 'a quarter'; it should be a number"),
        ('["caption"]', '"caption"', "[pointwise] templates should be a list"),
        ('model = "m"\n', "", "[pointwise] model is missing"),
        ('sources = ["pairs.jsonl"]', "", "[pairwise] sources is missing"),
        ('"answers.jsonl"', "7", "[pointwise] input is 7; it should be a path"),
        (
            "price_prompt = 1",
            "seed = true",
            "[pointwise] seed is True; it should be a whole",
        ),
        ("[pointwise]", "[pointwise", "not valid TOML"),
        (GOOD[GOOD.index("[annotator]") :], "", "has no step; a step is a table: answers"),
    ],
)
def test_a_wrong_recipe_is_one_line(
    old: str, new: str, said: str, folder: Path, capsys: Any
) -> None:
    file = folder / "recipe.toml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new).replace("{url}", "http://nowhere"))
    assert main(["recipe", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error and "recipe.toml" in error and error.count("\n") == 1
    assert not (folder / "made").exists()


def test_a_recipe_that_is_not_there(tmp_path: Path, capsys: Any) -> None:
    assert main(["recipe", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: cannot be read (No such file" in capsys.readouterr().err
