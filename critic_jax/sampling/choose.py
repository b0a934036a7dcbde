"""How the next token is chosen from logits.

Letters: B rows, V vocabulary, A alternatives, L likeliest tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.errors import InputError

LIKELIEST = 20
"""Of how many tokens log-probabilities can be told, at most."""


@dataclass(frozen=True)
class Sampling:
    """Sampler settings. Temperature 0 is greedy; top_k 0 and top_p 1 leave nothing out.

    `repetition_penalty` divides the positive and multiplies the negative logits of tokens already
    generated (Keskar et al. 2019, arXiv 1909.05858); prompt tokens are not penalised. An answer
    ends before the first of the strings `stop`. `alternatives` are ids whose log-probabilities are
    wanted at each step, `likeliest` is of how many of the likeliest tokens they are.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    alternatives: tuple[int, ...] = ()
    likeliest: int = 0

    def __post_init__(self) -> None:
        rules = [
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "0 or more and finite"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0 and finite"),
            ("seed", 0 <= self.seed < 2**32, "0 or more and under 2**32"),
            ("stop", "" not in self.stop, "strings that are not empty"),
            ("alternatives", all(i >= 0 for i in self.alternatives), "token ids"),
            ("likeliest", 0 <= self.likeliest <= LIKELIEST, f"0 to {LIKELIEST}"),
        ]
        for name, holds, right in rules:
            if not holds:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {right}")


def dynamic(of: Sequence[Sampling]) -> dict[str, np.ndarray]:
    """The settings of B branches as arrays: changing one compiles nothing anew.

    Alternatives are filled up to a power of two, so that few of their numbers are compiled for;
    the likeliest tokens are worked out for all branches or for none.
    """
    most = max((len(one.alternatives) for one in of), default=0)
    width = 1 << (most - 1).bit_length() if most else 0
    likeliest = LIKELIEST if any(one.likeliest for one in of) else 0
    return {
        "temperature": np.asarray([one.temperature for one in of], np.float32),
        "top_p": np.asarray([one.top_p for one in of], np.float32),
        "top_k": np.asarray([one.top_k for one in of], np.int32),
        "penalty": np.asarray([one.repetition_penalty for one in of], np.float32),
        "seed": np.asarray([one.seed for one in of], np.uint32),
        "alternatives": np.asarray(
            [[*one.alternatives, *[0] * (width - len(one.alternatives))] for one in of], np.int32
        ).reshape(len(of), width),
        "likeliest": np.zeros(likeliest, np.int32),  # its length is what counts
    }


class Choice(NamedTuple):
    """Tokens of B rows, and log-probabilities under the model alone."""

    token: jax.Array  # int32 [B]
    logprob: jax.Array  # float32 [B]
    alternatives: jax.Array  # float32 [B, A]
    likeliest: jax.Array  # int32 [B, L], the likeliest first
    of_likeliest: jax.Array  # float32 [B, L]


def choose(
    logits: jax.Array,
    seen: jax.Array,
    keys: jax.Array,
    sampling: dict[str, jax.Array],
    allowed: jax.Array | None = None,
) -> Choice:
    """The next tokens, by settings as `dynamic` gives them.

    logits float32 [B, V]; seen bool [B, V], tokens already generated; keys [B]; allowed bool
    [B, V]. Log-probabilities are the model's: before penalty, temperature, cuts and `allowed`.
    """
    penalty = sampling["penalty"][:, None]
    penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
    adjusted = jnp.where(seen, penalised, logits)
    if allowed is not None:
        adjusted = jnp.where(allowed, adjusted, -jnp.inf)
    greedy = jnp.argmax(adjusted, axis=-1).astype(jnp.int32)
    drawn = sampling["temperature"] > 0
    token = jax.lax.cond(
        jnp.any(drawn),
        lambda: jnp.where(drawn, sample(adjusted, keys, sampling), greedy),
        lambda: greedy,
    )
    norm = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    picked = jnp.take_along_axis(logits, token[:, None], axis=-1)
    alternatives = jnp.take_along_axis(logits, sampling["alternatives"], axis=-1)
    best, likeliest = jax.lax.top_k(logits, len(sampling["likeliest"]))
    return Choice(token, (picked - norm)[:, 0], alternatives - norm, likeliest, best - norm)


def sample(logits: jax.Array, keys: jax.Array, sampling: dict[str, jax.Array]) -> jax.Array:
    """Draw from softmax(logits / temperature) after top-k, then top-p; rows of temperature 0 give
    anything.

    top-p keeps the smallest set of tokens of that mass. Tokens as likely as the last one that
    either keeps are kept too.
    """
    temperature = sampling["temperature"]
    scaled = logits / jnp.where(temperature > 0, temperature, 1)[:, None]
    top_k, top_p = sampling["top_k"][:, None], sampling["top_p"][:, None]
    fewer = jax.lax.cond(jnp.any(top_k > 0), lambda x: _likeliest(x, top_k), lambda x: x, scaled)
    scaled = jnp.where(top_k > 0, fewer, scaled)
    fewer = jax.lax.cond(jnp.any(top_p < 1), lambda x: _nucleus(x, top_p), lambda x: x, scaled)
    scaled = jnp.where(top_p < 1, fewer, scaled)
    return jax.vmap(jax.random.categorical)(keys, scaled).astype(jnp.int32)


def _likeliest(logits: jax.Array, top_k: jax.Array) -> jax.Array:
    wanted = jnp.minimum(top_k, logits.shape[-1])
    return _cut(logits, lambda kept: kept.sum(-1) >= wanted[:, 0])


def _nucleus(logits: jax.Array, top_p: jax.Array) -> jax.Array:
    probability = jax.nn.softmax(logits, axis=-1)
    return _cut(logits, lambda kept: jnp.where(kept, probability, 0).sum(-1) >= top_p[:, 0])


def _cut(logits: jax.Array, enough: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """logits [B, V] with -inf at all but the fewest likeliest of each row that are `enough`.

    The least logit that is kept is found bit by bit: that spares sorting the vocabulary.
    """
    bits = jax.lax.bitcast_convert_type(logits.astype(jnp.float32), jnp.uint32)
    # Unsigned numbers in the order of the logits.
    sign = jnp.uint32(1 << 31)
    ranked = jnp.where(bits >= sign, ~bits, bits | sign)

    def step(i: jax.Array, least: jax.Array) -> jax.Array:
        tried = least | (sign >> i.astype(jnp.uint32))
        return jnp.where(enough(ranked >= tried[:, None]), tried, least)

    least = jax.lax.fori_loop(0, 32, step, jnp.zeros(len(logits), jnp.uint32))
    return jnp.where(ranked >= least[:, None], logits, -jnp.inf)
