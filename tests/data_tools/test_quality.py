"""`critic-data quality`: doubles, overlap, balance, reasons, a page to browse and a card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

from critic_data.cli import main
from critic_data.quality.pictures import Looks, look
from critic_data.quality.texts import Questions
from critic_jax.files import write_json, write_json_lines
from critic_jax.judging.templates import get_template

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs; of one of them copies in another size, compression and light; flat ones."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in NAMES:
        image = Image.fromarray(getattr(photographs, name)()).convert("RGB")
        image.resize((160, 120)).save(folder / f"{name}.png")
    astronaut = Image.open(folder / "astronaut.png")
    astronaut.resize((100, 75)).save(folder / "small.jpg", quality=40)
    Image.fromarray((np.asarray(astronaut) * 0.95).astype(np.uint8)).save(folder / "darker.png")
    for name, color in (("white", (255, 255, 255)), ("red", (200, 0, 0))):
        Image.new("RGB", (50, 50), color).save(folder / f"{name}.png")
    return folder


def scored(name: str, picture: str, score: int, question: str = "What is it?") -> dict[str, Any]:
    prompt = get_template("critic-pointwise").render(question=question, response="A cat.")
    answer = f"It is seen at once that {name} holds a cat and nothing else.\nScore: {score}"
    return record(name, picture, prompt, answer)


def compared(name: str, picture: str, label: str) -> dict[str, Any]:
    prompt = get_template("mt-bench").render(
        question="Which?", response_a=f"A {name}", response_b="B"
    )
    return record(name, picture, prompt, f"Good.\n[[{label}]]")


def record(name: str, picture: str, prompt: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<image>\n{prompt}"}, {"from": "gpt", "value": answer}]
    return {"id": name, "source": "svit", "image": picture, "conversations": turns}


def quality(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    assert main(["quality", *map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_copies_look_alike_and_nothing_else_does(pictures: Path) -> None:
    names = sorted(path.name for path in pictures.iterdir())
    looks = Looks([look(pictures / name, name) for name in names])
    (group,) = looks.groups()
    assert {names[place] for place in group} == {"astronaut.png", "small.jpg", "darker.png"}
    white = look(pictures / "white.png", "")
    assert [names[place] for place in looks.near(white)] == ["white.png"]


def test_every_near_hash_is_found() -> None:
    """By the bands as by comparing each with each."""
    rng = np.random.default_rng(0)
    from critic_data.quality.pictures import Look

    flat = np.zeros((8, 8, 3), np.uint8)
    start = int(rng.integers(0, 2**63))
    looks = []
    for bits in rng.integers(0, 14, 300):
        flips = rng.choice(64, int(bits), replace=False)
        looks.append(Look(start ^ sum(1 << int(bit) for bit in flips), flat))
    table = Looks(looks)
    for one in looks[:60]:
        assert list(table.near(one)) == [n for n, other in enumerate(looks) if one.near(other)]


def test_a_question_is_found_word_by_word() -> None:
    known = Questions(["What is the man in the picture doing?", "Why is it?"])
    assert list(known.held_by("Judge: what is the man, in the picture, doing? Well.")) == [0]
    assert list(known.held_by("What is the man in the picture wearing? Why is it?")) == []


def test_doubles_and_overlap_are_counted(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "What does the person in orange wear on the arm?"
    records = [
        scored("a", "astronaut.png", 70),
        scored("b", "small.jpg", 71, asked),
        scored("c", "chelsea.png", 72, asked),
        scored("d", "chelsea.png", 73, "Another?"),
        scored("e", "coffee.png", 74),
        {**scored("e2", "coffee.png", 75)},
    ]
    source = write_json_lines(pictures / "records.jsonl", records)
    evaluation = write_json(
        pictures / "bench.json", [{"id": "q", "image": "darker.png", "question": asked}]
    )
    found = quality(capsys, source, "--against", evaluation)
    assert found["records"] == 6 and found["pictures"] == 4
    assert found["doubles"]["near_duplicate_pictures"] == 1
    assert found["doubles"]["repeated_prompts"] == 1
    overlap = found["overlap"]
    assert (overlap["same_picture"], overlap["same_question"], overlap["both"]) == (2, 2, 1)
    assert overlap["ids"] == ["a", "b", "c"]


def test_balance_and_reasons_are_measured(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["A"] * 30 + ["B"] * 10 + ["C"] * 5
    pairs = [compared(f"p{n}", "rocket.png", label) for n, label in enumerate(labels)]
    singles = [scored(f"s{n}", "coffee.png", 80 if n < 6 else 20) for n in range(10)]
    source = write_json_lines(pictures / "balance.jsonl", [*pairs, *singles])
    found = quality(capsys, source)
    assert found["labels"] == {"A": 30, "B": 10, "tie": 5}
    position = found["position"]
    assert position["decided"] == 40 and position["first_wins"] == 0.75
    assert position["p_value"] == pytest.approx(0.00222, abs=1e-5)  # two-sided, of 30 in 40
    assert found["scores"]["of 100"] == {
        "count": 10,
        "mean": pytest.approx(56.0),
        "deviation": pytest.approx(29.394, abs=1e-3),
        "share_of_the_commonest": 0.6,
    }
    assert found["reasons"]["short"] == 45 and found["reasons"]["repeated"] == 44
    assert found["reasons"]["median_words"] == 1 and found["reasons"]["p95_words"] == 13


def test_a_page_and_a_card_are_written(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures / "made"
    folder.mkdir()
    records = [scored(f"s{n}", "../coffee.png", n) for n in range(20)]
    source = write_json_lines(folder / "records.jsonl", records)
    itself = {"compared": 3, "same_winner": None, "score_difference": 0.02}
    summary = {"annotator": "gpt-x", "records": 20, "rejected": 4, "held_back": 2}
    write_json(folder / "summary.json", summary | {"agreement_with_itself": itself})
    page, card = folder / "sample.html", folder / "CARD.md"
    quality(capsys, source, "--page", page, "--sample", "7", "--card", card)
    text = page.read_text()
    assert text.count("<article") == 7 and "data:image/" in text and "<script src" not in text
    told = card.read_text()
    assert "20 judgments of answers about 1 pictures" in told
    assert "by `gpt-x`; 4 were left out" in told and "score difference 0.02" in told
    assert "| svit | 20 | 100.0 % |" in told and "not measured" in told


def test_wrong_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality"]) == 2
    (tmp_path / "r.jsonl").write_text('{"id": "a"}\n')
    assert main(["quality", str(tmp_path / "r.jsonl")]) == 2
    assert "holds no usable record (1 rejected)" in capsys.readouterr().err
