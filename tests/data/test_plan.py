"""The packing plan: what a step holds, and that it depends on nothing but sizes and seed."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from critic_jax.data.plan import Budget, Group, Plan, Step
from critic_jax.errors import InputError


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Group], Budget]:
    """Groups that fit the rows and mostly the steps, and the budget they fit."""
    budget = Budget(
        records=draw(st.integers(1, 12)),
        rows=draw(st.integers(1, 4)),
        tokens=draw(st.integers(1, 100)),
        tiles=draw(st.integers(0, 8)),
    )
    groups: list[Group] = []
    first = 0
    for _ in range(draw(st.integers(1, 30))):
        count = draw(st.integers(1, 5))
        tokens = draw(st.integers(1, budget.tokens))
        tiles = draw(st.integers(0, budget.tiles))
        groups.append(Group(tuple(range(first, first + count)), tokens, tiles))
        first += count
    return groups, budget


def many() -> list[Group]:
    """A hundred groups of one to three records."""
    return [Group(tuple(range(3 * n, 3 * n + 1 + n % 3)), 5 + n % 7, n % 3) for n in range(100)]


BUDGET = Budget(records=8, rows=3, tokens=20, tiles=3)


def records_in(groups: list[Group], step: Step) -> list[int]:
    return [member for row in step for group in row for member in groups[group].members]


@settings(max_examples=150, deadline=None)
@given(plan=plans(), seed=st.integers(0, 2**32 - 1))
def test_an_epoch_holds_every_group_once_within_the_budget(
    plan: tuple[list[Group], Budget], seed: int
) -> None:
    groups, budget = plan
    steps = Plan(groups, budget, seed).epoch(0)
    assert sorted(g for step in steps for row in step for g in row) == list(range(len(groups)))
    for step in steps:
        assert len(step) == budget.rows
        assert any(step)
        for row in step:
            assert sum(groups[g].tokens for g in row) <= budget.tokens
            assert sum(groups[g].tiles for g in row) <= budget.tiles
        # Only a group that is larger than a step on its own goes beyond it, and then alone.
        held = len(records_in(groups, step))
        assert held <= budget.records or sum(map(len, step)) == 1


def test_steps_are_full_where_rows_have_room() -> None:
    groups = [Group((n,), 1, 0) for n in range(20)]
    steps = Plan(groups, Budget(records=8, rows=2, tokens=10, tiles=0), 0).epoch(0)
    assert [len(records_in(groups, step)) for step in steps] == [8, 8, 4]


def test_what_found_no_row_comes_first_in_the_next_step() -> None:
    groups = [Group((n,), 6, 0) for n in range(6)]
    steps = Plan(groups, Budget(records=4, rows=2, tokens=10, tiles=0), 3).epoch(0)
    assert [[len(row) for row in step] for step in steps] == [[1, 1]] * 3
    order = [g for step in steps for row in step for g in row]
    # Of the four that a step of records would take, the first two had a row.
    roomy = Plan(groups, Budget(records=4, rows=4, tokens=10, tiles=0), 3).epoch(0)
    assert set(order[:4]) == {g for row in roomy[0] for g in row}


def test_a_plan_is_a_function_of_its_seed() -> None:
    groups = many()
    plan, again = Plan(groups, BUDGET, 5), Plan(groups, BUDGET, 5)
    # The second one is asked in another order, and for other epochs first.
    later = [again.epoch(epoch) for epoch in (3, 0, 2, 1)]
    assert [plan.epoch(epoch) for epoch in (3, 0, 2, 1)] == later
    assert plan.epoch(0) != Plan(groups, BUDGET, 6).epoch(0)


def test_epochs_differ() -> None:
    plan = Plan(many(), BUDGET, 0)
    epochs = [tuple(plan.epoch(epoch)) for epoch in range(4)]
    assert len(set(epochs)) == 4


def test_any_step_can_be_had_at_once() -> None:
    groups = many()
    plan = Plan(groups, BUDGET, 1)
    steps = [step for epoch in range(3) for step in plan.epoch(epoch)]
    assert plan.steps(3) == len(steps)
    for number in (len(steps) - 1, 0, len(steps) // 2, len(plan.epoch(0)), len(plan.epoch(0)) - 1):
        assert Plan(groups, BUDGET, 1).step(number) == steps[number]
    assert [plan.step(number) for number in range(len(steps))] == steps


@pytest.mark.parametrize("group", [Group((0,), 21, 0), Group((0,), 20, 4)])
def test_a_group_larger_than_a_row_is_an_error(group: Group) -> None:
    said = f"{group.tokens} tokens and {group.tiles} tiles doesn't fit a row of 20 and 3"
    with pytest.raises(InputError, match=said):
        Plan([*many(), group], BUDGET, 0)
    assert Plan([Group((0,), 20, 3)], BUDGET, 0).steps(1) == 1


def test_nothing_to_plan_is_an_error() -> None:
    with pytest.raises(InputError, match="no records to train on"):
        Plan([], BUDGET, 0)
