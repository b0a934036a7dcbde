"""A user's own template: what it asks, and what is told of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from critic_jax import Critic, InputError, get_template, parse_verdict
from critic_jax.judging.formats import BetterFormat, LabelFormat, ScoreFormat, TwoScoreFormat

GOOD = """\
# role
You judge captions for people who cannot see the picture.

# criteria
Is everything there that such a reader needs?

# scale
1 to 5 in whole numbers
1 is of no use, 5 leaves nothing to ask.

# output format
Explain first, then close with the line Rating: N.
"""

LABELS = """\
# Role:
Compare two captions.
# Scale
[[1]] = first
[[2]] = second
[[0]]: tie
# Output Format
Close with [[1]], [[2]] or [[0]].
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text(GOOD)
    return path


def _with(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def test_the_sections_stand_in_the_prompt_and_the_scale_is_kept(file: Path) -> None:
    template = get_template(file)
    assert (template.name, template.kind) == (str(file), "pointwise")
    assert template.format == ScoreFormat("rating", 1, 5, whole=True)
    text = template.render(question="What {is} it?", response="A dog.", reference="A fox.")
    parts = ("You judge captions", "5 leaves nothing", "Rating: N.", "Is everything there")
    given = ("[Question]\nWhat {is} it?\n", "[Reference Answer]\nA fox.\n", "[Response]\nA dog.\n")
    at = [text.index(part) for part in (*parts, *given)]
    assert at == sorted(at)
    other = template.render(question="Q", response="A", criteria="Truth alone.")
    assert "Truth alone." in other and "Is everything there" not in other
    assert parse_verdict("Fine.\nRating: 4", str(file)).score == 4
    assert parse_verdict("Fine.\nRating: 4.5", str(file)).state == "unparsed"
    assert parse_verdict(f"{text}\nRating: 2", str(file)).score == 2
    assert parse_verdict(text, str(file)).why.startswith("echo")


def test_a_critic_is_asked_by_the_path_of_a_file(
    file: Path, critic_folder: Path, script: Any
) -> None:
    engine = script(lambda prompt: "Useful.\nRating: 5")
    found = Critic.load(critic_folder).score(None, "What?", "A dog.", template=str(file))
    assert (found.score, found.template) == (5, str(file))
    assert "for people who cannot see" in engine.asked[0]


@pytest.mark.parametrize(
    ("output", "scale", "form", "text", "value"),
    [
        (
            "Close with the line Score: N.",
            "0 to 10",
            ScoreFormat("score", 0, 10, bare=True),
            "7",
            7,
        ),
        ("End: Final Score: N", "0-1", ScoreFormat("final-score", 0, 1), "Final Score: .5", 0.5),
        ("Rating: [[N]]", "1 to 7", ScoreFormat("rating-brackets", 1, 7), "Rating: [[7]]", 7),
        ("[RESULT] N at the end", "1 to 5.", ScoreFormat("result", 1, 5), "[RESULT] 2", 2),
        ("Judgement: [[N]]", "1 to 3", ScoreFormat("judgement", 1, 3), "Judgement: 3", 3),
        ("First line: only N N", "0 to 100", TwoScoreFormat(0, 100), "90 70\nWell.", (90, 70)),
        ("The better response: [first]", "", BetterFormat(), "The better response: [2]", "B"),
    ],
)
def test_every_mark_is_a_format(
    output: str, scale: str, form: object, text: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "other.txt"
    path.write_text(f"# role\nJudge.\n# scale\n{scale}\n# output format\n{output}\n")
    template = get_template(str(path))
    assert template.format == form
    found = parse_verdict(text, template)
    assert value in (found.score, found.scores, found.verdict)


def test_labels_mean_what_the_scale_says(tmp_path: Path) -> None:
    path = tmp_path / "labels.md"
    path.write_text(LABELS)
    template = get_template(path)
    assert template.kind == "pairwise"
    assert template.format == LabelFormat({"1": "A", "2": "B", "0": "tie"})
    assert parse_verdict("[[2]]", template).verdict == "B"
    assert parse_verdict("[[0]]", template).state == "tie"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "section 'role' is missing or empty; write it below # role"),
        (_with(GOOD, "# role", "# roles"), "line 1: no section is called 'roles'; there are role"),
        (_with(GOOD, "# criteria", "# role"), "line 4: section 'role' stands twice"),
        ("Hello\n" + GOOD, "line 1: 'Hello' stands before the first section"),
        (_with(GOOD, "# output format\n", "# criteria\n"), "section 'criteria' stands twice"),
        (
            _with(GOOD, "Rating: N.", "a number."),
            "section 'output format' holds no mark; it should hold one: Score: N, Final",
        ),
        (
            _with(GOOD, "Rating: N.", "Rating: N or Score: N."),
            r"section 'output format' holds several marks \(score, rating\)",
        ),
        (
            _with(GOOD, "1 to 5 in whole numbers", "one to five"),
            "section 'scale': its first line is 'one to five'; it should be LOW to HIGH",
        ),
        (_with(GOOD, "1 to 5 in", "5 to 1 in"), "section 'scale': 5 is not below 1"),
        (_with(GOOD, "1 to 5 in", "1.2.3 to 5 in"), "first line is '1.2.3 to 5 in whole numbers'"),
        (_with(GOOD, "# scale\n1 to 5 in whole numbers\n", ""), "section 'scale' is missing"),
        (
            _with(GOOD, "captions for", "{response} for"),
            r"section 'role', line 2: \{response\} is not filled in",
        ),
        (
            _with(_with(GOOD, "Rating: N.", "N N"), "Explain", "Write"),
            "section 'scale': two scores may be halves",
        ),
        (_with(LABELS, "[[1]] = first", "[[1]] = yes"), r"label \[\[1\]\] means 'yes'; it should"),
        (_with(LABELS, "[[2]] = second\n", ""), r"does not explain the label \[\[2\]\]"),
        (_with(LABELS, "# Scale", "# Criteria"), "section 'scale' explains 0 labels"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(text: str, told: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=told) as raised:
        get_template(file)
    assert str(raised.value).startswith(f"template {file}: ")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"template .*gone.txt cannot be read: No such file"):
        get_template(tmp_path / "gone.txt")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"# role\n\xff\xfe")
    with pytest.raises(InputError, match=r"binary.txt cannot be read: it is no UTF-8 text"):
        get_template(str(binary))
