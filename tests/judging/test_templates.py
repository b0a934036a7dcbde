"""What a judge is asked: exact markers, texts word for word, wrong use refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from critic_jax.errors import InputError
from critic_jax.judging.formats import ScoreFormat
from critic_jax.judging.templates import Template, get_template, template_names

# Texts that a formatting function would trip over or change.
QUESTION = "What {is} this, {response} or {0}?  "
FIRST = "  A {reference} \\1 %s <image>\n\n[[A>>B]] "
SECOND = "{criteria}\tB}\r\nASSISTANT:"


def _answers(template: Template, first: str = FIRST, second: str = SECOND) -> dict[str, Any]:
    if template.kind == "pointwise":
        return {"response": first}
    if template.kind == "batch":
        return {"responses": [first, second]}
    return {"response_a": first, "response_b": second}


def _texts(answers: dict[str, Any]) -> list[str]:
    return [text for a in answers.values() for text in (a if isinstance(a, list) else [a])]


@pytest.mark.parametrize("name", template_names())
def test_texts_stand_verbatim_and_in_order(name: str) -> None:
    template = get_template(name)
    text = template.render(
        question=QUESTION, reference="ref {question}{}", criteria="crit {}", **_answers(template)
    )
    for part in (QUESTION, "ref {question}{}", "crit {}", *_texts(_answers(template))):
        assert text.count(part) == 1
    if template.kind != "pointwise":
        assert text.index(QUESTION) < text.index(FIRST) < text.index(SECOND)
    else:
        assert text.index(QUESTION) < text.index(FIRST)
    assert "<image>" not in text.replace(FIRST, "")


@pytest.mark.parametrize("name", template_names())
def test_optional_sections_leave_no_trace(name: str) -> None:
    template = get_template(name)
    answers = _answers(template, "An answer.", "An answer.")
    bare = template.render(question="What is it?", **answers)
    assert "{" not in bare and "}" not in bare
    assert "Reference" not in bare and "Criteria" not in bare
    full = template.render(question="What is it?", reference="R-E-F", criteria="C-R-I", **answers)
    assert "R-E-F" in full and "C-R-I" in full
    if template.default_criteria is None:
        # What the two sections add is all that differs.
        for section, given in (
            (template.reference_section, "R-E-F"),
            (template.criteria_section, "C-R-I"),
        ):
            full = full.replace(section.replace("{}", given), "")
        assert full == bare
    assert template.render(question="What is it?", **answers) == bare


def test_critic_pointwise_ends_as_the_critic_was_trained() -> None:
    text = get_template("critic-pointwise").render(question="What is it?", response="A seven.")
    assert text.endswith("\nQuestion: [What is it?]\nThe LMM response: [A seven.]\nASSISTANT:")
    assert "unbiased" in text and "out of 100" in text


def test_critic_pairwise_ends_as_the_critic_was_trained() -> None:
    text = get_template("critic-pairwise").render(
        question="What is it?", response_a="A seven.", response_b="A one."
    )
    assert text.endswith(
        "\nQuestion: [What is it?]\nThe first response: [A seven.]\n"
        "The second response: [A one.]\nASSISTANT:"
    )
    assert "The better response: [first]" in text and "equally good" in text


@pytest.mark.parametrize(
    ("name", "markers"),
    [
        (
            "llava-bench",
            ["[Question]\nQ\n", "[Assistant 1]\nX\n[End of Assistant 1]", "[Assistant 2]\nY\n"],
        ),
        (
            "wildvision",
            [
                "<|User Prompt|>\nQ\n",
                "<|The Start of Assistant A's Answer|>\nX\n<|The End of Assistant A's Answer|>",
                "<|The Start of Assistant B's Answer|>\nY\n<|The End of Assistant B's Answer|>",
                *("[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", "[[B>>A]]"),
            ],
        ),
        ("mt-bench", ["[[A]]", "[[B]]", "[[C]] for a tie"]),
        ("caption", ["From 0 to 100", "Text Caption: X", "Final Score: N"]),
        ("mmhal", ["Rating: N", "from 0 to 6"]),
        ("mmvet", ["from 0.0", "1.0", "Score: N"]),
        ("auto-j", ["Rating: [[N]]", "1 to 10"]),
        ("prometheus", ["[RESULT]", "1 to 5", "###Score Rubrics:"]),
        ("llava-wilder", ["[Assistant 1]\nX\n", "[Assistant 2]\nY\n", "always 10"]),
        ("refomb", ["[Beginning of Model A's answer]\nX\n", "[[A]]", "[[B]]", "[[C]] if both"]),
        ("mllm-judge-score", ["Judgement", "[[1]]", "[[5]]", "JSON"]),
        ("mllm-judge-pair", ["Judgement", "[[A]]", "[[B]]", "[[C]] for a tie"]),
        (
            "mllm-judge-batch",
            [
                "[The Start of Assistant A's Answer]\nX\n[The End of Assistant A's Answer]",
                "[The Start of Assistant B's Answer]\nY\n[The End of Assistant B's Answer]",
            ],
        ),
        ("vl-rewardbench", ["[Answer 1]\nX\n", "Overall Judgment: Answer X is better."]),
        ("mm-rewardbench", ["[[A]]", "[[B]]", "There is no tie."]),
        (
            "livebench",
            ["[Assistant Response]\nX\n", "from 0", "to 10", '"Explanation"', '"Rating"'],
        ),
        ("video-dc", ["Predicted Answer: X\n", "from 0 to 5", "one key, 'score'"]),
    ],
)
def test_formats_hold_their_exact_markers(name: str, markers: list[str]) -> None:
    template = get_template(name)
    text = template.render(question="Q", **_answers(template, "X", "Y"))
    for marker in markers:
        assert marker in text


def test_scales() -> None:
    scales = {
        name: (form.low, form.high)
        for name in template_names()
        if isinstance(form := get_template(name).format, ScoreFormat)
    }
    assert scales == {
        "critic-pointwise": (0, 100),
        "caption": (0, 100),
        "mmhal": (0, 6),
        "mmvet": (0, 1),
        "auto-j": (1, 10),
        "prometheus": (1, 5),
        "mllm-judge-score": (1, 5),
        "livebench": (0, 10),
        "video-dc": (0, 5),
    }


def test_wrong_answers_for_the_kind_are_refused() -> None:
    pointwise, pairwise = get_template("critic-pointwise"), get_template("critic-pairwise")
    with pytest.raises(InputError, match="give response, and neither"):
        pointwise.render(question="Q", response_a="X", response_b="Y")
    with pytest.raises(InputError, match="give response, and neither"):
        pointwise.render(question="Q", response="X", response_b="Y")
    with pytest.raises(InputError, match="give response_a and response_b"):
        pairwise.render(question="Q", response_a="X")
    with pytest.raises(InputError, match="give response_a and response_b"):
        pairwise.render(question="Q", response="X", response_a="X", response_b="Y")
    batch = get_template("mllm-judge-batch")
    for wrong in ({"response": "X"}, {"responses": "X"}, {}):
        with pytest.raises(InputError, match="give responses, a list of texts"):
            batch.render(question="Q", **wrong)
    for many in (1, 27):
        with pytest.raises(InputError, match=f"got {many} answers in responses; it ranks 2 to 26"):
            batch.render(question="Q", responses=["X"] * many)
    with pytest.raises(InputError, match="give response_a and response_b"):
        pairwise.render(question="Q", response_a="X", response_b="Y", responses=["X", "Y"])
    assert pointwise.render(question="Q", response="").endswith("The LMM response: []\nASSISTANT:")


def test_the_library_is_whole() -> None:
    assert set(template_names()) == {
        *("critic-pointwise", "critic-pairwise", "llava-bench", "llava-wilder", "wildvision"),
        *("mmhal", "mmvet", "refomb", "caption", "mt-bench", "auto-j", "prometheus"),
        *("mllm-judge-score", "mllm-judge-pair", "mllm-judge-batch"),
        *("vl-rewardbench", "mm-rewardbench", "livebench", "video-dc"),
    }


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no template is called 'mtbench'.*mt-bench"):
        get_template("mtbench")


def test_templates_and_verdicts_need_no_heavy_module() -> None:
    code = (
        "import sys; from critic_jax.judging.verdicts import parse_verdict;"
        "assert parse_verdict('Score: 8', 'critic-pointwise').score == 8;"
        "print([m for m in ('jax', 'transformers', 'torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
