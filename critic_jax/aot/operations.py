"""Floating-point operations of a traced function: its matrix products, loops as often as they run.

The compiler's own count takes a loop's body once. A product counts two operations for each pair of
numbers that it multiplies; a kernel counts what its author says that it costs. Nothing else counts.
A loop whose turns depend on the data counts for one.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.extend import core


def operations(jaxpr: core.Jaxpr, platform: str) -> int:
    """Of all devices together, for a program that is compiled for `platform`."""
    return sum(_of(equation, platform) for equation in jaxpr.eqns)


def _of(equation: Any, platform: str) -> int:
    params, name = equation.params, equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        return 2 * equation.outvars[0].aval.size * math.prod(kernel) // kernel[out[0]]
    if name == "pallas_call":
        return params["cost_estimate"].flops if params["cost_estimate"] else 0
    inner = [operations(_open(j), platform) for j in jax.tree.leaves(_jaxprs(params))]
    if name == "cond":
        if params.get("branches_platforms"):
            return inner[_branch(params["branches_platforms"], platform)]
        return max(inner)
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "shard_map":
        return params["mesh"].size * sum(inner)
    return sum(inner)


def _branch(platforms: Any, platform: str) -> int:
    """Which branch is chosen; the one for None is the rest's."""
    named = [n for n, names in enumerate(platforms) if names and platform in names]
    return named[0] if named else next(n for n, names in enumerate(platforms) if names is None)


def _jaxprs(params: dict[str, Any]) -> list[Any]:
    """The functions that an equation calls."""
    kinds = (core.Jaxpr, core.ClosedJaxpr)
    found: list[Any] = []
    for value in params.values():
        items = value if isinstance(value, tuple | list) else [value]
        found += [item for item in items if isinstance(item, kinds)]
    return found


def _open(jaxpr: Any) -> core.Jaxpr:
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
