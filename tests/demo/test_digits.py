"""The digits demo's data: scans, answers, records, and that nothing but the picture tells."""

import io
import itertools
import json
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from critic_jax.demo.answers import (
    HELD_OUT_WORDINGS,
    KINDS,
    LOOKALIKE,
    RESPONSE_MODELS,
    STYLES,
    Answer,
    Question,
    ask,
    compose,
    fill,
    wrong_claim,
)
from critic_jax.demo.digits import Digits, make_digits, picture, png
from critic_jax.demo.lessons import reading_lessons
from critic_jax.demo.records import (
    PAIRWISE_SHARE,
    PAIRWISE_TEMPLATES,
    POINTWISE_TEMPLATES,
    heldout_lines,
    pair_target,
    points,
    score_target,
    training_records,
    write_heldout,
    write_records,
)
from critic_jax.judging.verdicts import parse_verdict

WHICH = Question("digit", "Which digit is this?")
ODD = Question("parity", "Is the digit odd or even?")


@cache
def the_digits() -> Digits:
    return make_digits(0)


@cache
def the_records() -> list[dict[str, Any]]:
    return training_records(the_digits(), seed=0, per_picture=4)


@cache
def the_heldout() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return heldout_lines(the_digits(), seed=0)


def test_split_is_by_picture_stratified_and_seeded() -> None:
    digits = the_digits()
    assert (len(digits.train), len(digits.heldout)) == (1497, 300)
    train, held = ({s.number for s in part} for part in (digits.train, digits.heldout))
    assert not train & held and train | held == set(range(1797))
    assert Counter(s.digit for s in digits.heldout) == dict.fromkeys(range(10), 30)
    assert {s.number for s in make_digits(0).heldout} == held
    assert {s.number for s in make_digits(1).heldout} != held


def test_picture_is_dark_ink_on_white_at_the_asked_size() -> None:
    scan = next(s for s in the_digits().train if s.ink.max() == 16)
    image = picture(scan, 32, "nearest")
    assert (image.size, image.mode) == ((32, 32), "L")
    pixels = np.asarray(image)
    row, column = np.argwhere(scan.ink == 16)[0]
    assert (pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] == 0).all()
    row, column = np.argwhere(scan.ink == 0)[0]
    assert (pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] == 255).all()
    assert picture(scan, 64).size == (64, 64)
    assert len(np.unique(np.asarray(picture(scan)))) > len(np.unique(pixels))
    assert png(picture(scan))[:8] == b"\x89PNG\r\n\x1a\n"
    assert png(picture(scan)) == png(picture(scan))
    for side in (0, 30):
        with pytest.raises(ValueError, match="multiple of 8"):
            picture(scan, side)


def test_claims_have_one_truth_and_three_grades() -> None:
    assert (WHICH.truth(7), ODD.truth(7), ODD.truth(0)) == ("7", "odd", "even")
    assert [WHICH.grade(7, c) for c in ("7", "1", "9")] == ["right", "close", "wrong"]
    assert [ODD.grade(7, c) for c in ("odd", "even")] == ["right", "wrong"]
    assert all(LOOKALIKE[LOOKALIKE[d]] == d != LOOKALIKE[d] for d in range(10))


def test_rubric_has_six_levels_for_claim_and_certainty() -> None:
    def worth(question: Question, claim: str, hedged: bool) -> int:
        return points(question, 7, Answer(claim, "hedging" if hedged else "terse", "-"))

    assert [worth(WHICH, c, False) for c in "719"] == [100, 50, 20]
    assert [worth(WHICH, c, True) for c in "719"] == [80, 30, 0]
    assert [worth(ODD, c, False) for c in ("odd", "even")] == [100, 20]


def test_targets_reason_first_and_parse_back() -> None:
    sure_7 = Answer("7", "terse", "7")
    unsure_1 = Answer("1", "hedging", "Maybe 1.")
    text = pair_target("critic-pairwise", WHICH, 7, unsure_1, sure_7)
    assert text == (
        "The picture shows a 7. The first says 1 wrongly. "
        "The second says 7 as shown.\nThe better response: [second]"
    )
    assert parse_verdict(text, template="critic-pairwise").verdict == "B"
    odd, even = Answer("odd", "terse", "Odd."), Answer("even", "terse", "Even.")
    text = pair_target("mt-bench", ODD, 3, odd, even)
    assert text == (
        "The picture shows a 3, odd. Assistant A says odd as shown. "
        "Assistant B says even wrongly.\n[[A]]"
    )
    assert parse_verdict(text, template="mt-bench").verdict == "A"
    text = score_target("critic-pointwise", WHICH, 7, unsure_1)
    assert text == "The picture shows a 7. The response says 1 nearly, unsure.\nScore: 30"
    assert parse_verdict(text, template="critic-pointwise").score == 30
    assert score_target("mmhal", ODD, 7, sure_7).endswith("\nRating: 1")


def test_wordings_are_many_fill_cleanly_and_held_out_ones_are_new() -> None:
    draw = random.Random(0)
    trained: set[str] = set()
    held_out: set[str] = set()
    assert set(HELD_OUT_WORDINGS) == set(itertools.product(KINDS, STYLES))
    for (kind, style), wordings in HELD_OUT_WORDINGS.items():
        composed = [compose(kind, style, draw) for _ in range(300)]
        for heldout, source in ((False, composed), (True, wordings)):
            for digit, wording in itertools.product(range(10), source):
                question = ask(kind, draw)
                text = fill(wording, question, question.truth(digit))
                assert not re.search(r"[{}]|\ba (8|eight)\b|\ban (?!8|eight|odd|even)", text)
                assert text[0].isupper() or text[0].isdigit()
                (held_out if heldout else trained).add(text)
    assert len(trained) > 500
    assert sum(map(len, HELD_OUT_WORDINGS.values())) >= 12
    assert not trained & held_out
    words = set(re.findall(r"\w+", " ".join(trained).lower()))
    assert set(re.findall(r"\w+", " ".join(held_out).lower())) <= words


def test_models_are_as_skilled_as_they_say_in_every_style() -> None:
    assert len({m.name for m in RESPONSE_MODELS}) == len(RESPONSE_MODELS) == 16
    for model in RESPONSE_MODELS:
        draw = random.Random(model.name)
        claims = [model.answer(WHICH, 7, draw).claim for _ in range(2000)]
        assert claims.count("7") / 2000 == pytest.approx(model.skill, abs=0.04)


def test_wrong_claims_are_wrong_and_symmetric() -> None:
    draw = random.Random(0)
    counts = Counter((d, int(wrong_claim(WHICH, d, draw))) for d in range(10) for _ in range(3000))
    for a, b in itertools.combinations(range(10), 2):
        expected = 1000 if LOOKALIKE[a] == b else 250
        assert counts[a, b] == pytest.approx(expected, rel=0.25)
        assert counts[b, a] == pytest.approx(expected, rel=0.25)
        assert counts[a, a] == 0
    assert wrong_claim(ODD, 4, draw) == "odd"


def test_training_records_have_the_real_format_and_true_targets() -> None:
    records = the_records()
    assert len(records) == 4 * 1497
    assert len({r["id"] for r in records}) == len(records)
    sources = Counter(r["source"] for r in records)
    assert set(sources) == {f"digits/{t}" for t in (*PAIRWISE_TEMPLATES, *POINTWISE_TEMPLATES)}
    pairwise = sum(sources[f"digits/{t}"] for t in PAIRWISE_TEMPLATES)
    assert pairwise / len(records) == pytest.approx(PAIRWISE_SHARE, abs=0.03)
    digit_of = {s.number: s.digit for s in the_digits().train}
    for record in records:
        assert list(record) == ["id", "source", "conversations", "image"]
        human, gpt = record["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert human["value"].startswith("<image>\n") and human["value"].count("<image>") == 1
        shown = f"The picture shows a {digit_of[int(record['id'].split('-')[1])]}"
        assert re.match(re.escape(shown) + r"[.,] ", gpt["value"])
        # Words and marks: about what a byte-level tokenizer with these merges needs.
        assert len(re.findall(r"\d|[A-Za-z]+|[^\w\s]", gpt["value"])) <= 45
    for record in records[::4]:
        template = record["source"].removeprefix("digits/")
        verdict = parse_verdict(record["conversations"][1]["value"], template=template)
        assert verdict.state == "value"


def test_each_picture_of_a_scan_is_its_own_but_shows_the_same_digit() -> None:
    few = Digits(the_digits().train[:5], ())
    records = training_records(few, 0, 3, copies=4)
    assert len({r["id"] for r in records}) == len(records) == 60
    assert len({r["image"] for r in records}) == 20
    for record in records + reading_lessons(few, 0, 4):
        with Image.open(io.BytesIO(record["image"])) as image:
            shown = np.asarray(image, float)
        number = int(record["id"].split("-")[1])
        plain = {s.number: np.asarray(picture(s), float) for s in few.train}
        assert shown.shape == plain[number].shape and not (shown == plain[number]).all()
        # Moved by half a pixel of the scan at most: nearest to the scan that its id names.
        distance = {n: np.abs(shown - pixels).mean() for n, pixels in plain.items()}
        assert min(distance, key=distance.__getitem__) == number


def test_lessons_are_records_whose_answer_is_the_numeral_shown() -> None:
    few = Digits(the_digits().train[:40], ())
    digit_of = {s.number: s.digit for s in few.train}
    lessons = reading_lessons(few, 0, 2)
    assert len({lesson["id"] for lesson in lessons}) == len(lessons) == 80
    assert len({lesson["image"] for lesson in lessons}) == 80
    for lesson in lessons:
        human, gpt = lesson["conversations"]
        assert human["value"].startswith("<image>\n") and human["value"].count("<image>") == 1
        assert gpt["value"] == str(digit_of[int(lesson["id"].split("-")[1])])


def test_another_seed_gives_other_records() -> None:
    few = Digits(the_digits().train[:5], ())
    assert training_records(few, 0, 3) == training_records(few, 0, 3)
    first, second = (
        [r["conversations"] for r in training_records(few, seed, 3)] for seed in (0, 1)
    )
    assert sum(a == b for a, b in zip(first, second, strict=True)) <= 2


def test_heldout_opens_on_a_7_and_covers_every_picture() -> None:
    lines, labels = the_heldout()
    assert [x["id"] for x in lines] == [x["id"] for x in labels]
    assert (lines[0]["id"], labels[0]["digit"]) == ("pair-000", 7)
    assert sorted(labels[0]["claims"]) == ["1", "7"]
    assert lines[0]["template"] == "critic-pairwise"
    pairs = [x for x in lines if "response_a" in x]
    scores = [x for x in lines if "response" in x]
    assert (len(pairs), len(scores)) == (400, 300)
    pictures = {f"pictures/{s.name}" for s in the_digits().heldout}
    assert {x["image"] for x in pairs} == {x["image"] for x in scores} == pictures
    assert {x["template"] for x in scores} == {"critic-pointwise"}
    assert Counter(x["template"] for x in pairs) == {
        "critic-pairwise": 200,
        "mt-bench": 200,
    }
    levels = Counter(x["score"] for x in labels if "score" in x)
    assert set(levels) == {0, 20, 30, 50, 80, 100} and min(levels.values()) >= 5


def test_heldout_pairs_are_balanced() -> None:
    labels = [x for x in the_heldout()[1] if "verdict" in x]
    assert Counter(x["verdict"] for x in labels) == {"A": 200, "B": 200}
    assert Counter(x["digit"] for x in labels) == dict.fromkeys(range(10), 40)
    duels = Counter()
    for label in labels:
        right, wrong = label["claims"] if label["verdict"] == "A" else label["claims"][::-1]
        question = {"digit": WHICH, "parity": ODD}.get(label["kind"])
        if question is not None:
            assert question.grade(label["digit"], right) == "right"
            assert question.grade(label["digit"], wrong) != "right"
        duels[label["kind"], right, wrong] += 1
    for (kind, right, wrong), count in duels.items():
        assert duels[kind, wrong, right] == count


def test_heldout_wordings_never_occur_in_training() -> None:
    trained = "\n".join(r["conversations"][0]["value"] for r in the_records())
    replies = {
        line[key]
        for line in the_heldout()[0]
        for key in ("response", "response_a", "response_b")
        if key in line
    }
    assert len(replies) > 80
    for reply in replies:
        assert f"[{reply}]" not in trained and f"\n{reply}\n" not in trained


def _bag(question: str, first: str, second: str, digit: int | None = None) -> str:
    """The words of a pair, each answer's marked by its side, alone and crossed with the question.

    With a digit, the words crossed with what the picture shows too.
    """
    sides = [
        f"{side}_{word}"
        for side, text in (("a", first), ("b", second))
        for word in re.findall(r"\w+", text.lower())
    ]
    asked = re.findall(r"\w+", question.lower())
    crossed = [f"{word}:{side}" for word in asked for side in sides]
    seen = [f"{digit}:{word}" for word in crossed + sides] if digit is not None else []
    return " ".join([*asked, *sides, *crossed, *seen])


@pytest.mark.parametrize("sees_the_picture", [False, True])
def test_text_alone_does_not_tell_who_is_right(sees_the_picture: bool) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    draw = random.Random(0)
    texts, sides = [], []
    for scan in the_digits().train:
        digit = scan.digit if sees_the_picture else None
        for kind in KINDS:
            question = ask(kind, draw)
            models = draw.sample(RESPONSE_MODELS, 2)
            truth = question.truth(scan.digit)
            # Held-out wordings here too: the strongest reader of text that there could be.
            one, two = (m.answer(question, scan.digit, draw, heldout=True) for m in models)
            if (one.claim == truth) != (two.claim == truth):
                texts.append(_bag(question.text, one.text, two.text, digit))
                sides.append("A" if one.claim == truth else "B")
    reader = make_pipeline(
        CountVectorizer(token_pattern=r"\S+", binary=True), LogisticRegression(max_iter=200)
    )
    reader.fit(texts, sides)
    pairs = [(x, y) for x, y in zip(*the_heldout(), strict=True) if "verdict" in y]
    asked = [
        _bag(
            x["question"],
            x["response_a"],
            x["response_b"],
            y["digit"] if sees_the_picture else None,
        )
        for x, y in pairs
    ]
    accuracy = np.mean(reader.predict(asked) == [y["verdict"] for _, y in pairs])
    assert len(texts) > 1400
    if sees_the_picture:
        assert accuracy > 0.8  # the reader is able, so its failure without the picture counts
    else:
        assert 0.4 <= accuracy <= 0.6


def test_style_and_wording_say_nothing_in_training_pairs() -> None:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    hedges = re.compile(r"[Mm]aybe|[Pp]erhaps|[Pp]ossibly|I think|not sure|to tell|guess|seems")
    for record in the_records():
        if record["source"] != "digits/critic-pairwise":
            continue
        prompt, target = (turn["value"] for turn in record["conversations"])
        better = re.search(r"\[(first|second)\]$", target)
        answers = re.findall(r"(?:first|second) response: \[(.*)\]\n", prompt)
        if better and len(answers) == 2:
            for side, answer in zip(("first", "second"), answers, strict=True):
                trait = "hedging" if hedges.search(answer) else "sure"
                total[trait] += 1
                right[trait] += side == better[1]
                total[side] += 1
                right[side] += side == better[1]
    assert min(total.values()) > 700
    for trait, count in total.items():
        assert right[trait] / count == pytest.approx(0.5, abs=0.06)


def test_written_files_refer_to_their_pictures(tmp_path: Path) -> None:
    inputs, labels = write_heldout(the_digits(), 0, tmp_path / "heldout")
    lines = [json.loads(line) for line in inputs.read_text().splitlines()]
    assert lines == the_heldout()[0]
    assert [json.loads(line) for line in labels.read_text().splitlines()] == the_heldout()[1]
    for line in lines:
        with Image.open(inputs.parent / line["image"]) as image:
            assert image.size == (32, 32)
    few = Digits(the_digits().train[:3], ())
    records = training_records(few, 0, 2)
    path = write_records(records, tmp_path / "train")
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["conversations"] for r in written] == [r["conversations"] for r in records]
    for before, after in zip(records, written, strict=True):
        assert (path.parent / after["image"]).read_bytes() == before["image"]
