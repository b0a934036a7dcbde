"""How the next token is chosen from logits. Letters: B rows, V vocabulary, A alternatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """Sampler settings. Temperature 0 is greedy; top_k 0 and top_p 1 leave nothing out.

    `repetition_penalty` divides the positive and multiplies the negative logits of tokens already
    generated (Keskar et al. 2019, arXiv 1909.05858); prompt tokens are not penalised. An answer
    ends before the first of the strings `stop`. `alternatives` are ids whose log-probabilities are
    wanted at each step.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    alternatives: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rules = [
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("seed", 0 <= self.seed < 2**32, "0 or more and under 2**32"),
            ("stop", "" not in self.stop, "strings that are not empty"),
            ("alternatives", all(i >= 0 for i in self.alternatives), "token ids"),
        ]
        for name, holds, right in rules:
            if not holds:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {right}")

    def dynamic(self) -> dict[str, np.ndarray]:
        """The settings as arrays: changing one compiles nothing anew.

        Alternatives are filled up to a power of two, so that few of their numbers are compiled for.
        """
        asked = len(self.alternatives)
        filled = (1 << (asked - 1).bit_length()) - asked if asked else 0
        return {
            "temperature": np.asarray(self.temperature, np.float32),
            "top_p": np.asarray(self.top_p, np.float32),
            "top_k": np.asarray(self.top_k, np.int32),
            "penalty": np.asarray(self.repetition_penalty, np.float32),
            "seed": np.asarray(self.seed, np.uint32),
            "alternatives": np.asarray([*self.alternatives, *[0] * filled], np.int32),
        }


def choose(
    logits: jax.Array,
    seen: jax.Array,
    keys: jax.Array,
    sampling: dict[str, jax.Array],
    allowed: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Next tokens [B], and log-probabilities [B] of them and [B, A] of the alternatives.

    logits float32 [B, V]; seen bool [B, V], tokens already generated; keys [B]; allowed bool
    [B, V]. Log-probabilities are the model's: before penalty, temperature, cuts and `allowed`.
    """
    penalty = sampling["penalty"]
    penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
    adjusted = jnp.where(seen, penalised, logits)
    if allowed is not None:
        adjusted = jnp.where(allowed, adjusted, -jnp.inf)
    token = jax.lax.cond(
        sampling["temperature"] > 0,
        lambda: sample(adjusted, keys, sampling),
        lambda: jnp.argmax(adjusted, axis=-1).astype(jnp.int32),
    )
    norm = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    picked = jnp.take_along_axis(logits, token[:, None], axis=-1)
    alternatives = jnp.take(logits, sampling["alternatives"], axis=-1)
    return token, (picked - norm)[:, 0], alternatives - norm


def sample(logits: jax.Array, keys: jax.Array, sampling: dict[str, jax.Array]) -> jax.Array:
    """Draw from softmax(logits / temperature) after top-k, then top-p.

    top-p keeps the smallest set of tokens of that mass. Tokens as likely as the last one that
    either keeps are kept too.
    """
    scaled = logits / sampling["temperature"]
    top_k, top_p = sampling["top_k"], sampling["top_p"]
    scaled = jax.lax.cond(top_k > 0, lambda x: _likeliest(x, top_k), lambda x: x, scaled)
    scaled = jax.lax.cond(top_p < 1, lambda x: _nucleus(x, top_p), lambda x: x, scaled)
    return jax.vmap(jax.random.categorical)(keys, scaled).astype(jnp.int32)


def _likeliest(logits: jax.Array, top_k: jax.Array) -> jax.Array:
    wanted = jnp.minimum(top_k, logits.shape[-1])
    return _cut(logits, lambda kept: kept.sum(-1) >= wanted)


def _nucleus(logits: jax.Array, top_p: jax.Array) -> jax.Array:
    probability = jax.nn.softmax(logits, axis=-1)
    return _cut(logits, lambda kept: jnp.where(kept, probability, 0).sum(-1) >= top_p)


def _cut(logits: jax.Array, enough: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """logits [B, V] with -inf at all but the fewest likeliest of each row that are `enough`.

    The least logit that is kept is found bit by bit: the rows of a large vocabulary take a tenth of
    the time that sorting them takes.
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
