"""Iterative DPO: rollouts, rewards, pairs, training, round after round. Goes on by itself.

Every stage has a file or folder of its own and goes on with what it finds there, so a run that was
killed is simply run again. Policy and judge take turns: each stage loads what it needs and lets go
of it at its end, and what the optimizer holds stands in the round's folder, or nowhere.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from critic_jax.alignment.answers import RewardSource
from critic_jax.alignment.choice import Limits
from critic_jax.alignment.compare import compare_files, write_examples
from critic_jax.alignment.pairs import pairs_file
from critic_jax.alignment.rollout import rollout_file
from critic_jax.alignment.sources import Wish, make_source
from critic_jax.checkpoints.info import describe
from critic_jax.checkpoints.store import find_model
from critic_jax.compiled import keep_compiled
from critic_jax.data import read_json_lines
from critic_jax.data.pairs import make_pair
from critic_jax.errors import InputError, WorkError
from critic_jax.files import make_folder, write_json, write_json_lines
from critic_jax.hosts import on_first
from critic_jax.judging.answer_file import generate_file
from critic_jax.judging.lines import image_field
from critic_jax.judging.memory import parse_bytes
from critic_jax.judging.prompts import Prompt, read_prompts
from critic_jax.remote import fetched, url_of
from critic_jax.sharding import make_mesh
from critic_jax.training.begun import Begun
from critic_jax.training.config import AlignConfig, DpoConfig
from critic_jax.training.dpo import check_pairs, loss_of
from critic_jax.training.loop import train
from critic_jax.training.options import step_options
from critic_jax.training.profile import Profile
from critic_jax.training.run_folder import RunFolder

MANIFEST = "round.json"

TOLD = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
"""What a manifest quotes of a round's first and last step."""


def align(config: AlignConfig, report: Callable[[Path], Path] | None = None) -> Path:
    """Run (or go on with) all rounds; returns the folder of the last policy.

    `output/round_N/round.json` tells of a round that is done. report: called with `output` behind
    every round. On several processes (`critic_jax.hosts.join_hosts`) each calls this, with an
    `output` that they share. Raises InputError for a wrong config, wrong data, or a run that was
    begun otherwise or is under way; WorkError for a round without any pair.
    """
    source = _checked(config)
    data, output = Path(fetched(config.data)), Path(config.output)

    def begin() -> list[Prompt]:
        prompts, _ = read_prompts(data)
        if not prompts:
            raise InputError(f"{data}: holds no prompts")
        begun = Begun(output, going_on=(output / "round_1").exists())
        begun.check(config)
        make_folder(output)
        begun.keep(config, _digest(prompts))
        return prompts

    prompts = on_first(begin)
    keep_compiled()
    run = _Run(config, source, data, prompts)
    policy = config.init
    with RunFolder.of(output).alone():
        for number in range(1, config.rounds + 1):
            policy = run.round(number, policy)
            if report is not None:
                on_first(partial(report, output))
    return Path(policy)


def _checked(config: AlignConfig) -> RewardSource:
    """The source of rewards. Raises InputError for values that make no sense."""
    if url := url_of(config.output):
        raise InputError(f"output {url}: rounds need a folder, here or of a bucket that is mounted")
    RunFolder.of(config.output)
    check_pairs(config)
    loss_of(config)
    step_options(config, make_mesh(config.data_parallel, config.fsdp, config.tensor))
    Profile(config.profile, Path(config.output))
    if config.reference not in ("round", "original"):
        find_model(config.reference)
    Limits(config.min_margin, config.max_unparsed)
    named = {f.name: getattr(config, f.name) for f in fields(Wish) if f.name != "memory"}
    return make_source(Wish(**named, memory=parse_bytes(config.memory or None)))


class _Run:
    """What all rounds of a run share."""

    def __init__(
        self, config: AlignConfig, source: RewardSource, data: Path, prompts: list[Prompt]
    ) -> None:
        self.config, self.source, self.data, self.prompts = config, source, data, prompts
        self.output = Path(config.output)
        self._fingerprints: dict[str, str] = {}

    def round(self, number: int, policy: str) -> str:
        """One round, from the policy of the one before; returns the new policy's folder."""
        folder = self.output / f"round_{number}"
        trained = folder / "dpo" / "policy"
        if not on_first((folder / MANIFEST).exists):
            start = policy if self.config.start == "previous" else self.config.init
            rolled = self._rollouts(policy, number, folder)
            found = self._pairs(folder)
            if not found["pairs"]:
                said = ", ".join(f"{why} {count}" for why, count in found["dropped"].items())
                raise WorkError(
                    f"{folder}: none of {found['prompts']} prompts gave a pair ({said}); "
                    "dropped.jsonl tells of each"
                )
            dpo = self._train(number, start, folder)
            manifest = {
                "round": number,
                "rollouts_from": self._model(policy),
                "start": self._model(start),
                "reference": self._model(dpo.reference or start),
                "policy": self._model(str(trained)),
                "data": {"file": self.data.name, "prompts": len(self.prompts)},
                "sampling": rolled,
                "seeds": {"sampling": rolled["seed"], "training": dpo.seed},
                **found,
                "training": on_first(partial(_training, folder / "dpo")),
                "compared": self._compare(str(trained), folder),
            }
            on_first(partial(write_json, folder / MANIFEST, manifest))
        # Nothing goes on from here any more: of a large model that is twice its size and more.
        state = folder / "dpo" / "state"
        on_first(partial(shutil.rmtree, state, ignore_errors=True))
        return str(trained)

    def _rollouts(self, policy: str, number: int, folder: Path) -> dict[str, Any]:
        config = self.config
        settings: dict[str, Any] = {
            "n": config.answers,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_new_tokens": config.max_new_tokens,
            "seed": config.seed + number,  # no two rounds draw alike
        }
        rollouts = folder / "rollouts.jsonl"
        rollout_file(policy, self.data, rollouts, **settings, memory=self._memory)
        _, first = on_first(lambda: next(read_json_lines(rollouts)))
        self._fingerprints[policy] = first["fingerprint"]
        gc.collect()  # what went round in circles is still on the devices
        return settings

    def _pairs(self, folder: Path) -> dict[str, Any]:
        limits = Limits(self.config.min_margin, self.config.max_unparsed)
        found = pairs_file(
            self.data, folder / "rollouts.jsonl", folder / "pairs.jsonl", self.source, limits
        )
        gc.collect()
        return found

    def _train(self, number: int, start: str, folder: Path) -> DpoConfig:
        config, data = self.config, folder / "pairs.jsonl"
        if config.keep_pairs and number > 1:
            data = self._kept_pairs(number, folder)
        reference = {"round": "", "original": config.init}.get(config.reference, config.reference)
        own = {field.name: getattr(config, field.name) for field in fields(DpoConfig)}
        changed = {"init": start, "data": str(data), "output": str(folder / "dpo")}
        dpo = DpoConfig(**own | changed | {"reference": reference})
        train(dpo)
        gc.collect()
        return dpo

    def _kept_pairs(self, number: int, folder: Path) -> Path:
        """A file of this round's pairs and of all before, the oldest first."""

        def write() -> Path:
            lines = []
            for n in range(1, number + 1):
                source = self.output / f"round_{n}" / "pairs.jsonl"
                for line, said in read_json_lines(source):
                    pair = make_pair(said, source.parent, line, f"{source} line {line}")
                    own = {"id": f"round {n}: {pair.id}", **image_field(pair.images, folder)}
                    lines.append(said | own)
            return write_json_lines(folder / "all_pairs.jsonl", lines)

        return on_first(write)

    def _compare(self, policy: str, folder: Path) -> dict[str, Any] | None:
        """What the source says of answers before the first round and after this one."""
        if not self.config.compared or not self.source.any_answer:
            return None
        for model, answers in ((self.config.init, self._before), (policy, folder / "after.jsonl")):
            words: dict[str, Any] = {"max_new_tokens": self.config.max_new_tokens}
            generate_file(model, self._examples, answers, memory=self._memory, **words)
            gc.collect()
        found = compare_files(
            self._examples,
            self._before,
            folder / "after.jsonl",
            folder / "compared.jsonl",
            self.source,
            folder / "compared",
        )
        gc.collect()
        return found

    @property
    def _before(self) -> Path:
        return self.output / "before.jsonl"

    @cached_property
    def _examples(self) -> Path:
        path = self.output / "examples.jsonl"
        return on_first(partial(write_examples, self.prompts, self.config.compared, path))

    @cached_property
    def _memory(self) -> int | None:
        return parse_bytes(self.config.memory or None)

    def _model(self, path: str) -> dict[str, str]:
        """A model as a manifest names it."""
        if path not in self._fingerprints:
            self._fingerprints[path] = describe(path)["fingerprint"]
        return {"model": path, "fingerprint": self._fingerprints[path]}


def read_round(folder: Path) -> dict[str, Any]:
    """The manifest of a round. Raises InputError if it is none."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / MANIFEST}: not a round's manifest ({error})") from None
    return found


def _training(folder: Path) -> dict[str, Any]:
    lines = [line for _, line in read_json_lines(folder / "metrics.jsonl")]
    first, last = ({name: line[name] for name in TOLD} for line in (lines[0], lines[-1]))
    return {"steps": len(lines), "first_step": first, "last_step": last}


def _digest(prompts: list[Prompt]) -> str:
    """16 hexadecimal digits of the prompts: of all that is said in them."""
    said = []
    for one in prompts:
        pictures = [i.name if isinstance(i, Path) else sha256(i).hexdigest() for i in one.images]
        said.append((one.id, one.text, pictures))
    return sha256(json.dumps(said).encode()).hexdigest()[:16]
