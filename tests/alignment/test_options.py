"""What rounds are told to do: which model starts and answers, which pairs, when a run is refused.

Sampling and training are stood in for; everything else is real.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from critic_jax.alignment import rounds
from critic_jax.alignment.report import read_rounds, write_page
from critic_jax.cli import main
from critic_jax.errors import InputError
from critic_jax.files import alone, write_json_lines
from critic_jax.training.config import DpoConfig

CONFIG = """\
from critic_jax.training.config import AlignConfig

config = AlignConfig(
    init="start",
    data={data!r},
    output="set on the command line",
    reward_function="reward_functions.vowels",
    answers=2,
)
"""


class Stages:
    """Models are names; answers are what the test says, and the number of the round."""

    def __init__(self) -> None:
        self.rolled: list[tuple[str, int]] = []
        self.trained: list[DpoConfig] = []
        self.answer = "aeiou"

    def rollout(self, model: str, input: Path, output: Path, **settings: Any) -> None:
        self.rolled.append((model, settings["seed"]))
        self._answers(output, [f"{self.answer} {len(self.rolled)}", "x"], model)

    def generate(self, model: str, input: Path, output: Path, **settings: Any) -> None:
        self._answers(output, ["x" if model == "start" else self.answer], model)

    def train(self, config: DpoConfig) -> None:
        self.trained.append(config)
        step = {"step": 1, **dict.fromkeys(rounds.TOLD, 0.5)}
        write_json_lines(Path(config.output) / "metrics.jsonl", [step])

    def _answers(self, output: Path, said: list[str], model: str) -> None:
        lines = [
            {"id": name, "prompt": "Which?", "responses": said, "fingerprint": f"of {model}"}
            for name in ("a", "b")
        ]
        write_json_lines(output, lines)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stages]:
    found = Stages()
    monkeypatch.setattr(rounds, "rollout_file", found.rollout)
    monkeypatch.setattr(rounds, "generate_file", found.generate)
    monkeypatch.setattr(rounds, "train", found.train)
    monkeypatch.setattr(rounds.gc, "collect", lambda: 0)  # slow, and there is nothing to collect
    monkeypatch.setattr(rounds, "describe", lambda path: {"fingerprint": f"of {path}"})
    yield found


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    Image.new("RGB", (16, 16)).save(tmp_path / "0.png")
    lines = [{"id": "a", "prompt": "Which?", "image": "0.png"}, {"id": "b", "prompt": "Which?"}]
    data = write_json_lines(tmp_path / "prompts.jsonl", lines)
    config = tmp_path / "rounds.py"
    config.write_text(CONFIG.format(data=str(data)))
    return ["align", str(config), "--output", str(tmp_path / "run")]


def policies(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "run" / f"round_{n}" / "dpo" / "policy") for n in (1, 2, 3)]


def test_each_round_goes_on_from_the_one_before(
    stages: Stages, words: list[str], tmp_path: Path, capsys: Any
) -> None:
    assert main(words) == 0
    one, two, three = policies(tmp_path)
    assert capsys.readouterr().out.strip() == three
    assert stages.rolled == [("start", 1), (one, 2), (two, 3)]
    assert [config.init for config in stages.trained] == ["start", one, two]
    assert {config.reference for config in stages.trained} == {""}  # the round's own start
    assert {type(config) for config in stages.trained} == {DpoConfig}
    data = [Path(config.data) for config in stages.trained]
    assert [path.parent.name for path in data] == ["round_1", "round_2", "round_3"]
    assert all(path.name == "pairs.jsonl" for path in data)
    # A run that is done is left as it is; it may get more rounds.
    assert main([*words, "--rounds", "4"]) == 0
    assert stages.rolled[3:] == [(three, 4)] and len(stages.trained) == 4
    told = read_rounds(tmp_path / "run")
    assert [one["compared"]["won"] for one in told] == [2] * 4
    assert told[1]["reference"] == told[1]["start"] == {"model": one, "fingerprint": f"of {one}"}


def test_rounds_may_start_from_the_original_and_be_held_against_it(
    stages: Stages, words: list[str], tmp_path: Path
) -> None:
    assert main([*words, "--start", "original", "--reference", "original"]) == 0
    one, two, _ = policies(tmp_path)
    assert [model for model, _ in stages.rolled] == ["start", one, two]
    assert [config.init for config in stages.trained] == ["start"] * 3
    assert [config.reference for config in stages.trained] == ["start"] * 3
    assert read_rounds(tmp_path / "run")[2]["reference"]["model"] == "start"


def test_any_checkpoint_may_be_the_reference(
    stages: Stages, words: list[str], policy: Path
) -> None:
    more = ["--reference", str(policy), "--rounds", "1", "--compared", "0"]
    assert main([*words, *more]) == 0
    assert [config.reference for config in stages.trained] == [str(policy)]


def test_pairs_may_be_kept(stages: Stages, words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--keep-pairs", "True"]) == 0
    found = [
        [json.loads(line) for line in Path(config.data).read_text().splitlines()]
        for config in stages.trained
    ]
    assert [len(lines) for lines in found] == [2, 4, 6]
    ids = [f"round {n}: {name}" for n in (1, 2, 3) for name in ("a", "b")]
    assert [line["id"] for line in found[2]] == ids
    assert [line["chosen"] for line in found[2]][::2] == ["aeiou 1", "aeiou 2", "aeiou 3"]
    for config, lines in zip(stages.trained, found, strict=True):
        assert (Path(config.data).parent / lines[0]["image"]).resolve() == tmp_path / "0.png"


def test_a_round_without_pairs_ends_the_run(
    stages: Stages, words: list[str], tmp_path: Path, capsys: Any
) -> None:
    stages.answer = "x"
    assert main([*words, "--reward-function", "reward_functions.zero"]) == 1
    error = capsys.readouterr().err
    assert "none of 2 prompts gave a pair (equal_rewards 2)" in error and error.count("\n") == 1
    assert not stages.trained and (tmp_path / "run" / "round_1" / "dropped.jsonl").exists()


def test_a_run_that_was_begun_otherwise_is_not_gone_on_with(
    stages: Stages, words: list[str], tmp_path: Path, capsys: Any
) -> None:
    assert main([*words, "--rounds", "1"]) == 0
    assert main([*words, "--answers", "4"]) == 2
    assert "begun with answers 2, and now it is 4" in capsys.readouterr().err
    lines = [{"id": "a", "prompt": "Why?"}]
    write_json_lines(tmp_path / "prompts.jsonl", lines)
    assert main(words) == 2
    assert "no longer those that the run was begun with" in capsys.readouterr().err
    assert len(stages.trained) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--rounds", "0"], "rounds 0: it should be 1 or more"),
        (["--compared", "-1"], "compared -1: it should be 0 or more"),
        (["--answers", "1"], "answers 1: it should be 2 or more"),
        (["--temperature", "0"], "temperature 0.0: it should be above 0"),
        (["--top-p", "1.1"], "top_p 1.1: it should be above 0 and at most 1"),
        (["--max-new-tokens", "0"], "max_new_tokens 0: it should be 1 or more"),
        (["--beta", "inf"], "beta inf: it should be above 0"),
        # What only training would find, hours later.
        (["--rows", "3", "--accumulate", "2"], "a step's rows must be a multiple of accumulate"),
        (["--tensor", "5"], "is 5 devices, this machine has"),
        (["--profile", "x"], "profile 'x'; it should be like 10:13"),
        (["--loss-mean", "token"], "loss_mean 'token': a step's loss is the mean over its pairs"),
        (["--validation-judged", "3"], "validation_judged 3: pairs are not judged"),
        (["--reward-function", "", "--scores", "gone.jsonl"], "gone.jsonl: no such file"),
        (["--reward-function", "", "--preferences", "gone.jsonl"], "gone.jsonl: no such file"),
        (["--beta", "0"], "beta 0.0: it should be above 0"),
        (["--min-margin", "-1"], "min_margin is -1.0"),
        (["--memory", "much"], "memory is 'much'"),
        (["--output", "gs://b/runs"], "output gs://b/runs: rounds need a folder"),
        (["--output", ""], "output is empty; it should name a folder for the run"),
        (["--judge", "x"], "not judge and reward_function"),
        (["--reference", "gone"], "gone: no such checkpoint folder"),
        (["--data", "gone.jsonl"], "gone.jsonl: no such file"),
    ],
)
def test_a_wrong_config_is_one_line_before_any_work(
    stages: Stages, words: list[str], tmp_path: Path, capsys: Any, more: list[str], said: str
) -> None:
    assert main([*words, *more]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not stages.rolled and not (tmp_path / "run").exists()


def test_a_second_run_of_the_same_rounds_is_told(
    stages: Stages, words: list[str], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "run").mkdir()
    with alone(tmp_path / "run"):
        assert main(words) == 2
    assert "run: another run is writing to it" in capsys.readouterr().err
    assert not stages.rolled and main(words) == 0


def test_an_output_that_can_be_no_folder_is_one_line_before_any_work(
    stages: Stages, words: list[str], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "run").write_text("mine")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "run: cannot be made a folder (File exists)" in error and error.count("\n") == 1
    assert not stages.rolled and (tmp_path / "run").read_text() == "mine"


def test_answers_that_cannot_differ_are_refused(tmp_path: Path, capsys: Any) -> None:
    words = ["rollout", "--model", "m", "--input", "i", "--output", str(tmp_path / "o")]
    assert main([*words, "--n", "1"]) == 2
    assert "n is 1; it must be at least 2" in capsys.readouterr().err
    assert main([*words, "--temperature", "0"]) == 2
    assert "temperature is 0.0: all answers would be the same" in capsys.readouterr().err


def test_runs_are_held_against_each_other_on_one_page(
    stages: Stages, words: list[str], tmp_path: Path
) -> None:
    assert main([*words, "--rounds", "2"]) == 0
    shutil.copytree(tmp_path / "run", tmp_path / "people")
    report = ["report", str(tmp_path / "run"), str(tmp_path / "people")]
    report += ["--output", str(tmp_path / "page.html")]
    assert main(report) == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h2") == 1 + 2 * 2 and "people: before and after" in page
    with pytest.raises(InputError, match="two runs have folders of one name"):
        write_page([tmp_path / "run", tmp_path / "x" / "run"], tmp_path / "page.html")
    assert main([*report, "--labels", "labels.jsonl"]) == 2
    with pytest.raises(InputError, match="holds no round that is done"):
        write_page([tmp_path / "x"], tmp_path / "page.html")
