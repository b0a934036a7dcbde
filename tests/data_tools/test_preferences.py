"""`critic-data preferences`: published human preferences as prompts and as pairs.

The layout is LLaVA-RLHF's, as the training of its reward model reads it
(github.com/llava-rlhf/LLaVA-RLHF, RLHF/data_utils/data_utils_rm.py): the texts of `output_1` and
`output_2` take the place of the last turn, which is from gpt; `preference` is 1 or 2; a
conversation may stand in one more list.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from critic_data.cli import main
from critic_jax.data.pairs import read_pairs
from critic_jax.judging.prompts import read_prompts

MORE = [
    {"from": "human", "value": "What is this?\n<image>"},
    {"from": "gpt", "value": "A bus."},
    {"from": "human", "value": "Which color has it?"},
    {"from": "gpt", "value": "Red."},
]


def published(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"{number:012}",
        "image": f"{number:012}.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": "A bus, as once written."},
        ],
        "output_1": {"from": "llava", "value": "A bus."},
        "output_2": {"from": "llava", "value": "A train."},
        "preference": 1,
        "hallucination": False,
    } | changes


RECORDS = [
    published(0),
    published(1, preference=2),
    published(0, conversations=MORE),  # the same picture again, and so the same id
    published(1, conversations=[MORE]),
    published(0, output_2={"from": "llava", "value": "A bus."}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train2017").mkdir()
    for number in range(2):
        picture = Image.new("RGB", (20, 10), (90 * number, 80, 70))
        picture.save(tmp_path / "train2017" / f"{number:012}.jpg")
    return tmp_path


def call(folder: Path, records: list[Any] | str, *words: str) -> int:
    text = records if isinstance(records, str) else json.dumps(records)
    (folder / "published.json").write_text(text)
    places = ["--images", str(folder / "train2017"), "--output", str(folder / "out")]
    return main(["preferences", str(folder / "published.json"), *places, *words])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", ["array", "lines"])
def test_prompts_and_pairs(form: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(map(json.dumps, RECORDS)) if form == "lines" else json.dumps(RECORDS)
    assert call(folder, text, "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts.pop("output") == str(folder / "out")
    assert counts == {
        "prompts": 5,
        "pairs": 4,
        "equal_answers": 1,
        "several_turns": 2,
        "rejected": 0,
    }
    # Both files are what the verbs read that want them.
    pairs = read_pairs(folder / "out" / "pairs.jsonl")
    assert [(pair.id, pair.prompt, pair.chosen, pair.rejected) for pair in pairs] == [
        ("000000000000", "What is this?", "A bus.", "A train."),
        ("000000000001", "What is this?", "A train.", "A bus."),
        ("000000000000#2", "Which color has it?", "A bus.", "A train."),
        ("000000000001#2", "Which color has it?", "A bus.", "A train."),
    ]
    prompts, rejected = read_prompts(folder / "out" / "prompts.jsonl", False)
    assert not rejected and len(prompts) == 5
    assert prompts[4].id == "000000000000#3" and prompts[4].text == "What is this?"
    for prompt, record in zip(prompts, RECORDS, strict=True):
        (image,) = prompt.images
        assert image.read_bytes() == (folder / "train2017" / record["image"]).read_bytes()


def output(text: Any) -> dict[str, Any]:
    return {"from": "llava", "value": text}


DAMAGED: dict[str, tuple[Any, str]] = {
    "no choice": ({"preference": None}, "field 'preference' is null; it should be 1 or 2"),
    "another choice": ({"preference": 0}, "field 'preference' is 0; it should be 1 or 2"),
    "true": ({"preference": True}, "field 'preference' is True; it should be 1 or 2"),
    "one output": ({"output_2": None}, "field 'output_2' is null; it should be"),
    "empty output": ({"output_1": output(" ")}, "field 'output_1' is {'from': 'llava'"),
    "output of no text": ({"output_1": output(3)}, "field 'output_1' is {'from': 'llava'"),
    "NUL": ({"output_2": output("a\0")}, "field 'output_2' holds a NUL"),
    "no turns": ({"conversations": []}, "field 'conversations' is []"),
    "a text": ({"conversations": "What?"}, "field 'conversations' is 'What?'"),
    "no question": (
        {"conversations": [{"from": "human", "value": "<image>\n"}]},
        "the last question is empty",
    ),
    "two markers": (
        {"conversations": [{"from": "human", "value": "<image><image>\nWhat?"}]},
        "2 <image> markers and 1 picture",
    ),
    "no picture": ({"image": "gone.jpg"}, "gone.jpg: no such file"),
    "broken picture": ({"image": "broken.jpg"}, "broken.jpg: is not a picture"),
    "no id": ({"id": ""}, "field 'id' is ''"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_wrong_record_is_one_line_and_costs_no_other(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = DAMAGED[name]
    (folder / "train2017" / "broken.jpg").write_text("not a picture")
    records = [published(0), published(1, **change), published(1)]
    assert call(folder, records) == 0
    (told,) = lines(folder / "out" / "rejected.jsonl")
    assert said in told["reason"] and told["line"] == 1
    assert told["reason"].startswith(f"{folder / 'published.json'} line 1: ")
    assert len(lines(folder / "out" / "pairs.jsonl")) == 2
    capsys.readouterr()
    assert call(folder, records, "--strict") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(RECORDS)[:-90], "line 1: not valid JSON"),
        ("version https://git-lfs.github.com/spec/v1\n", "line 1: not valid JSON"),
        ("[]", "holds no preference that can be used"),
        (json.dumps([{"id": "a"}]), "that can be used; "),
        (json.dumps([["a"]]), "a list, where a JSON object {...} is wanted"),
    ],
)
def test_a_file_that_is_broken_leaves_what_was_there(
    text: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, RECORDS) == 0
    before = (folder / "out" / "pairs.jsonl").read_bytes()
    capsys.readouterr()
    assert call(folder, text) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error and "published.json" in error
    assert (folder / "out" / "pairs.jsonl").read_bytes() == before


def test_a_missing_folder_of_pictures_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, RECORDS, "--images", str(folder / "gone")) == 2
    assert f"{folder / 'gone'}: no such folder of pictures" in capsys.readouterr().err


def test_an_output_that_can_be_no_folder_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").write_text("mine")
    assert call(folder, RECORDS) == 2
    error = capsys.readouterr().err
    assert "out: cannot be made a folder (File exists)" in error and error.count("\n") == 1
    assert (folder / "out").read_text() == "mine"
