"""Many clients for a while: each is answered as it would be alone, and memory stays bounded."""

import json
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pytest
from endpoint import data_url
from serve_process import ServeProcess
from serving_load import load
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import save_checkpoint

CLIENTS, SECONDS, BODIES = 64, 20.0, 48

GROWTH = 32 * 2**20
"""Bytes. A heap that settles and programs that are compiled late took up to 16 MB; the requests of
half the time, if they were kept, would take several times this bound."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    folder = tmp_path_factory.mktemp("loaded") / "tiny"
    save_checkpoint(folder, tiny_checkpoint(max_new_tokens=24))
    found = ServeProcess("--model", folder, "--prompt-tokens", 256, "--new-tokens", 24)
    yield found
    found.kill()


@cache
def body(number: int) -> dict[str, Any]:
    """A question; three of four are about a picture, so large that one that is kept tells."""
    number %= BODIES
    content: list[dict[str, Any]] = [{"type": "text", "text": f"Which digit is it, {number}?"}]
    if number % 4:
        content.append({"type": "image_url", "image_url": {"url": data_url(number // 4, 320)}})
    messages = [{"role": "user", "content": content}]
    return {"messages": messages, "max_tokens": 8 + number % 16, "temperature": 0}


def said(client: httpx.Client, url: str, number: int) -> str:
    found = client.post(url, json=body(number))
    text: str = found.json()["choices"][0]["message"]["content"]
    return text


class Memory:
    """The server's memory, looked at ten times a second."""

    def __init__(self, server: ServeProcess) -> None:
        self._seen: list[tuple[float, int]] = []
        self._server, self._ended = server, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            self._seen.append((time.monotonic(), self._server.memory()))

    def quarters(self) -> list[int]:
        """The most in each quarter of the time until now."""
        self._ended.set()
        self._thread.join()
        first, last = self._seen[0][0], self._seen[-1][0]
        most = [0] * 4
        for when, size in self._seen:
            quarter = min(int(4 * (when - first) / (last - first)), 3)
            most[quarter] = max(most[quarter], size)
        return most


@pytest.mark.slow
def test_64_clients_get_what_each_gets_alone_in_bounded_memory(server: ServeProcess) -> None:
    server.find(r"(ready) after")
    url = server.url()
    with httpx.Client(timeout=60) as client:
        alone = [said(client, url, number) for number in range(BODIES)]
    assert len(set(alone)) > BODIES / 2
    load(url, body, CLIENTS, SECONDS / 4)  # compiles for so many at once
    memory = Memory(server)
    found = load(url, body, CLIENTS, SECONDS)
    _, second, _, last = memory.quarters()
    print(f"{found.rate:.1f} answers a second, memory grows by {(last - second) / 1e6:.1f} MB")
    assert not found.errors
    assert found.answers == {number: alone[number % BODIES] for number in found.answers}
    sent = sum(len(json.dumps(body(number))) for number in found.answers)
    assert last - second < GROWTH < sent / 2
