"""Whole runs of two rounds: what they leave, who is in memory when, and runs cut short."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from reward_functions import by_vowels

from critic_jax import files
from critic_jax.checkpoints import load_checkpoint
from critic_jax.cli import main
from critic_jax.judging.ask import Ask, Asking, ask_until_read
from critic_jax.judging.critic import Critic
from critic_jax.judging.judgment import Judgment
from critic_jax.judging.partial import Partial
from critic_jax.training import loop, objective, reference
from critic_jax.training.dpo import make_dpo_step, make_reference


class Watch:
    """Counts what is written and the steps taken, and can cut a run short at one of these moments;
    programs are shared by all runs. The judge is a loaded model that counts vowels.
    """

    def __init__(self) -> None:
        self.moments, self.last = 0, -1
        self.held: list[int] = []
        # Kept here, so that none of them goes and leaves its id to another.
        self.others = jax.live_arrays()
        self.made: dict[str, Any] = {}

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.last:
            raise KeyboardInterrupt

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*words: Any, **named: Any) -> Any:
            self.moment()
            return function(*words, **named)

        return watched

    def loading(self, load: Callable[..., Any]) -> Callable[..., Any]:
        """Notes the bytes on the devices before a model is loaded, other tests' left out."""
        others = {id(array) for array in self.others}

        def watched(*words: Any, **named: Any) -> Any:
            held = [array for array in jax.live_arrays() if id(array) not in others]
            self.held.append(sum(array.nbytes for array in held))
            return load(*words, **named)

        return watched

    def shared(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *words: self.before(self.made.setdefault(name, make(*words)))


def judge(self: Critic, asks: list[Ask], asking: Asking | None = None) -> list[Judgment]:
    return [
        ask_until_read(ask, self.name, 0, lambda _, a=ask: (by_vowels(a.prompt()), True))
        for ask in asks
    ]


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    found = Watch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRITIC_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(Critic, "judge", judge)
        patch.setattr(Critic, "load", found.loading(Critic.load))
        patch.setattr(loop, "load_checkpoint", found.loading(load_checkpoint))
        patch.setattr(Partial, "write", found.before(Partial.write))
        patch.setattr(files, "write_atomically", found.before(files.write_atomically))
        patch.setattr(objective, "make_dpo_step", found.shared("step", make_dpo_step))
        patch.setattr(reference, "make_reference", found.shared("reference", make_reference))
        yield found


@pytest.fixture(scope="module")
def whole(watch: Watch, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert main(["align", str(config), "--output", str(output)]) == 0
    return output


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def manifest(output: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / f"round_{number}" / "round.json").read_text())
    return found


def bits(path: Path) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(load_checkpoint(path).params)]


def test_two_rounds(whole: Path, policy: Path) -> None:
    one, two = manifest(whole, 1), manifest(whole, 2)
    names = ("rollouts_from", "start", "reference")
    assert [one[name]["model"] for name in names] == [str(policy)] * 3
    assert [two[name] for name in names] == [one["policy"]] * 3
    prints = [m["fingerprint"] for m in (one["start"], one["policy"], two["policy"])]
    assert len(set(prints)) == 3
    assert (one["seeds"]["sampling"], two["seeds"]["sampling"]) == (1, 2)
    for number, told in enumerate((one, two), 1):
        folder = whole / f"round_{number}"
        pairs, dropped = read(folder / "pairs.jsonl"), read(folder / "dropped.jsonl")
        assert (told["prompts"], told["answers"]) == (9, 27)
        assert len(pairs) + len(dropped) == 9 and told["pairs"] == len(pairs) > 4
        assert sum(told["dropped"].values()) == len(dropped)
        assert told["position_bias"] == 0.5
        for pair in pairs:
            chosen, rejected = (sum(c in "aeiou" for c in pair[n]) for n in ("chosen", "rejected"))
            assert chosen > rejected
            # 2 (3 q_chosen - 3 q_rejected), whatever the third answer says and the place gives.
            margin = pair["rewards"]["chosen"] - pair["rewards"]["rejected"]
            assert margin == 6 * (chosen - rejected) / 4
        compared = told["compared"]
        assert compared["prompts"] == 9 == sum(compared[n] for n in ("won", "lost", "tie"))
        assert not (folder / "dpo" / "state").exists()
    last = {line["id"]: line for line in read(whole / "round_1" / "pairs.jsonl")}
    assert last["turns"]["prompt"] == "Which digit?"
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["win_rate"] == [one["compared"]["win_rate"], two["compared"]["win_rate"]]
    page = (whole / "report.html").read_text()
    assert "Win rate against the start" in page and page.count("<article") == 9


def test_policy_and_judge_take_turns(whole: Path, watch: Watch, policy: Path) -> None:
    """Before a model is loaded, nothing of another is on the devices."""
    model = sum(len(leaf) for leaf in bits(policy))
    # In each round: rollouts, judge, training, answers of before (once) and after, judge.
    assert len(watch.held) == 6 + 5
    assert max(watch.held) < model / 10


def test_a_run_cut_short_at_any_moment_ends_like_one_that_was_not(
    whole: Path, watch: Watch, config: Path, tmp_path: Path
) -> None:
    output, rng, cuts = tmp_path / "run", random.Random(0), 0
    while True:
        watch.moments, watch.last = 0, rng.randrange(20, 90)
        code = main(["align", str(config), "--output", str(output)])
        if code == 0:
            break
        assert code == 130
        cuts += 1
    watch.last = -1
    assert cuts >= 2
    for number in (1, 2):
        for name in ("rollouts.jsonl", "judged/judgments.jsonl", "after.jsonl"):
            a, b = (run / f"round_{number}" / name for run in (whole, output))
            assert a.read_text().replace(str(whole), str(output)) == b.read_text()
        a, b = (read(run / f"round_{number}" / "pairs.jsonl") for run in (whole, output))
        strip = [[{k: v for k, v in line.items() if k != "image"} for line in s] for s in (a, b)]
        assert strip[0] == strip[1]
        a, b = (json.dumps(manifest(run, number)) for run in (whole, output))
        assert a.replace(str(whole), str(output)) == b
        same = [bits(run / f"round_{number}" / "dpo" / "policy") for run in (whole, output)]
        assert same[0] == same[1]
