"""Work on a file's pieces, shared out among all that hold the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from critic_jax.checkpoints import read_sizes
from critic_jax.errors import InputError
from critic_jax.hosts import exchange, on_each, processes
from critic_jax.judging.ask import Judge
from critic_jax.sampling.replicas import replica_meshes
from critic_jax.sampling.weights import SamplingDtype, usual_dtype

IN_TURN = 4
"""Pieces for each replica between two exchanges of results: who is quick takes more of those of
its process. What was not exchanged is done again after a kill."""

T = TypeVar("T")
Result = TypeVar("Result")
AnyJudge = TypeVar("AnyJudge", bound=Judge)


class Replicas(Generic[AnyJudge]):
    """One model, held several times: by this process, and as often by each of the others.

    here: those of this process. together: it is one that all processes hold a part of. Raises
    InputError where a process has another model than the first.
    """

    def __init__(self, here: Sequence[AnyJudge], together: bool = False) -> None:
        self.here, self.together = tuple(here), together
        told = exchange([(one.name, one.fingerprint) for one in here])
        counts = [1] if together else [len(said) for said in told]
        self._owners = [process for process, count in enumerate(counts) for _ in range(count)]
        said = {one for of_process in told for one in of_process}
        if len(said) > 1:
            raise InputError(
                "the processes of this run hold different models: "
                + ", ".join(f"{name} {fingerprint}" for name, fingerprint in sorted(said))
            )
        ((self.name, self.fingerprint),) = said

    @property
    def count(self) -> int:
        """Of all processes."""
        return len(self._owners)

    def agreed(self, wrong: dict[int, InputError]) -> dict[int, InputError]:
        """What is wrong with some things, by their numbers, where all processes work on the same:
        what one of them finds is wrong for all."""
        if not self.together:
            return wrong
        others = exchange({number: str(error) for number, error in wrong.items()})
        return {n: InputError(text) for found in reversed(others) for n, text in found.items()}

    def work(
        self, pieces: Sequence[T], do: Callable[[AnyJudge, T], Iterator[Result]]
    ) -> Iterator[Result]:
        """What `do` makes of all pieces, in their order, in every process.

        With one replica as it comes; else when a round of pieces is done. Raises what `do` does.
        """
        if self.together or (processes() == 1 and self.count == 1):
            for piece in pieces:
                yield from do(self.here[0], piece)
            return
        idle: SimpleQueue[AnyJudge] = SimpleQueue()
        for one in self.here:
            idle.put(one)

        def done(piece: T) -> list[Result]:
            one = idle.get()
            try:
                return list(do(one, piece))
            finally:
                idle.put(one)

        with ThreadPoolExecutor(max(1, len(self.here))) as pool:
            for first in range(0, len(pieces), IN_TURN * self.count):
                some = pieces[first : first + IN_TURN * self.count]
                owners = [self._owners[number % self.count] for number in range(len(some))]
                own = [piece for piece, owner in zip(some, owners, strict=True) if _mine(owner)]
                found = [iter(of) for of in on_each(partial(_all, pool, done, own))]
                for owner in owners:
                    yield from next(found[owner])


def _mine(owner: int) -> bool:
    return processes() == 1 or owner == jax.process_index()


def _all(
    pool: ThreadPoolExecutor, do: Callable[[T], list[Result]], pieces: Sequence[T]
) -> list[list[Result]]:
    return list(pool.map(do, pieces))


def load_replicas(
    load: Callable[..., AnyJudge],
    model: str,
    dtype: SamplingDtype | None = None,
    devices: int = 0,
) -> Replicas[AnyJudge]:
    """The replicas of a model; `load` makes one on a `mesh`. devices: as `replica_meshes` takes.

    On one device nothing is asked of the model's files for it.
    """
    if jax.device_count() == 1:
        return Replicas([load()])
    here: list[AnyJudge] = []
    meshes: list[Mesh] = []

    def load_all() -> None:
        config, held = read_sizes(model), jnp.dtype(dtype or usual_dtype())
        meshes.extend(replica_meshes(config, held, devices))
        here.extend(load(mesh=mesh) for mesh in meshes)

    on_each(load_all)
    together = len({device.process_index for device in meshes[0].devices.flat}) > 1
    return Replicas(here, together)
