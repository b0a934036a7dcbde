"""Work on a file in pieces: what has the same pictures together, so that these are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def by_key(items: Sequence[T], key: Callable[[T], Any]) -> list[T]:
    """Items with the same key side by side, the keys in the order of their first items."""
    first: dict[Any, int] = {}
    for item in items:
        first.setdefault(key(item), len(first))
    return sorted(items, key=lambda item: first[key(item)])


def chunks(
    items: Sequence[T], key: Callable[[T], Any], cost: Callable[[T], int], most: int
) -> Iterator[Sequence[T]]:
    """Pieces of about `most` by `cost` that end where the key changes, if that is not far."""
    start = so_far = 0
    for at in range(1, len(items)):
        so_far += cost(items[at - 1])
        changes = key(items[at]) != key(items[at - 1])
        if so_far >= (most if changes else 2 * most):
            yield items[start:at]
            start, so_far = at, 0
    if items:
        yield items[start:]
