"""Clients of an endpoint that ask one thing after the other, and how they fare."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx


@dataclass
class Load:
    """What clients met with.

    answers: the text, by the request's number. seconds: that each request took. errors: of those
    that were not answered. took: seconds from the first request to the end of the last.
    """

    answers: dict[int, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    took: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.took


def load(
    url: str,
    body: Callable[[int], dict[str, Any]],
    clients: int,
    seconds: float,
    numbers: count | None = None,
) -> Load:
    """Ask for so long; what is on its way then is waited for. `numbers` are those of requests."""
    found, numbers = Load(), numbers or count()
    began = time.monotonic()

    def ask(client: httpx.Client) -> None:
        number, start = next(numbers), time.monotonic()
        try:
            answer = client.post(url, json=body(number))
            answer.raise_for_status()
            found.answers[number] = answer.json()["choices"][0]["message"]["content"]
            found.seconds.append(time.monotonic() - start)
        except Exception as error:
            found.errors.append(f"{type(error).__name__}: {error}")

    def run() -> None:
        with httpx.Client(timeout=600) as client:
            while time.monotonic() < began + seconds:
                ask(client)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.took = time.monotonic() - began
    return found
