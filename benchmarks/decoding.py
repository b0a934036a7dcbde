"""How near decoding comes to the speed at which memory gives up weights, keys and values.

Every step needs each weight of the decoder's layers and of the head once, a trunk's keys and values
once, and each branch's own. Those bytes over the memory's speed are the least time it can take.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from critic_jax.models.build import Params, abstract, assemble, set_in
from critic_jax.models.config import ModelConfig, TowerConfig, onevision_7b
from critic_jax.sampling import engine as serving
from critic_jax.sampling import prefill as prefilling
from critic_jax.sampling import run as running
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.engine import Engine
from critic_jax.tree import Path, build, size, token_keys

# Bytes a second, as the makers state them.
STATED = {"H100": 3.35e12, "H200": 4.8e12, "A100-SXM4-80GB": 2.039e12}


@dataclass
class Spent:
    """Seconds of an engine's parts; `tower` is within `prefill`."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    steps: int = 0
    """Steps of decoding, each a token of every branch."""
    firsts: int = 0
    """Times that the head alone was needed, for the first tokens of branches."""


PARTS = ("tower", "prefill", "decode", "whole")


def watched(work: Callable[[], Any], picture_once: bool = False) -> tuple[Any, Spent]:
    """What `work` returns, and where the time of the engine that it uses went.

    picture_once: every prompt is about the first one's picture; the tower sees it once.
    """
    spent, kept = Spent(), []

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = jax.block_until_ready(function(*arguments))
            spent.seconds[part] += time.perf_counter() - began
            if part == "decode":
                spent.steps += int(result[0].steps)
                spent.firsts += bool(np.any(arguments[5].fresh))
            return result

        return call

    tower = timed("tower", prefilling._table)

    def table(*arguments: Any) -> Any:
        if not (kept and picture_once):
            kept[:] = [tower(*arguments)]
        return kept[0]

    with (
        patch.object(prefilling, "_table", table),
        patch.object(running, "prefill", timed("prefill", running.prefill)),
        patch.object(serving, "run", timed("decode", serving.run)),
    ):
        return timed("whole", work)(), spent


def bytes_read(engine: Engine, prompts: list[Path], spent: Spent, branches: int, new: int) -> float:
    """Bytes that the decoding of `prompts`, `branches` answers of `new` tokens at a time, needs."""
    decoder = engine.weights.around["decoder"]
    head = decoder["untied_head"] if "untied_head" in decoder else decoder["embedding"]
    layers = sum(x.nbytes for x in jax.tree.leaves(engine.weights.layers))
    trunk = size(build(token_keys(prompts), range(len(prompts))))
    held = (trunk + branches * (new - 1) / 2) * engine.place_bytes()
    head_bytes = sum(x.nbytes for x in jax.tree.leaves(head))
    return spent.steps * (layers + head_bytes + held) + spent.firsts * head_bytes


def memory_speed() -> dict[str, float]:
    """Bytes a second of the default device: read, copied (reads and writes), and as stated."""
    x = jnp.ones(2**28, jnp.float32)
    read = jax.jit(lambda x: x.reshape(64, -1).max(1))
    copy = jax.jit(lambda x: x + 1)
    found = {"read": x.nbytes / _least(read, x), "copy": 2 * x.nbytes / _least(copy, x)}
    kind = jax.devices()[0].device_kind
    for name, speed in STATED.items():
        if name in kind:
            found["stated"] = speed
    return found


def _least(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def decode_7b(branches: int, config: ModelConfig | None = None) -> dict[str, float]:
    """A decoder in bfloat16, by default that of 7B: a prompt of 2,929 tokens, `branches` answers of
    128."""
    config = config or ModelConfig(onevision_7b().decoder, TowerConfig(num_layers=1))
    dtype = jnp.dtype(jnp.bfloat16)
    engine = Engine(assemble(config, _random_params(config, dtype), dtype), (), branches)
    tokens = np.random.default_rng(0).integers(0, config.decoder.vocab_size, 2929).astype(np.int32)
    prompts, new = [Path(tokens, np.zeros(len(tokens), np.float32))], 128

    def work() -> Any:
        return engine.generate(prompts, Sampling(new), branches)

    work()
    _, spent = watched(work)
    return shares(bytes_read(engine, prompts, spent, branches, new), branches * new, spent)


def shares(needed: float, tokens: int, spent: Spent) -> dict[str, float]:
    """Tokens and needed bytes a second of decoding, and their share of the memory's speed."""
    seconds = spent.seconds["decode"]
    rates = {"tokens_per_s": tokens / seconds, "bytes_per_s": needed / seconds}
    speeds = memory_speed()
    rates |= {f"memory_{name}": speed for name, speed in speeds.items()}
    return rates | {f"share_of_{n}": needed / seconds / speed for n, speed in speeds.items()}


def _random_params(config: ModelConfig, dtype: jnp.dtype) -> Params:
    params: Params = {}
    _, state = abstract(config)
    draw = jax.jit(lambda key, shape: 0.02 * jax.random.normal(key, shape, dtype), static_argnums=1)
    for number, (path, variable) in enumerate(nnx.to_flat_state(state)):
        value = draw(jax.random.key(number), variable.get_value().shape)
        set_in(params, tuple(map(str, path)), value)
    return params
