"""Answer a file of prompts: JSONL in, n answers a line out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from critic_jax.checkpoints import model_name
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.hosts import is_first, on_first
from critic_jax.imaging import Visual
from critic_jax.judging.best import PROMPTS, Candidates, choose_best
from critic_jax.judging.chunks import by_key, chunks
from critic_jax.judging.critic import Critic, known_fingerprint
from critic_jax.judging.partial import Key, Partial
from critic_jax.judging.prompts import Prompt, read_prompts, reject
from critic_jax.judging.replicas import Replicas, load_replicas
from critic_jax.progress import progress
from critic_jax.sampling.weights import SamplingDtype, WeightFormat

CHUNK = 128
"""Answers that are asked for at a time; they are on disk before the next are."""


def generate_file(
    model: str,
    input: Path,
    output: Path | None = None,
    n: int | None = None,
    best_of: int | None = None,
    judge: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int = 0,
    max_new_tokens: int = 256,
    seed: int = 0,
    skip_bad: bool = False,
    repetition_penalty: float | None = None,
    memory: int | None = None,
    weights: WeightFormat = "full",
    dtype: SamplingDtype | None = None,
    devices: int = 0,
) -> dict[str, Any]:
    """Answer each line (see `read_prompts`) into `output`, or onto stdout.

    A result line holds `id`, `prompt`, `responses` [n], `model` and `sampling`. With `best_of`, as
    many answers are sampled (as LLaVA-Critic does, at temperature 0.7 and top_p 0.9, unless others
    are given), the model `judge` ranks them, and the line holds the fields of `choose_best` too.
    While it works, results stand in `output` + ".partial", and answers that are not ranked yet in
    `output` + ".answers.partial"; a later call goes on from there. A wrong line raises InputError,
    or with `skip_bad` goes to rejected.jsonl beside the output (beside the input if there is none).
    memory: bytes, and weights and dtype, as `Critic` takes them, for either model. devices: of a
    replica (`replica_meshes`).

    On several processes all call this with the same arguments: they share the prompts out, and the
    first reads the input and writes; pictures must be there for all.
    """
    count = _count(n, best_of, judge, temperature)
    prompts, rejected = on_first(partial(read_prompts, input, skip_bad))
    settings: dict[str, Any] = {
        "temperature": temperature if temperature is not None else 0.7 if best_of else 0.0,
        "top_p": top_p if top_p is not None else 0.9 if best_of else 1.0,
        "top_k": top_k,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    with TemporaryDirectory() as scratch:
        file = output or Path(scratch) / "answers.jsonl"
        held = {"memory": memory, "weights": weights, "dtype": dtype}
        run = _Run(model, repetition_penalty, held, devices, settings, count, skip_bad, rejected)
        if judge is None:
            results = run.answer(file, prompts)
        else:
            results = run.answer_and_rank(file, prompts, judge)
    if output is None and is_first():
        for result in results:
            print(json.dumps(result, ensure_ascii=False))
    if rejected and is_first():
        bad = (output or input).with_name("rejected.jsonl")
        write_json_lines(bad, sorted(rejected, key=lambda r: r["line"]))
    summary: dict[str, Any] = {"model": model_name(model), "answered": len(results)}
    if judge is not None:
        summary |= _of_the_best(model_name(judge), results)
    return summary | {"rejected": len(rejected)}


@dataclass
class _Run:
    """What answering the prompts of one file needs."""

    model: str
    repetition_penalty: float | None
    held: dict[str, Any]
    """How the engine of either model holds things: `memory`, `weights` and `dtype`."""
    devices: int
    settings: dict[str, Any]
    count: int
    skip_bad: bool
    rejected: list[dict[str, Any]]
    _replicas: Replicas[Critic] | None = None

    def answer(self, output: Path, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        """The result lines, in the order of the prompts; they stand in `output`."""
        with self._partial(output, None) as partial:
            self._answer(partial, prompts)
        return _written(partial, output, prompts)

    def answer_and_rank(
        self, output: Path, prompts: Sequence[Prompt], judge: str
    ) -> list[dict[str, Any]]:
        """The same, with what the judge chose."""
        with self._partial(output, model_name(judge)) as ranked:
            self._check(ranked, self.model, repetition_penalty=self.repetition_penalty)
            self._check(ranked, judge, "judge_fingerprint")
            waiting = [prompt for prompt in prompts if prompt.key not in ranked.done]
            with self._partial(output.with_name(f"{output.name}.answers"), None) as answers:
                self._answer(answers, waiting)
            keys = [prompt.key for prompt in waiting]
            answered = on_first(partial(answers.results, keys, keep_others=False))
            if answered:
                self._rank(judge, ranked, answered, waiting)
        results = _written(ranked, output, prompts)
        answers.finish()
        return results

    def _rank(
        self,
        judge: str,
        ranked: Partial,
        answered: Sequence[dict[str, Any]],
        prompts: Sequence[Prompt],
    ) -> None:
        replicas = self._judge(judge)
        ranked.check_fingerprint(replicas.fingerprint, "judge_fingerprint")
        of_id = {prompt.id: prompt for prompt in prompts}
        candidates = [
            Candidates(of_id[r["id"]].images, r["prompt"], tuple(r["responses"])) for r in answered
        ]
        most = max(1, min(PROMPTS, -(-len(candidates) // replicas.count)))
        pieces = [candidates[at : at + most] for at in range(0, len(candidates), most)]
        with progress() as bar:
            task = bar.add_task("ranking", total=len(candidates))
            chosen = replicas.work(pieces, choose_best)
            for result, fields in zip(answered, chosen, strict=True):
                ranked.write(result | fields)
                bar.advance(task)

    def _partial(self, output: Path, judge: str | None) -> Partial:
        how = {"sampling": {"n": self.count, **self.settings}, "judge": judge}
        return on_first(partial(Partial, output, model_name(self.model), how, "answer"))

    def _judge(self, judge: str) -> Replicas[Critic]:
        replicas, self._replicas = self._replicas, None
        if replicas is not None and judge == self.model and self.repetition_penalty is None:
            return replicas
        del replicas  # before another takes its place in memory
        return self._load(judge)

    def _load(self, model: str, **settings: Any) -> Replicas[Critic]:
        load = partial(Critic.load, model, **self.held, **settings)
        return load_replicas(load, model, self.held["dtype"], self.devices)

    def _check(
        self, partial: Partial, model: str, name: str = "fingerprint", **settings: Any
    ) -> None:
        """Raise InputError where the earlier results are known to be of another model."""
        held = {"weights": self.held["weights"], "dtype": self.held["dtype"]}
        if partial.done and (known := known_fingerprint(model, **held, **settings)):
            partial.check_fingerprint(known, name)

    def _answer(self, partial: Partial, prompts: Sequence[Prompt]) -> None:
        if all(prompt.key in partial.done for prompt in prompts):
            self._check(partial, self.model, repetition_penalty=self.repetition_penalty)
            return
        self._replicas = replicas = self._load(
            self.model, repetition_penalty=self.repetition_penalty
        )
        partial.check_fingerprint(replicas.fingerprint)
        done = sum(prompt.key in partial.done for prompt in prompts) * self.count
        total = len(prompts) * self.count
        most = max(1, min(CHUNK, -(-total // replicas.count)))
        with progress() as bar:
            task = bar.add_task("answering", total=total, completed=done)
            for critic in replicas.here:
                critic.engine.watch = lambda count: bar.advance(task, count)
            pieces = list(_pieces(prompts, self.count, most))
            for found in replicas.work(pieces, _Piece(self, partial.done, replicas).answer):
                if isinstance(found, _Wrong):
                    one, reason = found.prompt, found.reason
                    reject(self.rejected, one.line, one.id, reason, self.skip_bad)
                    continue
                partial.write(found)


@dataclass(frozen=True)
class _Wrong:
    """A prompt whose pictures cannot be read, and why."""

    prompt: Prompt
    reason: str


@dataclass(frozen=True)
class _Piece:
    """How a piece of the file is answered; `done`: the prompts that had their answers before."""

    run: _Run
    done: set[Key]
    replicas: Replicas[Critic]

    def answer(
        self, critic: Critic, prompts: Sequence[Prompt]
    ) -> Iterator[dict[str, Any] | _Wrong]:
        """Answer it; if some of it is missing the whole of it, since what is drawn for one of
        several equal prompts depends on how many stand before it."""
        if all(prompt.key in self.done for prompt in prompts):
            return
        visuals: dict[int, tuple[Visual, ...]] = {}
        wrong: dict[int, InputError] = {}
        for number, prompt in enumerate(prompts):
            try:
                visuals[number] = critic.visuals(list(prompt.images) or None, "field 'image'")
            except InputError as error:
                wrong[number] = error
                if not self.run.skip_bad:
                    break
        wrong = self.replicas.agreed(wrong)
        for number, why in sorted(wrong.items()):
            yield _Wrong(prompts[number], f"{prompts[number].where}: {why}")
        if wrong and not self.run.skip_bad:
            return
        ready = [(p, visuals[n]) for n, p in enumerate(prompts) if n not in wrong]
        if all(prompt.key in self.done for prompt, _ in ready):
            return
        sampling = critic.sampling(**self.run.settings)
        answers = critic.answer([(v, p.text) for p, v in ready], sampling, self.run.count)
        for (prompt, _), completions in zip(ready, answers, strict=True):
            if prompt.key not in self.done:
                yield {
                    "id": prompt.id,
                    "prompt": prompt.text,
                    "responses": [critic.text(c) for c in completions],
                    "model": critic.name,
                    "fingerprint": critic.fingerprint,
                    "sampling": {"n": self.run.count, **self.run.settings},
                }


def _pieces(prompts: Sequence[Prompt], count: int, most: int) -> Iterator[list[Prompt]]:
    """Some prompts at a time: those about the same pictures together, equal ones never apart."""
    units: dict[tuple[Any, str], list[Prompt]] = {}
    for prompt in by_key(prompts, lambda prompt: prompt.images):
        units.setdefault((prompt.images, prompt.text), []).append(prompt)
    pieces = chunks(
        list(units.values()), lambda unit: unit[0].images, lambda unit: len(unit) * count, most
    )
    for piece in pieces:
        yield [prompt for unit in piece for prompt in unit]


def _written(partial: Partial, output: Path, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The results of these prompts, once they stand in the output."""

    def write() -> list[dict[str, Any]]:
        results = partial.results([prompt.key for prompt in prompts], keep_others=False)
        write_json_lines(output, results)
        partial.finish()
        return results

    return on_first(write)


def _of_the_best(judge: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    judged, unparsed = (sum(one[name] for one in results) for name in ("judgments", "unparsed"))
    return {
        "judge": judge,
        "without_best": sum(one["state"] == "unparsed" for one in results),
        "judgments": judged,
        "unparsed_rate": unparsed / judged if judged else None,
    }


def _count(n: int | None, best_of: int | None, judge: str | None, temperature: float | None) -> int:
    """How many answers a prompt gets. Raises InputError for a wrong or contradictory wish."""
    if (best_of is None) != (judge is None):
        raise InputError("best-of and judge go together: --best-of N --judge M")
    if best_of is None:
        if n is not None and n < 1:
            raise InputError(f"n is {n}; it must be at least 1")
        return n or 1
    if n is not None:
        raise InputError("n and best-of exclude each other; --best-of N samples N answers")
    if best_of < 2:
        raise InputError(f"best-of is {best_of}; it must be at least 2")
    if temperature == 0:
        raise InputError("temperature is 0: all answers would be the same; it must be above 0")
    return best_of
