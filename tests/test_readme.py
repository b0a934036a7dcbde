"""README and pages name only what exists: verbs, options, make targets, files, Python names."""

import ast
import dataclasses
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import critic_data.cli
import critic_jax.cli
from critic_data.importing.run import Import, import_records
from critic_jax.checkpoints import Checkpoint, save_checkpoint
from critic_jax.demo.digits import make_digits, write_pictures
from critic_jax.files import write_json_lines
from critic_jax.imaging import ImageGeometry
from critic_jax.models.build import init_params
from critic_jax.models.config import tiny
from critic_jax.text import train_tokenizer
from critic_jax.verbs import Verb

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {"critic-jax": critic_jax.cli.VERBS, "critic-data": critic_data.cli.VERBS}

AFTER_THE_DEMO = ("judging", "engine", "data", "weights")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The words of each command line in the page's shell blocks."""
    lines = "\n".join(fenced(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def options(verb: Verb) -> set[str]:
    return {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(verb.options)}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


def public_imports(code: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("critic_"):
            yield from ((str(node.module), name.name) for name in node.names)


@each_page
def test_every_verb_named_exists(page: Path) -> None:
    for script, verb in re.findall(r"\b(critic-jax|critic-data) ([a-z][\w-]*)", page.read_text()):
        assert verb in SCRIPTS[script], f"{script} {verb}"


@each_page
def test_every_option_in_a_command_exists(page: Path) -> None:
    for script, *words in commands(page):
        if script not in SCRIPTS or words[0].startswith("-"):
            continue
        verb = SCRIPTS[script][words[0]]
        if verb.verbs is not None:
            verb = verb.verbs[words[1]]
        named = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
        assert verb.rest or named <= options(verb), f"{script} {words[0]}: {named - options(verb)}"


@each_page
def test_every_make_target_named_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"(?:`|^    )make ([a-z]+)", text, re.M)
    named += [words[1] for words in commands(page) if words[0] == "make"]
    assert set(named) <= make_targets()


@each_page
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    for link in links:
        assert "://" in link or (page.parent / link).is_file(), link


@each_page
def test_python_blocks_import_what_exists(page: Path) -> None:
    for code in fenced(page, "python"):
        for module, name in public_imports(code):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.fixture(scope="module")
def after_the_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained critic and a scan where the demo leaves them, and a record,
    imported too.
    """
    folder = tmp_path_factory.mktemp("clone")
    tokenizer = train_tokenizer(["Which digit is this?"], 300)
    config = tiny(tokenizer.vocab_size)
    start = Checkpoint(
        config,
        ImageGeometry(tile_size=16, patch_size=4, pinpoints=((16, 16),)),
        init_params(config, 0),
        tokenizer,
        {"name": "untrained", "step": 0, "generation": {"max_new_tokens": 32}},
    )
    save_checkpoint(folder / "runs/demo/critic", start)
    write_pictures(make_digits().heldout, folder / "runs/demo/heldout/pictures")
    turns = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "The first."}]
    write_json_lines(folder / "train.jsonl", [{"id": "r1", "conversations": turns}])
    import_records(Import((folder / "train.jsonl",), folder / "critic-113k"))
    return folder


@pytest.mark.parametrize(
    "code",
    [
        code
        for page in (ROOT / "README.md", *(ROOT / f"docs/{n}.md" for n in AFTER_THE_DEMO))
        for code in fenced(page, "python")
    ],
)
def test_the_blocks_about_a_critic_run_after_the_demo(
    code: str, after_the_demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(after_the_demo)
    exec(compile(code, "page", "exec"), {})


def test_the_commands_about_weights_run_after_the_demo(
    after_the_demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the block about the demo's critic; other blocks name models of the hub."""
    monkeypatch.chdir(after_the_demo)
    blocks = fenced(ROOT / "docs/weights.md", "sh")
    (block,) = [b for b in blocks if b.startswith("critic-jax export runs/demo/critic ")]
    lines = [shlex.split(line) for line in block.splitlines()]
    assert [words[1] for words in lines] == ["export", "convert", "info"]
    for script, *words in lines:
        assert script == "critic-jax" and critic_jax.cli.main(words) == 0
    made, last = capsys.readouterr().out.split("fingerprint")[1:3]
    assert made.split()[0] == last.split()[0]


@pytest.mark.parametrize("code", fenced(ROOT / "docs" / "pieces.md", "python"))
def test_the_blocks_about_pieces_run_as_they_stand(code: str) -> None:
    assert "assert " in code
    exec(compile(code, "docs/pieces.md", "exec"), {})


def test_the_readme_names_both_ways_in_and_every_verb() -> None:
    text = (ROOT / "README.md").read_text()
    assert "    make demo\n    make test\n" in text
    table = set(re.findall(r"^\| `(critic-\w+ \w+)` \|", text, re.M))
    assert table == {f"{script} {verb}" for script, verbs in SCRIPTS.items() for verb in verbs}
