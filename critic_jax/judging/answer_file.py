"""Answer a file of prompts: JSONL in, n answers a line out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from critic_jax.checkpoints import model_name
from critic_jax.errors import InputError
from critic_jax.files import write_json_lines
from critic_jax.imaging import Visual
from critic_jax.judging.best import Candidates, choose_best
from critic_jax.judging.chunks import by_key, chunks
from critic_jax.judging.critic import Critic
from critic_jax.judging.partial import Partial
from critic_jax.judging.prompts import Prompt, read_prompts, reject
from critic_jax.progress import progress
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.weights import WeightFormat

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
) -> dict[str, Any]:
    """Answer each line (see `read_prompts`) into `output`, or onto stdout.

    A result line holds `id`, `prompt`, `responses` [n], `model` and `sampling`. With `best_of`, as
    many answers are sampled (as LLaVA-Critic does, at temperature 0.7 and top_p 0.9, unless others
    are given), the model `judge` ranks them, and the line holds the fields of `choose_best` too.
    While it works, results stand in `output` + ".partial", and answers that are not ranked yet in
    `output` + ".answers.partial"; a later call goes on from there. A wrong line raises InputError,
    or with `skip_bad` goes to rejected.jsonl beside the output (beside the input if there is none).
    memory: bytes, and weights, as `Engine` takes them, for either model.
    """
    count = _count(n, best_of, judge, temperature)
    prompts, rejected = read_prompts(input, skip_bad)
    settings: dict[str, Any] = {
        "temperature": temperature if temperature is not None else 0.7 if best_of else 0.0,
        "top_p": top_p if top_p is not None else 0.9 if best_of else 1.0,
        "top_k": top_k,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    with TemporaryDirectory() as scratch:
        file = output or Path(scratch) / "answers.jsonl"
        held = {"memory": memory, "weights": weights}
        run = _Run(model, repetition_penalty, held, settings, count, skip_bad, rejected)
        if judge is None:
            results = run.answer(file, prompts)
        else:
            results = run.answer_and_rank(file, prompts, judge)
    if output is None:
        for result in results:
            print(json.dumps(result, ensure_ascii=False))
    if rejected:
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
    """How the engine of either model holds things: `memory` and `weights`."""
    settings: dict[str, Any]
    count: int
    skip_bad: bool
    rejected: list[dict[str, Any]]
    _critic: Critic | None = None

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
            waiting = [prompt for prompt in prompts if prompt.key not in ranked.done]
            with self._partial(output.with_name(f"{output.name}.answers"), None) as partial:
                self._answer(partial, waiting)
            answered = partial.results([prompt.key for prompt in waiting], keep_others=False)
            if answered:
                critic = self._judge(judge)
                ranked.check_fingerprint(critic.fingerprint, "judge_fingerprint")
                of_id = {prompt.id: prompt for prompt in waiting}
                candidates = [
                    Candidates(of_id[r["id"]].images, r["prompt"], tuple(r["responses"]))
                    for r in answered
                ]
                chosen = choose_best(critic, candidates)
                for result, fields in zip(answered, chosen, strict=True):
                    ranked.write(result | fields)
                ranked.sync()
        results = _written(ranked, output, prompts)
        partial.finish()
        return results

    def _partial(self, output: Path, judge: str | None) -> Partial:
        how = {"sampling": {"n": self.count, **self.settings}, "judge": judge}
        return Partial(output, model_name(self.model), how, "answer")

    def _judge(self, judge: str) -> Critic:
        critic, self._critic = self._critic, None
        if critic is not None and judge == self.model and self.repetition_penalty is None:
            return critic
        del critic  # before another takes its place in memory
        return Critic.load(judge, **self.held)

    def _answer(self, partial: Partial, prompts: Sequence[Prompt]) -> None:
        if all(prompt.key in partial.done for prompt in prompts):
            return
        penalty = self.repetition_penalty
        critic = Critic.load(self.model, repetition_penalty=penalty, **self.held)
        self._critic = critic
        partial.check_fingerprint(critic.fingerprint)
        sampling = critic.sampling(**self.settings)
        with progress() as bar:
            done = sum(prompt.key in partial.done for prompt in prompts)
            total = len(prompts) * self.count
            task = bar.add_task("answering", total=total, completed=done * self.count)
            critic.engine.watch = lambda count: bar.advance(task, count)
            for group in _pieces(prompts, self.count):
                self._answer_some(critic, sampling, partial, group)
                partial.sync()

    def _answer_some(
        self, critic: Critic, sampling: Sampling, partial: Partial, prompts: Sequence[Prompt]
    ) -> None:
        """Answer a piece of the file; if some of it is missing the whole of it, since what is drawn
        for one of several equal prompts depends on how many stand before it."""
        if all(prompt.key in partial.done for prompt in prompts):
            return
        ready: list[tuple[Prompt, tuple[Visual, ...]]] = []
        for prompt in prompts:
            try:
                visuals = critic.visuals(list(prompt.images) or None, "field 'image'")
                ready.append((prompt, visuals))
            except InputError as e:
                reason = f"{prompt.where}: {e}"
                reject(self.rejected, prompt.line, prompt.id, reason, self.skip_bad)
        if all(prompt.key in partial.done for prompt, _ in ready):
            return
        answers = critic.answer([(v, p.text) for p, v in ready], sampling, self.count)
        for (prompt, _), completions in zip(ready, answers, strict=True):
            if prompt.key not in partial.done:
                partial.write(
                    {
                        "id": prompt.id,
                        "prompt": prompt.text,
                        "responses": [critic.text(c) for c in completions],
                        "model": critic.name,
                        "fingerprint": critic.fingerprint,
                        "sampling": {"n": self.count, **self.settings},
                    }
                )


def _pieces(prompts: Sequence[Prompt], count: int) -> Iterator[list[Prompt]]:
    """Some prompts at a time: those about the same pictures together, equal ones never apart."""
    units: dict[tuple[Any, str], list[Prompt]] = {}
    for prompt in by_key(prompts, lambda prompt: prompt.images):
        units.setdefault((prompt.images, prompt.text), []).append(prompt)
    pieces = chunks(
        list(units.values()), lambda unit: unit[0].images, lambda unit: len(unit) * count, CHUNK
    )
    for piece in pieces:
        yield [prompt for unit in piece for prompt in unit]


def _written(partial: Partial, output: Path, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The results of these prompts, once they stand in the output."""
    results = partial.results([prompt.key for prompt in prompts], keep_others=False)
    write_json_lines(output, results)
    partial.finish()
    return results


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
