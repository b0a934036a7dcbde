"""How fast a run is: tokens a second, share of the chips' peak, share of the time that counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp

from critic_jax.data.rows import Holding
from critic_jax.flops import Costs
from critic_jax.models.config import ModelConfig

PEAKS: dict[str, tuple[float, int]] = {
    "TPU v4": (275e12, 2),
    "TPU v5 lite": (197e12, 1),
    "TPU v5e": (197e12, 1),
    "TPU v5": (459e12, 2),
    "TPU v5p": (459e12, 2),
    "TPU v6 lite": (918e12, 1),
    "TPU v6e": (918e12, 1),
    "TPU7x": (2307e12, 2),
    "NVIDIA H100 80GB HBM3": (989e12, 1),
    "NVIDIA H200": (989e12, 1),
}
"""By JAX's `device_kind`: dense bfloat16 operations a second of a chip, as its vendor states them,
and the chip's cores. A v7x chip is two devices to JAX, one core each; v4 and v5p chips are one
device of two cores, or two devices where their cores are not joined."""


def peak(devices: Iterable[jax.Device]) -> float | None:
    """Operations a second of all devices together; None where a kind is not in the table."""
    total = 0.0
    for device in devices:
        if device.device_kind not in PEAKS:
            return None
        operations, cores = PEAKS[device.device_kind]
        total += operations * getattr(device, "num_cores", cores) / cores
    return total


def costs(config: ModelConfig) -> Costs:
    """What slots of this model cost; letters as in `critic_jax.models.config`."""
    d, t = config.decoder, config.tower
    heads = d.num_heads * d.head_dim
    attention = d.hidden_size * (2 * heads + 2 * d.num_kv_heads * d.head_dim)
    decoder = d.num_layers * (attention + 3 * d.hidden_size * d.ffn_size)
    layer = 4 * t.hidden_size**2 + 2 * t.hidden_size * t.ffn_size
    first = 3 * t.patch_size**2 * t.hidden_size
    projector = t.hidden_size * d.hidden_size + d.hidden_size**2
    return Costs(
        decoder=decoder,
        tower=first + t.num_layers * layer + projector,
        patches=t.patches,
        head=d.vocab_size * d.hidden_size,
        decoder_pair=d.num_layers * heads,
        tower_pair=t.num_layers * t.hidden_size,
    )


@jax.jit
def attended(visible_until: jax.Array, weights: jax.Array) -> jax.Array:
    """[2]: pairs of slots that see each other in rows [B, S], and supervised slots.

    In float32, exact to seven digits: 32 rows of 16,384 tokens have more pairs than int32 counts.
    """
    index = jnp.arange(visible_until.shape[-1])
    pairs = jnp.sum((visible_until - index).astype(jnp.float32))
    return jnp.stack([pairs, jnp.sum((weights != 0).astype(jnp.float32))])


class Meter:
    """Times a run's steps.

    A step's time runs from the result before to its own. What comes between the two and is no
    training (saving, validation) is left out with `pause`, and so is the first step of every start,
    with which compiling comes: it has no rates.

    productive: seconds of the steps that led to the state at hand, of all starts together; one that
        was taken but lost to a kill is not among them.
    """

    def __init__(
        self, costs: Costs, slots: int, peak: float | None, began: float, productive: float
    ) -> None:
        """slots: of a step's rows. began: `time.time()` when the run first started."""
        self._costs, self._slots, self._peak = costs, slots, peak
        self._began, self.productive = began, productive
        self._since: float | None = None

    def pause(self) -> None:
        """The next step's time runs from now; called when no step is under way."""
        if self._since is not None:
            self._since = time.perf_counter()

    def step(self, holding: Holding, pairs: float, supervised: float) -> Mapping[str, float]:
        """Call when a step's result is here: its rates, and the goodput of the run so far.

        pairs: of all slots, as `attended` counts them; those of empty slots are taken off.
        """
        now = time.perf_counter()
        rates: dict[str, float] = {}
        if self._since is not None:
            seconds = max(now - self._since, 1e-9)
            self.productive += seconds
            rates["tokens_per_second"] = round(holding.tokens / seconds, 1)
            rates["useful_tokens_per_second"] = round(holding.useful_tokens / seconds, 1)
            if self._peak:
                seen = pairs - (self._slots - holding.tokens)
                done = self._costs.training(holding.tokens, holding.tiles, supervised, seen)
                rates["mfu"] = round(done / seconds / self._peak, 4)
        self._since = now
        wall = max(time.time() - self._began, self.productive)
        rates["goodput"] = round(self.productive / wall, 4) if wall else 0.0
        return rates
