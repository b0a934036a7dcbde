"""How the next token is chosen from logits. Letters: B rows, V vocabulary."""

from __future__ import annotations

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
        """The settings as array scalars: changing one compiles nothing anew."""
        return {
            "temperature": np.asarray(self.temperature, np.float32),
            "top_p": np.asarray(self.top_p, np.float32),
            "top_k": np.asarray(self.top_k, np.int32),
            "penalty": np.asarray(self.repetition_penalty, np.float32),
            "seed": np.asarray(self.seed, np.uint32),
        }


def choose(
    logits: jax.Array, seen: jax.Array, keys: jax.Array, sampling: dict[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Next tokens [B] and their log-probabilities [B] under the model, before temperature and cuts.

    logits float32 [B, V]; seen bool [B, V], tokens already generated; keys [B].
    """
    penalty = sampling["penalty"]
    penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
    adjusted = jnp.where(seen, penalised, logits)
    token = jax.lax.cond(
        sampling["temperature"] > 0,
        lambda: sample(adjusted, keys, sampling),
        lambda: jnp.argmax(adjusted, axis=-1).astype(jnp.int32),
    )
    picked = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0]
    return token, picked - jax.nn.logsumexp(logits, axis=-1)


def sample(logits: jax.Array, keys: jax.Array, sampling: dict[str, jax.Array]) -> jax.Array:
    """Draw from softmax(logits / temperature) after top-k, then top-p.

    top-p keeps the smallest set of tokens of that mass.
    """
    order = jnp.argsort(-logits, axis=-1)
    ranked = jnp.take_along_axis(logits, order, axis=-1) / sampling["temperature"]
    rank = jnp.arange(logits.shape[-1])
    ranked = jnp.where((sampling["top_k"] > 0) & (rank >= sampling["top_k"]), -jnp.inf, ranked)
    probability = jax.nn.softmax(ranked, axis=-1)
    before = jnp.cumsum(probability, axis=-1) - probability
    # With top_p 1 nothing is cut, whatever the rounding of the running sum.
    keep = (before < sampling["top_p"]) | (sampling["top_p"] >= 1)
    ranked = jnp.where(keep, ranked, -jnp.inf)
    pick = jax.vmap(jax.random.categorical)(keys, ranked)
    return jnp.take_along_axis(order, pick[:, None], axis=-1)[:, 0].astype(jnp.int32)
