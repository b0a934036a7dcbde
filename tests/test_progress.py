"""The bar of long work: what it tells of its speed."""

import pytest
from rich.progress import Progress

from critic_jax.progress import Rate


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.125, "16.0/s"), (2.0, "1.0/s"), (8.0, "15.0/min")]
)
def test_the_rate_is_a_second_or_a_minute(seconds: float, shown: str) -> None:
    now = 0.0
    bar = Progress(disable=True, get_time=lambda: now)
    task = bar.add_task("judging", total=100)
    assert Rate().render(bar.tasks[0]).plain == ""
    for _ in range(5):
        now += seconds
        bar.advance(task, 2)
    assert Rate().render(bar.tasks[0]).plain == shown
