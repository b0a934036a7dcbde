"""The sizes of the released models, and the names of every parameter's axes."""

import math

import jax
import pytest
from flax import nnx

from critic_jax.checkpoints.blocks import shapes
from critic_jax.checkpoints.weights import weights
from critic_jax.models.build import abstract
from critic_jax.models.config import PRESETS
from critic_jax.sharding import RULES

AXES = {*RULES, "layers", "head_dim", "patch", "position", None}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("0.5b", 893_618_208), ("7b", 8_030_348_832), ("72b", 73_180_522_016)],
)
def test_a_preset_has_the_released_models_parameters(name: str, parameters: int) -> None:
    found = shapes(PRESETS[name]())
    assert sum(map(math.prod, found.values())) == parameters
    assert {w.path for w in weights(PRESETS[name]())} == set(found)


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_has_a_name_for_each_axis(name: str) -> None:
    _, state = abstract(PRESETS[name]())
    flat = list(nnx.to_flat_state(state))
    assert len(flat) == len(jax.tree.leaves(nnx.to_pure_dict(state)))
    for path, variable in flat:
        axes = variable.get_metadata()["out_sharding"]
        assert len(axes) == len(variable.shape), path
        assert set(axes) <= AXES, path
        assert ("layers" in path) == ("layers" in axes), path
        sharded = [RULES[axis] for axis in axes if axis in RULES]
        assert len(sharded) == len(set(sharded)), path
