"""`critic-jax evaluate` and the verbs behind it: help, errors, a page of docs for each."""

import dataclasses
from pathlib import Path

import pytest

from critic_jax.cli import main
from critic_jax.evaluation.verbs import EVALUATIONS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_option_is_described(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", name, "--help"]) == 0
    out = capsys.readouterr().out
    options = EVALUATIONS[name].options
    assert f"usage: critic-jax evaluate {name}" in out
    assert options.__doc__.splitlines()[0] in out
    for field in dataclasses.fields(options):
        shown = f"--{field.name.replace('_', '-')}"
        assert shown in out or f"{field.name.upper()}" in out, field.name
    assert f"critic-jax evaluate {name} " in (DOCS / "evaluate.md").read_text()


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_the_family_shows_its_verbs(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *words]) == 0
    out = capsys.readouterr().out
    assert "usage: critic-jax evaluate VERB" in out
    for name, verb in EVALUATIONS.items():
        assert f"  {name} " in out and verb.summary in out


def test_an_unknown_verb_of_the_family_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "agreemnt"]) == 2
    assert "no verb 'agreemnt'; did you mean 'agreement'?" in capsys.readouterr().err
    assert main(["evaluate", "leaderboard", "--battles", "x"]) == 2
