"""An endpoint in this process, and what is sent to it."""

import base64
import io
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

from critic_jax.judging.critic import Critic
from critic_jax.serving.app import Endpoint

NEW_TOKENS = 64


def picture_bytes(seed: int = 0, side: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def data_url(seed: int = 0, side: int = 20) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture_bytes(seed, side)).decode()}"


@dataclass
class Served:
    """A running endpoint."""

    url: str
    endpoint: Endpoint
    critic: Critic
    client: httpx.Client

    def chat(self, text: str = "Which digit is it?", **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 12} | fields
        return self.client.post("/v1/chat/completions", json=body)

    def said(self, text: str = "Which digit is it?", **fields: Any) -> str:
        found = self.chat(text, **fields)
        assert found.status_code == 200, found.text
        content: str = found.json()["choices"][0]["message"]["content"]
        return content

    def refusal(self, status: int, body: Any, path: str = "/v1/chat/completions") -> str:
        """The message of a request that is refused with a status."""
        if isinstance(body, bytes):
            found = self.client.post(path, content=body)
        else:
            found = self.client.post(path, json=body)
        assert found.status_code == status, found.text
        message: str = found.json()["error"]["message"]
        assert message and "\n" not in message
        return message


Serving = Callable[..., AbstractContextManager[Served]]


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(holds: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)
