"""`critic-jax serve`: a model behind an endpoint, until it is asked to stop."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from uvicorn.protocols.http.h11_impl import H11Protocol

from critic_jax.compiled import keep_compiled
from critic_jax.data.encode import prompt_path
from critic_jax.errors import InputError
from critic_jax.judging.critic import Critic
from critic_jax.sampling.service import Service
from critic_jax.sampling.trees import bucket
from critic_jax.sampling.weights import WeightFormat
from critic_jax.serving.app import Endpoint
from critic_jax.serving.limits import Limits
from critic_jax.tree import Path

KEY = "CRITIC_JAX_API_KEY"
"""The environment variable of the key that clients must send; if it is not set all may ask."""

HEAD_SECONDS = 15.0
"""How long a connection may take to send the head of a request."""

VERDICT_TOKENS = 64
"""Of a verdict that is written within bounds, in front of a reason of any length."""

DRAIN_SECONDS = 30.0
"""How much longer than a request's limit a stopping server waits."""


def serve(
    model: str,
    host: str,
    port: int,
    batch: int,
    memory: int | None,
    weights: WeightFormat,
    prompt_tokens: int,
    new_tokens: int,
    picture_folders: tuple[pathlib.Path, ...],
    keep_order: bool,
    queue: int,
    timeout: float,
    no_warm_up: bool,
) -> None:
    """Load a model and answer requests until SIGTERM or SIGINT.

    Raises InputError for a model, an address or a folder that is none.
    """
    for folder in picture_folders:
        if not folder.is_dir():
            raise InputError(f"--picture-folders: {folder} is no folder")
    limits = Limits(queue=queue, seconds=timeout, new_tokens=new_tokens, folders=picture_folders)
    listening = listen(host, port)
    keep_compiled()
    begun = time.monotonic()
    critic = Critic.load(model, batch, memory, weights)
    service = Service(critic.engine, prompt_tokens, new_tokens + VERDICT_TOKENS)
    endpoint = Endpoint(critic, service, limits, os.environ.get(KEY) or None, keep_order)
    where = f"http://{_shown(host)}:{listening.getsockname()[1]}/v1"

    def warm() -> None:
        if not no_warm_up:
            _warm_up(critic, service)
        endpoint.ready = True
        took = time.monotonic() - begun
        print(f"critic-jax: ready after {took:.1f} s", file=sys.stderr, flush=True)

    def started() -> None:
        print(f"critic-jax: {critic.name} listens at {where}", file=sys.stderr, flush=True)
        threading.Thread(target=warm, daemon=True).start()

    make_server(endpoint, started).run(sockets=[listening])
    service.close()


def make_server(endpoint: Endpoint, started: Callable[[], None] = lambda: None) -> Server:
    """What answers requests at a socket, by its `run(sockets=[...])`, until it is told to stop.

    started: called once it answers, and heeds the signals that ask it to stop.
    """
    config = uvicorn.Config(
        endpoint.app(),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return Server(config, endpoint, started)


class Server(uvicorn.Server):
    """Goes on answering "503, stopping" while the requests that run are finished."""

    def __init__(
        self, config: uvicorn.Config, endpoint: Endpoint, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.endpoint, self._told = endpoint, started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._told()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks to finish, the second to leave at once."""
        if self._draining is not None or self._loop is None:
            super().handle_exit(sig, frame)
            return
        if sig == signal.SIGINT or sig == signal.SIGTERM:
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._finish())

    async def _finish(self) -> None:
        running = self.endpoint.running
        said = f"stopping; {running} running requests are finished first"
        print(f"critic-jax: {said}", file=sys.stderr, flush=True)
        limit = self.endpoint.limits.seconds + DRAIN_SECONDS
        try:
            await asyncio.wait_for(self.endpoint.drained(), limit)
        except TimeoutError:
            print("critic-jax: some did not finish in time", file=sys.stderr, flush=True)
        self.should_exit = True


class _Protocol(H11Protocol):
    """Closes a connection whose request does not come: its slot is wanted."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def handle_events(self) -> None:
        super().handle_events()
        self._head.cancel()
        # Between requests uvicorn's own limit holds; within one, the body's.
        if self.cycle is None or (self.cycle.response_complete and self.conn.trailing_data[0]):
            self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.cancel()
        super().connection_lost(exc)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError for an address that cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(2048)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{host}:{port}: cannot be listened at ({said})") from None
    return found


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _warm_up(critic: Critic, service: Service) -> None:
    """Compile for each size of a prompt, with a picture and without, before anyone waits for it."""
    sampling = critic.sampling(max_new_tokens=2)
    paths: list[Path] = []
    for side in (64, 1024):
        picture = critic.visuals(Image.new("RGB", (side, side), (128, 128, 128)))
        paths.append(prompt_path("Hello", picture, critic.tokenizer))
    size, letter = 32, 0
    while size <= service.prompt_tokens:
        # A letter of its own, so that nothing is taken over; then one more, so that all is.
        letter += 1
        paths += [_of(letter, size), _of(letter, size + 1)]
        size = bucket(size + 1)
    for path in paths:
        if len(path) <= service.prompt_tokens:
            service.generate([path], sampling)


def _of(token: int, count: int) -> Path:
    return Path(np.full(count, token, np.int32), np.zeros(count, np.float32))
