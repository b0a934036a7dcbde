"""Any published benchmark by its name, with models that are loaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from critic_jax.errors import InputError
from critic_jax.evaluation.benchmarks.judge_run import judge_set
from critic_jax.evaluation.benchmarks.judge_sets import JUDGE_SETS
from critic_jax.evaluation.benchmarks.policy_run import policy_benchmark
from critic_jax.evaluation.statistics import Bootstrap
from critic_jax.judging.answer_file import generate_file
from critic_jax.judging.batch import judge_file, judgments_folder


def run_benchmark(
    name: str,
    data: Path,
    output: Path,
    judge: str | None = None,
    model: str | None = None,
    answers: Path | None = None,
    images: Path | None = None,
    order: Literal["given", "both"] = "given",
    limit: int | None = None,
    max_new_tokens: int = 1024,
    frames: int = 8,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Run a benchmark of a judge, or of the policy `model`; see `judge_set`, `policy_benchmark`.

    Raises InputError for options that don't suit the benchmark, and for wrong data.
    """
    bootstrap = Bootstrap(resamples, seed)
    if frames < 1:
        raise InputError(f"--frames is {frames}; it must be at least 1")

    def judging(questions: Path, results: Path) -> None:
        cache = judgments_folder(None, none=False)
        judge_file(str(judge), questions, results, order=order, cache=cache)

    if name in JUDGE_SETS:
        if model is not None or answers is not None:
            raise InputError(f"{name} is a benchmark of judges; leave --model and --answers out")
        used = judging if judge else None
        return judge_set(name, data, output, used, images, limit, bootstrap)
    if judge is None:
        raise InputError(f"{name} is a benchmark of policies; name who judges with --judge")
    if model is None:
        raise InputError(f"{name} is a benchmark of policies; name the one that answers: --model")
    if order != "given":
        raise InputError(f"{name} is asked in one order; leave --order out")

    def answering(prompts: Path, into: Path) -> None:
        generate_file(str(model), prompts, into, max_new_tokens=max_new_tokens)

    policy = Path(model).name if Path(model).exists() else model
    return policy_benchmark(
        name, data, output, policy, answers or answering, judging, images, limit, bootstrap, frames
    )
