"""The first stage of a round: K answers to each prompt, sampled from the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from critic_jax.errors import InputError
from critic_jax.judging.answer_file import generate_file
from critic_jax.sampling.weights import SamplingDtype


def rollout_file(
    model: str,
    input: Path,
    output: Path,
    n: int = 5,
    temperature: float = 0.7,
    top_p: float = 0.9,
    max_new_tokens: int = 512,
    seed: int = 0,
    memory: int | None = None,
    dtype: SamplingDtype | None = None,
    devices: int = 0,
) -> dict[str, Any]:
    """Sample `n` answers to each prompt of `input` (`prompts.read_prompts`) into `output`.

    The lines are those of `generate_file`, and so are `memory`, `dtype`, `devices` and what several
    processes do; a call that was killed goes on from there. By default as
    LLaVA-Critic has it: five answers at temperature 0.7 and top_p 0.9. Raises InputError for
    settings with which there is nothing to choose from.
    """
    if n < 2:
        raise InputError(f"n is {n}; it must be at least 2, for there to be a better answer")
    if not temperature > 0:
        raise InputError(
            f"temperature is {temperature}: all answers would be the same; it must be above 0"
        )
    return generate_file(
        model,
        input,
        output,
        n,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
        memory=memory,
        dtype=dtype,
        devices=devices,
    )
