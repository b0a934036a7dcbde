"""Preference training: trees beside answers on their own, references, and the verb."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bucket import bucket
from PIL import Image
from run_lines import metrics
from tiny_critic import tiny_checkpoint
from tree_helpers import gradients_close

from critic_jax.checkpoints import load_checkpoint, save_checkpoint
from critic_jax.checkpoints.info import describe
from critic_jax.cli import main
from critic_jax.data.encode import Encoder
from critic_jax.data.pair_rows import PairRows
from critic_jax.data.pairs import read_pairs
from critic_jax.data.plan import Budget
from critic_jax.errors import InputError, Stopped
from critic_jax.files import write_json_lines
from critic_jax.remote import cache_folder
from critic_jax.training import objective, reference
from critic_jax.training.config import DpoConfig
from critic_jax.training.dpo import (
    DpoLoss,
    dpo_loss,
    loss_of,
    make_dpo_step,
    make_reference,
    make_total,
)
from critic_jax.training.sft import StepOptions

FLOAT32 = jnp.dtype(jnp.float32)
# Answers that begin alike, one that is the other's beginning, and two pairs of one prompt.
SAID = (
    ("0.png", "Which digit?", "It is a 7, I think.", "It is a 1."),
    ("0.png", "Which digit?", "It is a 7.", "It is a 7. It is."),
    ("1.png", "Which digit is it?", "No.", "Yes, it is."),
    (None, "Which is better?", "The first", "The first one is."),
    ("0.png", "Why?", "It has a bar.", "No."),
)


def write_pairs(folder: Path) -> Path:
    for number in range(2):
        color = (90 * number, 60, 200)
        Image.linear_gradient("L").convert("RGB").resize((16, 16)).save(folder / f"{number}.png")
        Image.new("RGB", (16, 16), color).save(folder / "1.png")
    lines = []
    for number, (image, prompt, chosen, rejected) in enumerate(SAID):
        line = {"id": f"p{number}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
        lines.append(line | ({"image": image} if image else {}))
    return write_json_lines(folder / "pairs.jsonl", lines)


@pytest.mark.parametrize("name", ["sigmoid", pytest.param("ipo", marks=pytest.mark.slow)])
def test_a_tree_step_is_that_of_answers_on_their_own(tmp_path: Path, name: str) -> None:
    checkpoint = tiny_checkpoint()
    loss = DpoLoss(name, 0.2, 0.1 if name == "sigmoid" else 0.0, 1.5, 0.5)
    total = make_total(checkpoint.config, FLOAT32, loss, StepOptions())
    both = jax.jit(jax.value_and_grad(total, has_aux=True))
    labels = ("answer", "upstream-sft", "upstream-dpo") if name == "sigmoid" else ("answer",)
    for rule in labels:
        encoder = Encoder(checkpoint.tokenizer, checkpoint.geometry, rule)
        pairs = read_pairs(write_pairs(tmp_path))
        found = []
        for share in (True, False):
            rows = PairRows(pairs, encoder, Budget(5, 3, 384, 4), 1, 0, share)
            assert len(rows) == 1
            found.append((rows.holding(0).tokens, both(checkpoint.params, rows[0])))
        (tokens, ((value, sums), grads)), (alone, ((expected, others), plain)) = found
        assert tokens < 0.6 * alone
        assert float(value) == pytest.approx(float(expected), rel=1e-5)
        for metric, number in others.items():
            assert float(sums[metric]) == pytest.approx(float(number), rel=1e-5), metric
        gradients_close(grads, plain, 1e-5)


def test_the_losses_of_a_pair_by_hand() -> None:
    chosen, rejected, by_chosen, by_rejected = -10.0, -14.0, -11.0, -12.0
    values = [jnp.float32(v) for v in (chosen, rejected, by_chosen, by_rejected)]
    margin = 0.5 * (1 + 2)
    value, *rewards = dpo_loss(*values, beta=0.5)
    assert float(value) == pytest.approx(np.log1p(np.exp(-margin)), rel=1e-6)
    assert [float(r) for r in rewards] == [0.5, -1.0]
    smoothed = 0.8 * np.log1p(np.exp(-margin)) + 0.2 * np.log1p(np.exp(margin))
    assert float(dpo_loss(*values, beta=0.5, label_smoothing=0.2)[0]) == pytest.approx(smoothed)
    lengths = {"chosen_tokens": jnp.float32(2), "rejected_tokens": jnp.float32(4)}
    value = dpo_loss(*values, beta=0.5, loss="ipo", **lengths)[0]
    assert float(value) == pytest.approx((1 / 2 + 2 / 4 - 1) ** 2, abs=1e-6)
    with pytest.raises(ValueError, match="needs chosen_tokens"):
        dpo_loss(*values, loss="ipo")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"beta": 0.0}, "beta 0.0: it should be above 0"),
        ({"label_smoothing": 0.5}, "label_smoothing 0.5: it should be 0 to below 0.5"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing 0.1: the ipo loss has none"),
        ({"gamma": -1.0}, "gamma -1.0: it should be 0 or above"),
        ({"alpha": 0.0}, "alpha and gamma are both 0"),
    ],
)
def test_a_loss_that_makes_no_sense_is_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        loss_of(DpoConfig(init="", data="", output="", **fields))


CONFIG = """\
from critic_jax.training.config import DpoConfig

config = DpoConfig(
    init={start!r},
    data={data!r},
    output="set on the command line",
    global_batch=2,
    rows=2,
    row_tokens=128,
    row_tiles=4,
    epochs=4,
    learning_rate=1e-3,
    beta=0.5,
    dtype="float32",
    save_every=4,
)
"""


class Counted:
    """Counts steps, and can cut a run short before one is taken; all runs share one program."""

    def __init__(self) -> None:
        self.steps, self.passes = 0, 0
        self.last: int | None = None
        self.made: dict[str, Any] = {}

    def make_step(self, *arguments: Any) -> Any:
        step = self.made.setdefault("step", make_dpo_step(*arguments))

        def take(state: Any, batch: Any) -> Any:
            if self.steps == self.last:
                raise KeyboardInterrupt
            self.steps += 1
            return step(state, batch)

        return take

    def make_reference(self, *arguments: Any) -> Any:
        forward = self.made.setdefault("reference", make_reference(*arguments))

        def take(params: Any, batch: Any) -> Any:
            self.passes += 1
            return forward(params, batch)

        return take


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    found = Counted()
    monkeypatch.setattr(objective, "make_dpo_step", found.make_step)
    monkeypatch.setattr(reference, "make_reference", found.make_reference)
    yield found


@pytest.fixture
def config(start: Path, tmp_path: Path) -> str:
    path = tmp_path / "aligned.py"
    path.write_text(CONFIG.format(start=str(start), data=str(write_pairs(tmp_path))))
    return str(path)


def test_a_run_that_was_cut_short_ends_like_one_that_was_not(
    counted: Counted, config: str, start: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["dpo", config, "--output", str(whole)]) == 0
    lines = metrics(whole)
    first, last = lines[0], lines[-1]
    steps, passes = counted.steps, counted.passes
    assert [line["step"] for line in lines] == list(range(1, steps + 1)) and passes == steps // 4
    # The policy starts as its reference: no reward, and the loss of a coin.
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert abs(first["rewards/margins"]) < 1e-3
    assert last["rewards/margins"] > 0.1 and last["loss"] < first["loss"]
    assert last["rewards/accuracies"] == 1
    assert last["rewards/margins"] == pytest.approx(
        last["rewards/chosen"] - last["rewards/rejected"], abs=1e-4
    )
    policy = load_checkpoint(whole / "policy")
    assert (policy.meta["step"], policy.meta["from"]) == (steps, str(start))

    # Cut in the middle; the reference is not asked again.
    counted.steps, counted.passes, counted.last = 0, 0, 5  # the fourth is saved
    assert main(["dpo", config, "--output", str(cut)]) == 130
    counted.last = None
    assert main(["dpo", config, "--output", str(cut)]) == 0
    assert counted.passes == passes and metrics(cut) == lines
    same = zip(
        jax.tree.leaves(policy.params),
        jax.tree.leaves(load_checkpoint(cut / "policy").params),
        strict=True,
    )
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in same)

    # The pairs are there again with their references, and need none in another run.
    kept = [json.loads(line) for line in (whole / "pairs.jsonl").read_text().splitlines()]
    assert [line["id"] for line in kept] == [f"p{n}" for n in range(5)]
    assert {line["reference_logprobs"]["model"] for line in kept} == {str(start)}
    counted.passes = 0
    again = ["--data", str(whole / "pairs.jsonl"), "--output", str(tmp_path / "again")]
    assert main(["dpo", config, *again, "--epochs", "1"]) == 0
    assert counted.passes == 0 and metrics(tmp_path / "again")[0] == first


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_on_another_machine_with_the_references_of_the_first(
    counted: Counted, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, whole = "gs://my-critic/runs/aligned", tmp_path / "whole"
    assert main(["dpo", config, "--output", str(whole)]) == 0
    passes = counted.passes
    counted.steps, counted.passes, counted.last = 0, 0, 5
    with bucket(tmp_path / "one", monkeypatch):
        assert main(["dpo", config, "--output", url]) == 130
        counted.last = None
        monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "another"))
        assert main(["dpo", config, "--output", url]) == 0
        assert counted.passes == passes
        assert metrics(cache_folder(url)) == metrics(whole)
        found = load_checkpoint(f"{url}/policy")
        assert found.weights == load_checkpoint(whole / "policy").weights


def test_a_reference_pass_that_was_stopped_goes_on(
    counted: Counted, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    output = tmp_path / "run"
    words = ["dpo", config, "--output", str(output)]
    take = counted.make_reference

    def stopping(*arguments: Any) -> Any:
        forward = take(*arguments)

        def once(params: Any, batch: Any) -> Any:
            if counted.passes == 1:
                raise Stopped("stopped")
            return forward(params, batch)

        return once

    monkeypatch.setattr(reference, "make_reference", stopping)
    assert main(words) == 0 and "stopped" in capsys.readouterr().err
    found = (output / "pairs.jsonl").read_text().splitlines()
    assert 1 <= len(found) < 5
    with (output / "pairs.jsonl").open("a") as file:
        file.write('{"id": "p9", "prom')
    monkeypatch.setattr(reference, "make_reference", take)
    counted.passes = 0
    assert main([*words, "--epochs", "1"]) == 0
    assert 1 <= counted.passes < 3
    lines = (output / "pairs.jsonl").read_text().splitlines()
    assert len(lines) == 5 and set(found) <= set(lines)


def test_what_another_model_of_that_name_said_is_not_gone_on_with(
    counted: Counted, config: str, start: Path, tmp_path: Path, capsys: Any
) -> None:
    mine, output = tmp_path / "mine", tmp_path / "run"
    shutil.copytree(start, mine)
    words = ["dpo", config, "--init", str(mine), "--output", str(output)]
    counted.last = 0  # behind the reference pass, before any state
    assert main(words) == 130
    found = (output / "pairs.jsonl").read_bytes()
    assert {
        json.loads(line)["reference_logprobs"]["fingerprint"] for line in found.splitlines()
    } == {describe(mine)["fingerprint"]}
    other = load_checkpoint(mine)
    other.params = jax.tree.map(lambda value: value * 1.01, other.params)
    other.weights = ""
    save_checkpoint(mine, other)
    counted.last = None
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"pairs.jsonl: holds what {mine} said when it was another model" in error
    assert error.count("\n") == 1 and (output / "pairs.jsonl").read_bytes() == found
    assert main([*words[:-1], str(tmp_path / "another")]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "gone.jsonl"], "gone.jsonl: no such file"),
        (["--loss-mean", "token"], "loss_mean 'token': a step's loss is the mean over its pairs"),
        (["--beta", "0"], "beta 0.0: it should be above 0"),
        (["--bet", "1"], "no field --bet; did you mean --beta?"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    config: str, tmp_path: Path, capsys: Any, words: list[str], said: str
) -> None:
    assert main(["dpo", config, "--output", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_each_verb_wants_a_config_of_its_own(config: str, config_file: Path, capsys: Any) -> None:
    assert main(["train", config]) == 2
    assert (
        "must define `config`, a critic_jax.training.config.TrainConfig" in capsys.readouterr().err
    )
    assert main(["dpo", str(config_file)]) == 2
    assert "must define `config`, a critic_jax.training.config.DpoConfig" in capsys.readouterr().err
