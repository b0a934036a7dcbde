"""From argv to a verb: exit codes, one-line errors, help, version, suggestions."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro

import critic_jax
from critic_jax import cli
from critic_jax.errors import InputError
from critic_jax.verbs import Verb, dispatch


@dataclass(frozen=True)
class Options:
    """Count something."""

    path: Path
    """What to count in."""
    fast: bool = False
    """Guess."""


@dataclass(frozen=True)
class RestOptions:
    """Hand words on."""

    config: tyro.conf.Positional[str]
    overrides: tyro.conf.Suppress[tuple[str, ...]] = ()


class Program:
    """A console script whose verbs note their options, or raise what they are told to."""

    def __init__(self, error: BaseException | None = None, code: int | None = None) -> None:
        self.error = error
        self.code = code
        self.seen: list[object] = []
        self.verbs = {
            "count": Verb("count something", Options, self.run),
            "train": Verb("hand words on", RestOptions, self.run, rest="overrides"),
        }

    def run(self, options: object) -> int | None:
        if self.error is not None:
            raise self.error
        self.seen.append(options)
        return self.code

    def __call__(self, *words: str) -> int:
        return dispatch("prog", "About it.", self.verbs, words)


def test_a_verb_gets_its_options() -> None:
    program = Program()
    assert program("count", "--path", "a/b", "--fast") == 0
    assert program.seen == [Options(Path("a/b"), fast=True)]


@dataclass(frozen=True)
class OutputOptions:
    """Write something."""

    output: Path
    """Where to."""


def test_an_output_that_is_a_url_is_refused_where_a_folder_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    written: list[object] = []
    verbs = {"write": Verb("write something", OutputOptions, written.append)}
    assert dispatch("prog", "About it.", verbs, ("write", "--output", "gs://bucket/out")) == 2
    assert "--output gs:/bucket/out: is a URL; this verb writes to a folder" in (
        capsys.readouterr().err
    )
    assert dispatch("prog", "About it.", verbs, ("write", "--output", "there/out")) == 0
    assert written == [OutputOptions(Path("there/out"))]


def test_an_output_where_nothing_can_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    verbs = {"write": Verb("write something", OutputOptions, written.append)}
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "new" / "out"
    assert dispatch("prog", "About it.", verbs, ("write", "--output", str(output))) == 2
    said = f"{output}: {tmp_path / 'file'} is no folder; name another place to write to\n"
    assert capsys.readouterr().err == f"prog: error: {said}"
    # Root may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    output = tmp_path / "new" / "out"
    assert dispatch("prog", "About it.", verbs, ("write", "--output", str(output))) == 2
    assert f"{output}: {tmp_path} may not be written to; name " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and not written


def test_a_verb_may_return_an_exit_code() -> None:
    assert Program(code=1)("count", "--path", "x") == 1
    assert Program(code=0)("count", "--path", "x") == 0


def test_words_after_a_config_are_handed_on_in_order() -> None:
    program = Program()
    assert program("train", "digits", "--steps", "5", "--rate=1e-3", "--name", "a b") == 0
    words = ("--steps", "5", "--rate=1e-3", "--name", "a b")
    assert program.seen == [RestOptions("digits", words)]


def test_a_wrong_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    program = Program(InputError("in.jsonl line 7:\nnot valid JSON"))
    assert program("count", "--path", "x") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "prog: error: in.jsonl line 7: not valid JSON\n")


def test_a_full_disk_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    program = Program(OSError(28, "No space left on device"))
    assert program("count", "--path", "x") == 1
    said = capsys.readouterr().err
    assert said == (
        "prog: error: .: no room left to write (No space left); make room and run the same "
        "command again\n"
    )


def test_an_interrupt_is_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert Program(KeyboardInterrupt())("count", "--path", "x") == 130
    assert capsys.readouterr().err == "prog: interrupted\n"


@pytest.mark.parametrize("words", [["work"], ["all", "work"]])
def test_an_interrupted_process_is_not_taken_down_under_what_it_computes(words: list[str]) -> None:
    """What is registered before the verb stands for the crash that may come behind it."""
    program = """if True:
        import atexit, os, sys
        from dataclasses import dataclass
        from critic_jax.verbs import Verb, dispatch, family
        atexit.register(os._exit, 139)

        @dataclass
        class Options:
            "Work."

        def run(_):
            atexit.register(print, "tidied up")
            raise KeyboardInterrupt

        verbs = {"work": Verb("work", Options, run)}
        verbs["all"] = family("work", Options, dict(verbs))
        sys.exit(dispatch("prog", "About it.", verbs))
    """
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "tidied up\n")
    assert done.stderr.startswith("prog") and done.stderr.endswith(": interrupted\n")


def test_a_fault_of_the_program_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        Program(ZeroDivisionError())("count", "--path", "x")


@pytest.mark.parametrize(
    "words", [("count",), ("count", "--path"), ("count", "--path", "x", "--fsat"), ("train",)]
)
def test_a_wrong_option_is_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    program = Program()
    assert program(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "prog" in err and program.seen == []


@pytest.mark.parametrize(
    ("word", "hint"),
    [("cuont", "no verb 'cuont'; did you mean 'count'?"), ("xyz", "the verbs are count, train")],
)
def test_an_unknown_verb_is_one_line(
    capsys: pytest.CaptureFixture[str], word: str, hint: str
) -> None:
    assert Program()(word, "--help") == 2
    err = capsys.readouterr().err
    assert err.startswith("prog: error: ") and hint in err and err.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_no_verb_shows_all_verbs(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert Program()(*words) == 0
    out = capsys.readouterr().out
    assert "About it." in out
    assert "  count  count something\n" in out and "  train  hand words on\n" in out


def test_the_help_of_a_verb_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert Program()("count", "--help") == 0
    out = capsys.readouterr().out
    assert "usage: prog count" in out and "Count something." in out
    assert "--path PATH" in out and "What to count in." in out and "--no-fast" not in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"critic-jax {critic_jax.__version__}\n"


def test_every_option_of_every_verb_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    for name, verb in cli.VERBS.items():
        assert cli.main([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert verb.options.__doc__.splitlines()[0] in out
        for field in dataclasses.fields(verb.options):
            if field.name == verb.rest:
                continue
            shown = f"--{field.name.replace('_', '-')}"
            assert shown in out or f"{field.name.upper()} " in out, (name, field.name)


LEADERBOARD = ["evaluate", "leaderboard", "--battles", "FILE", "--anchor", "b"]


@pytest.mark.parametrize("words", [["--help"], ["report", "--help"], LEADERBOARD])
def test_a_reader_that_leaves_is_no_fault(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "battles.jsonl"
    battle = {"question_id": "q", "model_a": "a", "model_b": "b", "verdict": "A>B"}
    file.write_text(json.dumps(battle) + "\n")
    program = Path(sys.executable).with_name("critic-jax")
    command = [program, *(file if word == "FILE" else word for word in words)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
