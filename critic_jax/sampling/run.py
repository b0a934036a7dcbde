"""Which prompt is read when, and which answer has which slot.

All of it follows from the requests and the tokens chosen, never from time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import numpy as np

from critic_jax.sampling.cache import Cache, Shape
from critic_jax.sampling.choose import Choice, Sampling, dynamic
from critic_jax.sampling.completion import Answer
from critic_jax.sampling.decode import Branches, idle
from critic_jax.sampling.held import Begun, Held, begin_from, rest_of
from critic_jax.sampling.prefill import prefill
from critic_jax.sampling.request import Request
from critic_jax.sampling.trees import Places, rest_places, trunk_row, trunks
from critic_jax.sampling.visits import plan_visits
from critic_jax.tree import Row, token_keys

if TYPE_CHECKING:
    from critic_jax.sampling.engine import Engine

MOST = 32
"""Steps of a run at most: while none waits for a slot."""

WAITING = 8
"""Steps of a run while some wait."""

_NO_ONE = Sampling()


@dataclass
class _Branch:
    """An answer in a slot; `path` is its prompt's place in the trunk's row."""

    trunk: Held
    path: int
    request: Request
    number: int
    answer: Answer
    fresh: bool = True


class Run:
    """Answers requests; `cache` is the engine's, and used up.

    keep: trunks stay in the pool until their room is needed, for prompts that begin alike. most:
    steps that are taken at once at most; who may come any time waits for them.
    """

    def __init__(
        self, engine: Engine, shape: Shape, cache: Cache, keep: bool = False, most: int = MOST
    ) -> None:
        self.engine, self.shape, self.cache = engine, shape, cache
        self.keep, self.most = keep, most
        self.read = self.taken_over = 0  # tokens of prompts
        self._queue: deque[tuple[list[Request], int]] = deque()
        self._numbers: dict[str, int] = {}  # of all pictures so far
        self._pool = Places(shape.places)
        self._until = np.zeros(shape.places, np.int32)
        self._held: list[Held] = []
        self._slots: list[_Branch | None] = [None] * shape.slots

    def add(self, requests: Sequence[Request]) -> None:
        """Requests to answer; those among them that begin alike are read together.

        Raises InputError for a prompt that is empty, or longer than the pool.
        """
        for trunk in trunks([request.prompt for request in requests], self.shape.places):
            self.add_trunk([requests[number] for number in trunk.prompts], trunk.places)

    def add_trunk(self, requests: list[Request], places: int) -> None:
        """Requests that begin alike, as one of `trees.trunks`, and the places that it takes."""
        self._queue.append((requests, places))

    @property
    def free(self) -> int:
        """Slots for which no answer waits."""
        waiting = sum(len(trunk.waiting) for trunk in self._held)
        waiting += sum(request.n for requests, _ in self._queue for request in requests)
        return sum(branch is None for branch in self._slots) - waiting

    def step(self) -> list[Request] | None:
        """Go on by some tokens; the requests whose answers have grown, or None if there is nothing
        to do."""
        if not self._fill():
            return None
        grown = self._go_on()
        self._take_out()
        return grown

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

    def _next(self) -> Held | None:
        for trunk in self._held:
            if trunk.waiting:
                return trunk
        while self._queue and all(request.left for request in self._queue[0][0]):
            self._queue.popleft()
        if not self._queue:
            return None
        requests, places = self._queue[0]
        prompts = [request.prompt for request in requests]
        keys = token_keys(prompts, self._numbers) if self.keep else []
        begun = begin_from(self._held, prompts, keys) if self.keep else None
        unread, before = prompts, 0
        if begun is not None:
            rests = rest_of(prompts, begun.count)
            rest, taken = rest_places(rests), len(begun.places)
            if taken + rest <= self.shape.places:
                unread, places, before = rests, rest, taken
            else:
                begun = None
        first = self._take(before + places)
        if first is None:
            return None  # until branches end and a trunk makes room
        self._queue.popleft()
        depth = begun.count if begun is not None else 0
        row = trunk_row(unread, places, self.engine.config.tower, depth)
        read = self._read(row, first, begun, requests, keys)
        self._held.append(read)
        return read

    def _take(self, places: int) -> int | None:
        """Room in the pool; trunks that nobody uses go for it, the oldest first."""
        first = self._pool.take(places)
        for trunk in [trunk for trunk in self._held if trunk.idle]:
            if first is not None:
                break
            self._let_go(trunk)
            first = self._pool.take(places)
        return first

    def _read(
        self,
        row: Row,
        first: int,
        begun: Begun | None,
        requests: list[Request],
        keys: list[np.ndarray],
    ) -> Held:
        engine = self.engine
        engine.channel.tell("read", row, first, begun)
        hidden, pool = prefill(engine.graphs, engine.weights, self.cache.pool, row, first, begun)
        self.cache = self.cache._replace(pool=pool)
        self.read += row.length
        self.taken_over += begun.count if begun is not None else 0
        trunk = Held(first, keys, replace(row, tiles=row.tiles[:0].copy()), hidden, begun)
        until = trunk.visible_until()
        self._until[first : first + len(until)] = until
        for path, request in enumerate(requests):
            trunk.waiting.extend((path, request, number) for number in range(request.n))
        return trunk

    def _branch(self, trunk: Held) -> _Branch:
        path, request, number = trunk.waiting.popleft()
        trunk.running += 1
        stop_ids = frozenset(self.engine.stop_ids)
        answer = request.answers[number] = Answer(request.sampling.max_new_tokens, stop_ids)
        return _Branch(trunk, path, request, number, answer)

    def _go_on(self) -> list[Request]:
        """Some steps of all slots; the requests in them."""
        active = {slot: b for slot, b in enumerate(self._slots) if b is not None}
        fresh = any(branch.fresh for branch in active.values())
        allowed, steps = None, self.most
        if any(branch.request.guide is not None for branch in active.values()):
            # A guide is asked before each token.
            allowed, steps = self._allowed(active), 0 if fresh else 1
        elif self._queue or any(trunk.waiting for trunk in self._held):
            steps = min(steps, WAITING)
        seen = [(slot, b.trunk.first, b.trunk.seen(b.path)) for slot, b in active.items()]
        visits = plan_visits(seen, self.shape.slots, self.shape.places)
        settings = dynamic([_NO_ONE if b is None else b.request.sampling for b in self._slots])
        branches = self._branches(active, fresh)
        given = (branches, self._until, visits, settings, np.int32(steps), allowed)
        self.engine.channel.tell("go on", *given)
        chosen, self.cache = self.engine.go_on(self.cache, *given)
        columns, taken = jax.device_get(chosen)
        for slot, branch in active.items():
            for t in range(0 if branch.fresh else 1, 1 + int(taken)):
                _add(branch, Choice(*(column[slot, t] for column in columns)))
            branch.fresh = False
            stop = branch.request.sampling.stop
            if stop and self.engine.decode is not None:
                branch.answer.look_for(stop, self.engine.decode)
        return list(dict.fromkeys(branch.request for branch in active.values()))

    def _branches(self, active: dict[int, _Branch], fresh: bool) -> Branches:
        width = self.engine.config.decoder.hidden_size
        found = idle(self.shape.slots, width if fresh else None)
        for slot, branch in active.items():
            found.active[slot] = True
            found.fresh[slot] = branch.fresh
            if branch.fresh:
                found.hidden[slot] = branch.trunk.hidden[branch.path]
            else:
                found.token[slot] = branch.answer.tokens[-1]
            found.count[slot] = len(branch.answer.tokens)
            found.limit[slot] = branch.answer.limit
            found.depth[slot] = len(branch.request.prompt)
            last = int(branch.trunk.row.path_index[branch.path][-1])
            found.end[slot] = branch.trunk.row_first + last
            assert branch.request.identity is not None
            found.identity[slot] = (*branch.request.identity, branch.number)
        return found

    def _allowed(self, active: dict[int, _Branch]) -> np.ndarray:
        allowed = np.ones((self.shape.slots, self.engine.config.decoder.vocab_size), bool)
        for slot, branch in active.items():
            guide = branch.request.guide
            ids = guide.allowed(branch.answer.tokens) if guide is not None else None
            if ids is not None:
                assert len(ids), "a guide must allow something"
                allowed[slot] = False
                allowed[slot, np.asarray(ids)] = True
        return allowed

    def _take_out(self) -> None:
        """Free the slots of answers that are done, and where trunks are not kept the places of
        those without any."""
        for slot, branch in enumerate(self._slots):
            if branch is None:
                continue
            if branch.request.left and branch.answer.finish is None:
                branch.answer.finish = "left"
            if branch.answer.finish is not None:
                branch.trunk.running -= 1
                self._slots[slot] = None
        for trunk in self._held:
            trunk.leave()
        if not self.keep:
            for trunk in [trunk for trunk in self._held if trunk.idle]:
                self._let_go(trunk)

    def _let_go(self, trunk: Held) -> None:
        self._until[trunk.first : trunk.first + len(trunk.visible_until())] = 0
        self._pool.free(trunk.first)
        self._held.remove(trunk)


def _add(branch: _Branch, choice: Choice) -> None:
    """A step's choice for the branch."""
    most = branch.request.sampling.likeliest
    ids, logprobs = (np.asarray(one)[:most] for one in (choice.likeliest, choice.of_likeliest))
    told = tuple(zip(ids.tolist(), logprobs.tolist(), strict=True))
    alternatives = np.asarray(choice.alternatives)
    branch.answer.add(int(choice.token), float(choice.logprob), alternatives, told)
