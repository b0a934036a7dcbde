"""Values of a config that make sense by themselves, whatever data, model and machine are."""

from __future__ import annotations

import contextlib
import math
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from critic_jax.errors import InputError

LEAST = {
    **dict.fromkeys(("global_batch", "rows", "row_tokens", "epochs", "accumulate"), 1),
    **dict.fromkeys(("save_every", "keep_states", "data_parallel", "tensor"), 1),
    **dict.fromkeys(("row_tiles", "fsdp", "loader_workers", "validation_judged"), 0),
    **dict.fromkeys(("learning_rate", "weight_decay"), 0),
    **{"rounds": 1, "compared": 0, "answers": 2, "max_new_tokens": 1},
}
"""The least value of a field; above it any finite one will do."""

KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def check_values(config: Any) -> None:
    """Raises InputError for the first field of a config whose value makes no sense."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if (right := _kind_fault(value, hints[field.name])) is None:
            right = _range_fault(field.name, value)
        if right is not None:
            said = repr(value) if isinstance(value, str) else value
            raise InputError(f"{field.name} {said}: it should be {right}")


def word_fault(word: str, hint: Any) -> str | None:
    """What a word of the command line should be, where it is no value of a field's type."""
    if type(None) in get_args(hint) and word == "None":
        return None
    kind = _kind(hint)
    if kind in (int, float):
        with contextlib.suppress(ValueError):
            kind(word)
            return None
        return KINDS[kind]
    if kind is bool:
        return None if word in ("True", "False") else KINDS[bool]
    return _kind_fault(word, hint) if kind is Literal else None


def _kind_fault(value: Any, hint: Any) -> str | None:
    """What a value should be, where it is of another kind than its field's."""
    if type(None) in get_args(hint) and value is None:
        return None
    kind = _kind(hint)
    if kind is Literal:
        choices = get_args(hint)
        return None if value in choices else f"one of {', '.join(choices)}"
    if kind is tuple:
        return None if isinstance(value, tuple) else "a tuple, such as ('decoder.*',)"
    allowed = (int, float) if kind is float else kind
    right = isinstance(value, allowed) and isinstance(value, bool) == (kind is bool)
    return None if right else KINDS[kind]


def _kind(hint: Any) -> Any:
    """Literal, tuple, or a plain type, which may be that of a field that can be None."""
    if type(None) in get_args(hint):
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    return get_origin(hint) or hint


def _range_fault(name: str, value: Any) -> str | None:
    """What a value should be, where it is out of its field's range."""
    if name in LEAST:
        if value == math.inf:
            return "finite"
        return None if value >= LEAST[name] else f"{LEAST[name]} or more"
    rules = {
        "warmup_ratio": (lambda: 0 <= value <= 1, "0 to 1"),
        "beta2": (lambda: 0 <= value < 1, "0 to below 1"),
        "clip_norm": (lambda: value > 0, "above 0"),
        "seed": (lambda: 0 <= value < 2**32, "0 or more and below 2**32"),
        "validation": (lambda: 0 <= value < 1, "0 to below 1"),
        "temperature": (lambda: 0 < value < math.inf, "above 0: else all answers are the same"),
        "top_p": (lambda: 0 < value <= 1, "above 0 and at most 1"),
    }
    holds, right = rules.get(name, (lambda: True, ""))
    return None if holds() else right
