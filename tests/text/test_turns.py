"""From records to turns: which `<image>` is a picture, which is text, and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from critic_jax.errors import InputError
from critic_jax.text import IMAGE, SYSTEM_TURN, Turn, leading_markers, record_turns


def _record(*values: str) -> list[dict[str, str]]:
    speakers = ("human", "gpt")
    return [{"from": speakers[i % 2], "value": value} for i, value in enumerate(values)]


def _first(value: str, pictures: int) -> tuple[object, ...]:
    return record_turns(_record(value, "Yes."), pictures)[1].parts


def test_system_line_ends_in_a_full_stop() -> None:
    assert Turn("system", ("You are a helpful assistant.",)) == SYSTEM_TURN


def test_one_picture_whole_record() -> None:
    turns = record_turns(_record("<image>\nWhat is it?", "A <image>.", "Sure?", "Yes."), 1)
    assert turns == [
        SYSTEM_TURN,
        Turn("user", (IMAGE, "\nWhat is it?")),
        Turn("assistant", ("A <image>.",)),
        Turn("user", ("Sure?",)),
        Turn("assistant", ("Yes.",)),
    ]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("<image>\nWhat?", (IMAGE, "\nWhat?")),
        ("<image>What?", (IMAGE, "\nWhat?")),
        (" <image> \n\n What? ", (IMAGE, "\nWhat? ")),
        ("<image>", (IMAGE,)),
        ("<image>\n", (IMAGE,)),
        # Only the leading marker is a picture.
        ("<image>\nIs <image> a word? <image>", (IMAGE, "\nIs <image> a word? <image>")),
        # A lone marker elsewhere moves to the front, and the rest is stripped, as upstream does.
        ("What?\n<image>", (IMAGE, "\nWhat?")),
        ("What is <image> this?", (IMAGE, "\nWhat is  this?")),
        # Control tokens are text and stay as they are.
        ("<image>\n<|im_end|><|im_start|>", (IMAGE, "\n<|im_end|><|im_start|>")),
    ],
)
def test_one_picture_placements(value: str, parts: tuple[object, ...]) -> None:
    assert _first(value, 1) == parts


@pytest.mark.parametrize(
    ("value", "pictures", "message"),
    [
        ("<image>\n<image>\nWhat?", 1, "2 <image> markers and 1 picture;"),
        ("<image> <image><image> What?", 1, "3 <image> markers and 1 picture;"),
        ("What?", 1, "0 <image> markers and 1 picture;"),
        ("A <image> and a <image>?", 1, "2 <image> markers and 1 picture;"),
        ("<image>\nWhat?", 0, "1 <image> marker and 0 pictures;"),
        ("<image>\nWhat?", 2, "1 <image> marker and 2 pictures;"),
        ("<image><image><image>", 2, "3 <image> markers and 2 pictures;"),
        ("What?", 3, "0 <image> markers and 3 pictures;"),
    ],
)
def test_markers_that_do_not_match_the_pictures(value: str, pictures: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _first(value, pictures)


def test_without_a_picture_markers_inside_are_text() -> None:
    assert _first("What does <image> mean?", 0) == ("What does <image> mean?",)


def test_several_pictures_keep_their_places() -> None:
    values = ("<image> <image>\nSame?", "No, <image>.", "And <image>?", "Yes.")
    turns = record_turns(_record(*values), 3)
    assert turns[1:] == [
        Turn("user", (IMAGE, " ", IMAGE, "\nSame?")),
        Turn("assistant", ("No, <image>.",)),
        Turn("user", ("And ", IMAGE, "?")),
        Turn("assistant", ("Yes.",)),
    ]


def test_speakers_have_two_names_and_a_system_turn_replaces_the_default() -> None:
    conversation = [
        {"from": "system", "value": "Be brief."},
        {"from": "user", "value": "<image>\nWhat?"},
        {"from": "assistant", "value": "A dog."},
    ]
    assert record_turns(conversation, 1) == [
        Turn("system", ("Be brief.",)),
        Turn("user", (IMAGE, "\nWhat?")),
        Turn("assistant", ("A dog.",)),
    ]
    assert len(record_turns(conversation[:2], 1)) == 2


@pytest.mark.parametrize(
    ("conversations", "message"),
    [
        ([], "no human turn"),
        ([{"from": "system", "value": "x"}], "no human turn"),
        (_record("Hi")[0], "should be a list"),
        ("Hi", "should be a list"),
        (["Hi"], "turn 1 is str"),
        (
            [{"from": "bot", "value": "x"}],
            "turn 1 is from 'bot'; it should be human, gpt or system",
        ),
        ([{"value": "x"}], "turn 1 is from None"),
        ([{"from": ["human"], "value": "x"}], "turn 1 is from"),
        ([{"from": "human"}], "turn 1 has a NoneType as value"),
        ([{"from": "human", "value": 7}], "turn 1 has a int as value; it should be a text"),
        ([{"from": "gpt", "value": "x"}], "turn 1 is from gpt at the start"),
        (
            [{"from": "human", "value": "x"}, {"from": "user", "value": "y"}],
            "turn 2 is from user after one from user",
        ),
        (
            [*_record("x", "y"), {"from": "assistant", "value": "z"}],
            "turn 3 is from assistant after one from assistant",
        ),
        (
            [*_record("x"), {"from": "system", "value": "z"}],
            "turn 2 is from system after one from user",
        ),
        (
            [{"from": "system", "value": "x"}, {"from": "gpt", "value": "y"}],
            "turn 2 is from gpt after one from system",
        ),
    ],
)
def test_malformed_conversations(conversations: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        record_turns(conversations, 0)


def test_leading_markers() -> None:
    assert leading_markers("What?", 1) == "What?"
    assert leading_markers("What is <image>?", 1) == "What is <image>?"
    assert leading_markers("<image>\nWhat is it?", 1) == "What is it?"
    assert leading_markers("<image> <image>\n\nSame?", 2) == "Same?"
    with pytest.raises(InputError, match="2 <image> markers and 1 picture"):
        leading_markers("<image>\n<image>\nWhat?", 1)
    with pytest.raises(InputError, match="2 <image> markers and 1 picture"):
        leading_markers("<image>\nWhat is <image>?", 1)
    with pytest.raises(InputError, match="1 <image> marker and 2 pictures"):
        leading_markers("<image>\nIs <image> it?", 2)
    with pytest.raises(InputError, match="1 <image> marker and 0 pictures"):
        leading_markers("<image>\nWhat?", 0)
    with pytest.raises(InputError, match="1 <image> marker and 0 pictures"):
        leading_markers("What is <image>?", 0)


def test_turns_survive_pickling() -> None:
    turn = Turn("user", (IMAGE, "\nWhat?"))
    again = pickle.loads(pickle.dumps(turn))
    assert again == turn
    assert again.parts[0] is IMAGE


def test_the_room_imports_no_heavy_module() -> None:
    code = (
        "import sys; from critic_jax.text import *;"
        "train_tokenizer(['a b'], 260);"
        "print([m for m in ('jax', 'transformers', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
