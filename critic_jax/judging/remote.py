"""Another judge behind an OpenAI-style endpoint: our templates in front, our parser behind."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from queue import SimpleQueue
from typing import Any

from PIL import Image

from critic_jax.errors import InputError, WorkError
from critic_jax.imaging import open_picture
from critic_jax.judging.ask import (
    REASK_TEMPERATURE,
    REASK_TOP_P,
    Ask,
    Asking,
    Judge,
    Pictures,
    ask_until_read,
)
from critic_jax.judging.endpoint import (
    AbandonedError,
    Endpoint,
    Meter,
    Policy,
    RefusedError,
    Reply,
)
from critic_jax.judging.judgment import Judgment

_SENT_AS_THEY_ARE = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class SentPicture:
    """A picture as a request carries it: a data URL, and a hash of it."""

    url: str
    key: str


class RemoteCritic(Judge):
    """The face of `Critic` over an endpoint that is asked for the model of that name.

    Greedy by default. `seed` is handed on, for endpoints that know it.
    """

    def __init__(
        self,
        url: str,
        model: str,
        policy: Policy = Policy(),  # noqa: B008 (frozen)
        *,
        temperature: float = 0.0,
        max_new_tokens: int = 512,
        seed: int | None = None,
    ) -> None:
        if not 0 <= temperature < math.inf or max_new_tokens < 1:
            raise InputError("temperature must be 0 or more and finite, max_new_tokens at least 1")
        self.name = model
        self.endpoint = Endpoint(url, policy)
        self._settings: dict[str, Any] = {"temperature": temperature, "max_tokens": max_new_tokens}
        if seed is not None:
            self._settings["seed"] = seed
        known = json.dumps([self.endpoint.shown, model, self._settings], sort_keys=True)
        self.fingerprint = sha256(known.encode()).hexdigest()[:16]

    def visuals(self, image: Pictures, name: str = "image") -> tuple[SentPicture, ...]:
        if image is None:
            return ()
        sources: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
        return tuple(sent_picture(s, name if isinstance(s, bytes) else None) for s in sources)

    def judge(
        self,
        asks: Sequence[Ask],
        asking: Asking = Asking(),  # noqa: B008 (frozen)
    ) -> list[Judgment]:
        """Judge many at once; results in the order given. The first request refused ends it."""
        found: dict[int, Judgment] = {}
        for place, result in self.judge_each(asks, asking):
            if isinstance(result, InputError):
                raise result
            found[place] = result
        return [found[place] for place in range(len(asks))]

    def judge_each(
        self,
        asks: Sequence[Ask],
        asking: Asking = Asking(),  # noqa: B008 (frozen)
    ) -> Iterator[tuple[int, Judgment | InputError]]:
        """Each judgment with its ask's place as it comes, or why its request was refused.

        Where the whole run must end (a wrong key, no connection, a spent budget), what was under
        way is yielded before the error is raised.
        """
        check_remote(asking)
        pool = ThreadPoolExecutor(self.endpoint.policy.concurrency)
        # Not `as_completed`: it waits for ever for what is cancelled.
        finished: SimpleQueue[Future[Judgment]] = SimpleQueue()
        failure: Exception | None = None
        try:
            places = {
                pool.submit(self._judge, ask, asking.reasks): place
                for place, ask in enumerate(asks)
            }
            for future in places:
                future.add_done_callback(finished.put)
            for _ in places:
                future = finished.get()
                if future.cancelled():
                    continue
                try:
                    yield places[future], future.result()
                except RefusedError as refused:
                    yield places[future], refused
                except AbandonedError:
                    continue
                except (InputError, WorkError) as error:
                    failure = failure or error
                    pool.shutdown(wait=False, cancel_futures=True)
        finally:
            self.endpoint.stop()
            pool.shutdown(cancel_futures=True)
            self.endpoint.go_on()
        if failure is not None:
            raise failure

    def generate(self, image: Pictures, prompt: str, n: int = 1) -> list[str]:
        visuals = self.visuals(image)
        return [self.reply(visuals, prompt).text for _ in range(n)]

    def _judge(self, ask: Ask, reasks: int) -> Judgment:
        def say(attempt: int) -> tuple[str, bool]:
            reply = self.reply(ask.visuals, ask.prompt(), attempt)
            return reply.text, reply.complete

        try:
            return ask_until_read(ask, self.name, reasks, say)
        except RefusedError:
            raise
        except (InputError, WorkError):
            self.endpoint.stop()  # at once: other threads may be about to send
            raise

    def reply(
        self,
        visuals: Sequence[SentPicture],
        text: str,
        attempt: int = 0,
        meter: Meter | None = None,
    ) -> Reply:
        """One answer to a text about pictures; a further `attempt` is sampled. Errors and `meter`
        are those of `Endpoint.chat`."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": visual.url}} for visual in visuals
        ]
        content.append({"type": "text", "text": text})
        message = {"role": "user", "content": content}
        settings = self._again(attempt) if attempt else self._settings
        return self.endpoint.chat({"model": self.name, "messages": [message], **settings}, meter)

    def _again(self, attempt: int) -> dict[str, Any]:
        """Settings of a further attempt: never greedy, and with a seed of its own if any."""
        settings = dict(self._settings)
        if not settings["temperature"]:
            settings |= {"temperature": REASK_TEMPERATURE, "top_p": REASK_TOP_P}
        if "seed" in settings:
            settings["seed"] += attempt
        return settings


def check_remote(asking: Asking) -> None:
    """Raise InputError for ways of asking that need the judge's own tokens."""
    for name in asking.wishes():
        if name != "reasks":
            raise InputError(f"{name}: an endpoint gives its texts only; leave it out")


def sent_picture(
    source: str | os.PathLike[str] | bytes | Image.Image, name: str | None = None
) -> SentPicture:
    """A picture as a data URL: the file as it is, if every reader sees the same in it.

    Otherwise (another format, turned by EXIF, transparent, not opened from a file) as PNG of what
    a model of ours sees. Raises PictureError for what is no picture; `name` as in `open_picture`.
    """
    upright = open_picture(source, name)
    raw, kind = b"", ""
    if not isinstance(source, Image.Image):
        if isinstance(source, bytes):
            raw = source
        else:
            with open(source, "rb") as file:
                raw = file.read()
        with Image.open(io.BytesIO(raw)) as image:
            plain = image.mode in ("L", "RGB") and image.getexif().get(_ORIENTATION, 1) == 1
            kind = _SENT_AS_THEY_ARE.get(image.format or "", "") if plain else ""
    if not kind:
        buffer = io.BytesIO()
        upright.save(buffer, format="PNG")
        raw, kind = buffer.getvalue(), "png"
    url = f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"
    return SentPicture(url, sha256(raw).hexdigest())
