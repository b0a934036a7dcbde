"""The learning rate at steps worked out by hand."""

import math
from typing import Any

import pytest

from critic_jax.training.config import TrainConfig
from critic_jax.training.optimizer import schedule


def rate(step: int, steps: int, **fields: Any) -> float:
    config = TrainConfig(init="", data="", output="", **{"learning_rate": 1.0} | fields)
    return float(schedule(config, steps)(step))


def test_warm_up_is_linear_from_zero() -> None:
    # 3 % of 100 steps.
    assert [rate(s, 100) for s in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert rate(5, 40, warmup_ratio=0.25, learning_rate=4e-6) == pytest.approx(2e-6)


def test_then_a_cosine_falls_to_zero() -> None:
    def after(step: int) -> float:
        return rate(step, 40, warmup_ratio=0.25)  # 10 steps up, 30 down

    assert after(10) == pytest.approx(1)
    assert after(20) == pytest.approx(0.75)  # a third of the way down: cos 60° = 1/2
    assert after(25) == pytest.approx(0.5)
    assert after(30) == pytest.approx(0.25)
    assert after(39) == pytest.approx((1 + math.cos(29 / 30 * math.pi)) / 2, abs=1e-6)
    assert after(40) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_run_of_few_steps_has_a_schedule_too(steps: int) -> None:
    assert rate(0, steps, warmup_ratio=0.0) == 0
    assert rate(1, steps, warmup_ratio=0.0) == pytest.approx(1)
