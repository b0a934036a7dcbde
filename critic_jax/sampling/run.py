"""One call of the engine: which prompt is read when, and which answer has which slot.

All of it follows from the requests and the tokens chosen, never from time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import numpy as np

from critic_jax.sampling.cache import Cache, Shape
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Answer, Completion
from critic_jax.sampling.decode import Branches, idle
from critic_jax.sampling.guide import Guide
from critic_jax.sampling.prefill import prefill
from critic_jax.sampling.trees import Places, Trunk, identities, trunk_row, trunks
from critic_jax.sampling.visits import plan_visits
from critic_jax.tree import Path, Row

if TYPE_CHECKING:
    from critic_jax.sampling.engine import Engine

MOST = 32
"""Steps of a run at most: while none waits for a slot."""

WAITING = 8
"""Steps of a run while some wait."""


@dataclass
class _Held:
    """A trunk in the pool: its row, from place `first` on, and the branches still to come."""

    first: int
    row: Row
    hidden: np.ndarray  # [E, D], at the ends of its paths
    waiting: deque[tuple[int, int, int]]  # (place among the paths, prompt, number of the answer)
    running: int = 0


@dataclass
class _Branch:
    """An answer in a slot."""

    trunk: _Held
    prompt: int
    number: int
    answer: Answer
    end: int
    seen: np.ndarray
    hidden: np.ndarray
    guide: Guide | None = None
    fresh: bool = field(default=True)


class Run:
    """Goes through some prompts; `cache` is the engine's, and used up."""

    def __init__(
        self,
        engine: Engine,
        shape: Shape,
        cache: Cache,
        prompts: Sequence[Path],
        sampling: Sampling,
        n: int,
        guides: Sequence[Guide | None] | None,
    ) -> None:
        self.engine, self.shape, self.cache = engine, shape, cache
        self.prompts, self.sampling, self.n = prompts, sampling, n
        self.guides = guides or [None] * len(prompts)
        self._identities = identities(prompts)
        self._dynamic = sampling.dynamic()
        self._queue = deque(trunks(prompts, shape.places))
        self._pool = Places(shape.places)
        self._until = np.zeros(shape.places, np.int32)
        self._held: list[_Held] = []
        self._slots: list[_Branch | None] = [None] * shape.slots

    def answers(self) -> list[list[Completion]]:
        """`n` answers to each prompt."""
        found: dict[tuple[int, int], Completion] = {}
        while self._fill():
            self._go_on()
            done = self._take_out()
            found |= done
            if done and self.engine.watch is not None:
                self.engine.watch(len(done))
        return [[found[p, s] for s in range(self.n)] for p in range(len(self.prompts))]

    def _fill(self) -> bool:
        """Give free slots to answers that wait, reading prompts as needed; whether any has one."""
        for slot, branch in enumerate(self._slots):
            if branch is not None:
                continue
            trunk = self._next()
            if trunk is None:
                break
            self._slots[slot] = self._branch(trunk)
        return any(branch is not None for branch in self._slots)

    def _next(self) -> _Held | None:
        for trunk in self._held:
            if trunk.waiting:
                return trunk
        if not self._queue:
            return None
        first = self._pool.take(self._queue[0].places)
        if first is None:
            return None  # until branches end and a trunk makes room
        trunk = self._read(self._queue.popleft(), first)
        self._held.append(trunk)
        return trunk

    def _read(self, trunk: Trunk, first: int) -> _Held:
        row = trunk_row(self.prompts, trunk, self.engine.config.tower)
        engine = self.engine
        engine.channel.tell("read", row, first)
        hidden, pool = prefill(engine.graphs, engine.weights, self.cache.pool, row, first)
        self.cache = self.cache._replace(pool=pool)
        self._until[first : first + trunk.places] = first + row.visible_until
        waiting = [(e, p, s) for e, p in enumerate(trunk.prompts) for s in range(self.n)]
        return _Held(first, row, hidden, deque(waiting))

    def _branch(self, trunk: _Held) -> _Branch:
        place, prompt, number = trunk.waiting.popleft()
        trunk.running += 1
        index = trunk.row.path_index[place]
        answer = Answer(self.sampling.max_new_tokens, frozenset(self.engine.stop_ids))
        hidden, guide = trunk.hidden[place], self.guides[prompt]
        return _Branch(trunk, prompt, number, answer, int(index[-1]), index, hidden, guide)

    def _go_on(self) -> None:
        """Some steps of all slots."""
        active = {slot: b for slot, b in enumerate(self._slots) if b is not None}
        fresh = any(branch.fresh for branch in active.values())
        allowed, steps = None, MOST
        if any(branch.guide is not None for branch in active.values()):
            # A guide is asked before each token.
            allowed, steps = self._allowed(active), 0 if fresh else 1
        elif self._queue or any(trunk.waiting for trunk in self._held):
            steps = WAITING
        seen = [(slot, b.trunk.first, b.seen) for slot, b in active.items()]
        visits = plan_visits(seen, self.shape.slots, self.shape.places)
        branches = self._branches(active, fresh)
        given = (branches, self._until, visits, self._dynamic, np.int32(steps), allowed)
        self.engine.channel.tell("go on", *given)
        chosen, self.cache = self.engine.go_on(self.cache, *given)
        *columns, taken = jax.device_get(chosen)
        for slot, branch in active.items():
            for t in range(0 if branch.fresh else 1, 1 + int(taken)):
                token, logprob, alternatives = (column[slot, t] for column in columns)
                branch.answer.add(int(token), float(logprob), alternatives)
            branch.fresh = False
            if self.sampling.stop and self.engine.decode is not None:
                branch.answer.look_for(self.sampling.stop, self.engine.decode)

    def _branches(self, active: dict[int, _Branch], fresh: bool) -> Branches:
        width = self.engine.config.decoder.hidden_size
        found = idle(self.shape.slots, width if fresh else None)
        for slot, branch in active.items():
            found.active[slot] = True
            found.fresh[slot] = branch.fresh
            if branch.fresh:
                found.hidden[slot] = branch.hidden
            else:
                found.token[slot] = branch.answer.tokens[-1]
            found.count[slot] = len(branch.answer.tokens)
            found.limit[slot] = branch.answer.limit
            found.depth[slot] = len(self.prompts[branch.prompt])
            found.end[slot] = branch.trunk.first + branch.end
            found.identity[slot] = (*self._identities[branch.prompt], branch.number)
        return found

    def _allowed(self, active: dict[int, _Branch]) -> np.ndarray:
        allowed = np.ones((self.shape.slots, self.engine.config.decoder.vocab_size), bool)
        for slot, branch in active.items():
            ids = branch.guide.allowed(branch.answer.tokens) if branch.guide is not None else None
            if ids is not None:
                assert len(ids), "a guide must allow something"
                allowed[slot] = False
                allowed[slot, np.asarray(ids)] = True
        return allowed

    def _take_out(self) -> dict[tuple[int, int], Completion]:
        """The answers that are done; their slots are free, and the places of trunks without any."""
        done = {}
        for slot, branch in enumerate(self._slots):
            if branch is None or branch.answer.finish is None:
                continue
            answer = branch.answer.completion(len(self.sampling.alternatives))
            done[branch.prompt, branch.number] = answer
            branch.trunk.running -= 1
            self._slots[slot] = None
        for trunk in [t for t in self._held if not t.running and not t.waiting]:
            self._until[trunk.first : trunk.first + len(trunk.row.tokens)] = 0
            self._pool.free(trunk.first)
            self._held.remove(trunk)
        return done
