"""Requests that come at any time, from any thread, answered together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from critic_jax.errors import InputError, WorkError
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Completion
from critic_jax.sampling.engine import Engine
from critic_jax.sampling.guide import Guide
from critic_jax.sampling.request import Request, requests_of
from critic_jax.sampling.run import WAITING, Run
from critic_jax.sampling.trees import trunks
from critic_jax.tree import Path

AHEAD = 64
"""Of how many that wait it is looked at which begin alike."""


class Service:
    """Samples from an engine's model, on a thread of its own: nobody else may use that engine.

    Whoever comes while others are answered joins them in a free slot. Prompts that begin alike and
    wait together are read together, and one that begins as an earlier one goes on from there.

    prompt_tokens: of the longest prompt. new_tokens: of the longest answer. So far, tokens: asked,
    of prompts; said, of answers; read, of prompts that went through the model; taken_over, of those
    that went on from an earlier prompt.
    """

    def __init__(self, engine: Engine, prompt_tokens: int, new_tokens: int) -> None:
        self.engine = engine
        self.prompt_tokens, self.new_tokens = prompt_tokens, new_tokens
        self.shape = engine.shape(prompt_tokens, new_tokens)
        self._changed = threading.Condition()
        self._waiting: list[Request] = []
        self._active: list[Request] = []
        self._closing = False
        self.asked = self.said = self.read = self.taken_over = 0
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Answer a request; its `watch` is called on the sampler's thread and must be quick.

        Raises InputError for one that cannot be answered, WorkError once this is closed.
        """
        self.engine.check(request.sampling)
        tokens, wanted = len(request.prompt), request.sampling.max_new_tokens
        if tokens > self.prompt_tokens:
            raise InputError(
                f"the prompt has {tokens} tokens; at most {self.prompt_tokens} are read"
            )
        if not tokens:
            raise InputError("the prompt is empty")
        if wanted > self.new_tokens:
            raise InputError(f"{wanted} new tokens; an answer has at most {self.new_tokens}")
        with self._changed:
            if self._closing:
                raise WorkError("the sampler has been closed")
            self._waiting.append(request)
            self._changed.notify_all()

    def generate(
        self,
        prompts: Sequence[Path],
        sampling: Sampling,
        n: int = 1,
        guides: Sequence[Guide | None] | None = None,
        gone: threading.Event | None = None,
    ) -> list[list[Completion]]:
        """As `Engine.generate`; waits for the answers. Raises WorkError once `gone` is set: nobody
        wants them any more."""
        changed = threading.Event()
        requests = requests_of(prompts, sampling, n, guides, lambda _: changed.set())
        try:
            for request in requests:
                self.submit(request)
            while not all(request.done for request in requests):
                if gone is not None and gone.is_set():
                    raise WorkError("whoever asked is gone")
                changed.wait(0.2)
                changed.clear()
        finally:
            for request in requests:
                request.leave()
        return [request.completions() for request in requests]

    @property
    def waiting(self) -> int:
        """Requests of which no answer has begun."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Requests that are being answered."""
        return len(self._active)

    @property
    def alive(self) -> bool:
        """Whether it answers: its thread ends if a device can no longer be used at all."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Answer what has been submitted, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        run = self._begin()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._active or self._closing)
                if not (self._waiting or self._active):
                    break
            run = self._go_on(run)
        self.engine.channel.tell("done", [])

    def _go_on(self, run: Run) -> Run:
        """Some steps; of requests that are done nothing is held behind them."""
        try:
            while run.free > 0 and (chosen := self._next()):
                run.add_trunk(*chosen)
            before = run.read, run.taken_over
            grown = run.step() or []
            self.read += run.read - before[0]
            self.taken_over += run.taken_over - before[1]
        except Exception as error:  # a device's, most of all: for lack of memory
            grown, run = list(self._active), self._begin()
            for request in grown:
                request.error = error
        for request in self._active:
            if request.done:
                self.asked += len(request.prompt)
                self.said += sum(len(answer.tokens) for answer in request.answers.values())
        self._active = [request for request in self._active if not request.done]
        for request in grown:
            if request.watch is not None:
                request.watch(request)
        return run

    def _begin(self) -> Run:
        self.engine.channel.tell("begin", self.shape)
        return Run(self.engine, self.shape, self.engine.take_cache(self.shape), True, WAITING)

    def _next(self) -> tuple[list[Request], int] | None:
        """Who has waited longest, and all that are worth reading with it; the places they take."""
        with self._changed:
            self._waiting = [request for request in self._waiting if not request.left]
            if not self._waiting:
                return None
            ahead = [request.prompt for request in self._waiting[:AHEAD]]
            found = trunks(ahead, self.shape.places)
            (trunk,) = (trunk for trunk in found if 0 in trunk.prompts)
            chosen, alike = [self._waiting[n] for n in trunk.prompts], set(trunk.prompts)
            self._waiting = [r for n, r in enumerate(self._waiting) if n not in alike]
            self._active += chosen
        return chosen, trunk.places
