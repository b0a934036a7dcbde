"""What of a model is trained, at which rate, and how the rest is held."""

from __future__ import annotations

import math
from dataclasses import dataclass

from critic_jax.errors import InputError
from critic_jax.models.build import Params
from critic_jax.models.lora import ADAPTABLE, Lora
from critic_jax.training.config import TrainConfig

Path = tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """Rates of the three parts (0: frozen), and adapters.

    `dtype`: of what is frozen. `quantized`: frozen kernels of the decoder's layers are held in four
    bits.
    """

    tower: float = 1.0
    projector: float = 1.0
    decoder: float = 1.0
    lora: Lora | None = None
    quantized: bool = False
    dtype: str = "float32"

    def rate(self, path: Path) -> float:
        """What the learning rate of a parameter is multiplied by; 0 where it is frozen.

        Adapters learn at the rate itself; a kernel that has one is frozen.
        """
        if "adapter" in path:
            return 1.0
        if self.lora is not None and path[-1] == "kernel" and self.lora.adapts(path[:-1]):
            return 0.0
        parts = {"tower": self.tower, "projector": self.projector, "decoder": self.decoder}
        return parts["projector" if path[0] == "newline" else path[0]]

    def in_four_bits(self, path: Path) -> bool:
        """Whether a parameter is held in four bits."""
        layer = path[:2] == ("decoder", "layers") and path[-1] == "kernel"
        return self.quantized and layer and not self.rate(path)

    def split(self, params: Params) -> tuple[Params, Params]:
        """(what is trained, what is frozen) of a nested dict, without empty branches."""
        return _split(params, self, ())


FULL = Tuning()


def _split(tree: Params, tuning: Tuning, above: Path) -> tuple[Params, Params]:
    sides: tuple[Params, Params] = {}, {}
    for name, value in tree.items():
        path = (*above, name)
        if not isinstance(value, dict):
            sides[0 if tuning.rate(path) else 1][name] = value
            continue
        for side, found in zip(sides, _split(value, tuning, path), strict=True):
            if found:
                side[name] = found
    return sides


def joined(a: Params, b: Params) -> Params:
    """Two nested dicts as one; they share no leaf."""
    both = {n: joined(a[n], b[n]) for n in a.keys() & b.keys()}
    return {**a, **b, **both}


def tuning_of(config: TrainConfig) -> Tuning:
    """What a config asks for. Raises InputError for rates and adapters that make no sense."""
    default = 1.0 if config.adapters == "none" else 0.0
    rates = {}
    for part in ("tower", "projector", "decoder"):
        given = getattr(config, f"{part}_rate")
        if given is not None and not 0 <= given < math.inf:
            raise InputError(f"{part}_rate {given}: it should be 0 (frozen) or above")
        rates[part] = default if given is None else given
    lora = None if config.adapters == "none" else _lora(config)
    if lora is None and not any(rates.values()):
        raise InputError("tower_rate, projector_rate and decoder_rate are all 0: nothing to train")
    return Tuning(**rates, lora=lora, quantized=config.adapters == "qlora", dtype=config.dtype)


def _lora(config: TrainConfig) -> Lora:
    if config.lora_rank < 1:
        raise InputError(f"lora_rank {config.lora_rank}: it should be 1 or more")
    if not 0 < config.lora_alpha < math.inf:
        raise InputError(f"lora_alpha {config.lora_alpha}: it should be above 0")
    for pattern in config.lora_layers or ("",):
        if not Lora(1, 1.0, (pattern,)).names():
            raise InputError(f"lora_layers {pattern!r} fits none of {', '.join(ADAPTABLE)}")
    return Lora(config.lora_rank, config.lora_alpha, config.lora_layers)
