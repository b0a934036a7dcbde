"""Chat completions: from a checked body to the sampler, and back to what OpenAI's clients read."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from critic_jax.errors import InputError, WorkError
from critic_jax.judging.critic import Critic
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Likeliest
from critic_jax.sampling.request import Request
from critic_jax.sampling.service import Service
from critic_jax.serving.errors import Refused
from critic_jax.serving.json_guide import JsonGuide, json_guide
from critic_jax.serving.limits import Limits
from critic_jax.serving.messages import as_turns, conversation_path, picture_urls
from critic_jax.serving.pictures import Pictures
from critic_jax.serving.schema import ChatBody

_UNKNOWN = "\ufffd"


@dataclass(frozen=True)
class Seen:
    """An answer as it was between two steps of the sampler."""

    tokens: tuple[int, ...] = ()
    finish: str | None = None


@dataclass
class Asked:
    """A request on its way: what the sampler was given, how far its answers are, and a bell that
    rings as they grow.

    stream: whether it is told piece by piece. usage: whether a stream tells it. The body is not
    held: pictures in bodies are large.
    """

    request: Request
    logprobs: bool
    stream: bool
    usage: bool
    loop: asyncio.AbstractEventLoop
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    answers: list[Seen] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def look(self, request: Request) -> None:
        """Called by the sampler's thread, while it leaves the answers alone."""
        if not (self.stream or request.done):
            return
        begun = [request.answers.get(number) for number in range(request.n)]
        answers = [Seen() if a is None else Seen(tuple(a.tokens), a.finish) for a in begun]
        # Whoever asked may be gone, and its loop with it.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._see, answers)

    def _see(self, answers: list[Seen]) -> None:
        self.answers = answers
        self.grown.set()


class Chat:
    """Answers conversations with a critic, through a service that it shares with others."""

    def __init__(
        self, critic: Critic, service: Service, pictures: Pictures, limits: Limits, keep_order: bool
    ) -> None:
        self.critic, self.service, self.pictures = critic, service, pictures
        self.limits, self.keep_order = limits, keep_order

    def prepare(self, body: ChatBody) -> Request:
        """What the sampler is asked; takes a moment, for the pictures. Raises Refused."""
        for name in ("presence_penalty", "frequency_penalty"):
            if getattr(body, name):
                raise Refused(400, f"{name}: this model knows repetition_penalty only", name)
        if body.tools:
            raise Refused(400, "tools: this model calls no tools; leave them out", "tools")
        n = body.n or 1
        if n > self.limits.answers:
            raise Refused(400, f"n is {n}; a request has at most {self.limits.answers}", "n")
        visuals = self.pictures.visuals(picture_urls(body.messages))
        turns = as_turns(body.messages, self.keep_order)
        tokenizer = self.critic.tokenizer
        path = conversation_path(turns, visuals, tokenizer)
        try:
            return Request(path, self._sampling(body), n, self._guide(body))
        except InputError as error:
            raise Refused(400, str(error)) from None

    def _sampling(self, body: ChatBody) -> Sampling:
        wanted = body.max_completion_tokens or body.max_tokens
        stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
        settings: dict[str, Any] = {
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": None if body.top_k is None else max(body.top_k, 0),
            "repetition_penalty": body.repetition_penalty,
            # As OpenAI's: without a seed every request is drawn anew.
            "seed": secrets.randbits(32) if body.seed is None else body.seed % 2**32,
            "stop": stop,
            "likeliest": (body.top_logprobs or 0) if body.logprobs else 0,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        # A harness asks for as much as GPT-4o may say; an answer is cut where this model's are.
        wanted = wanted or self.critic.sampling().max_new_tokens
        return self.critic.sampling(**given, max_new_tokens=min(wanted, self.limits.new_tokens))

    def _guide(self, body: ChatBody) -> JsonGuide | None:
        wanted = body.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return json_guide(None, self.critic.tokenizer)
        if wanted.json_schema is None:
            raise Refused(400, "response_format: json_schema is missing", "response_format")
        try:
            return json_guide(wanted.json_schema.schema_, self.critic.tokenizer)
        except InputError as error:
            raise Refused(400, f"response_format: {error}", "response_format") from None

    def submit(self, body: ChatBody, request: Request) -> Asked:
        """Give it to the sampler. Raises Refused for one that it cannot answer."""
        usage = bool(body.stream_options and body.stream_options.include_usage)
        loop = asyncio.get_running_loop()
        asked = Asked(request, bool(body.logprobs), bool(body.stream), usage, loop)
        request.watch = asked.look
        try:
            self.service.submit(request)
        except InputError as error:
            raise Refused(400, str(error), "messages", "context_length_exceeded") from None
        except WorkError as error:
            raise Refused(503, str(error)) from None
        return asked

    async def answers(self, asked: Asked) -> None:
        """Wait until they are done. Raises Refused where they could not be made."""
        while not asked.request.done:
            await asked.grown.wait()
            asked.grown.clear()
        if asked.request.error is not None:
            raise Refused(500, f"the model failed: {asked.request.error}")

    def completion(self, asked: Asked) -> dict[str, Any]:
        """The whole answer, once it is done."""
        choices = []
        for number in range(asked.request.n):
            answer = asked.request.answers[number]
            text = self.critic.tokenizer.decode(answer.tokens)
            choice = {
                "index": number,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": self._logprobs(asked, number, 0, len(answer.tokens)),
                "finish_reason": answer.finish,
            }
            choices.append(choice)
        return self._about(asked, "chat.completion") | {
            "choices": choices,
            "usage": self.usage(asked.request),
        }

    def usage(self, request: Request) -> dict[str, int]:
        """Tokens of the prompt and of its answers so far."""
        said = sum(len(answer.tokens) for answer in request.answers.values())
        read = len(request.prompt)
        return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}

    async def chunks(self, asked: Asked) -> AsyncIterator[dict[str, Any]]:
        """The answer piece by piece, as it grows."""
        about = self._about(asked, "chat.completion.chunk")
        blank = {"usage": None} if asked.usage else {}

        def chunk(number: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
            fields = {"logprobs": None, "finish_reason": None} | more
            return about | {"choices": [{"index": number, "delta": delta} | fields]} | blank

        texts = [_Text(self.critic, asked.request) for _ in range(asked.request.n)]
        for number in range(asked.request.n):
            yield chunk(number, {"role": "assistant", "content": ""})
        while not all(text.ended for text in texts):
            await asked.grown.wait()
            asked.grown.clear()
            if asked.request.error is not None:
                raise Refused(500, f"the model failed: {asked.request.error}")
            for number, (text, seen) in enumerate(zip(texts, asked.answers, strict=True)):
                if text.ended:
                    continue
                before = text.tokens
                if more := text.more(seen):
                    logprobs = self._logprobs(asked, number, before, text.tokens)
                    yield chunk(number, {"content": more}, logprobs=logprobs)
                if seen.finish is not None:
                    text.ended = True
                    yield chunk(number, {}, finish_reason=seen.finish)
        if asked.usage:
            yield about | {"choices": [], "usage": self.usage(asked.request)}

    def _about(self, asked: Asked, kind: str) -> dict[str, Any]:
        return {
            "id": asked.id,
            "object": kind,
            "created": asked.created,
            "model": self.critic.name,
            "system_fingerprint": self.critic.fingerprint,
        }

    def _logprobs(self, asked: Asked, number: int, first: int, end: int) -> dict[str, Any] | None:
        if not asked.logprobs:
            return None
        answer = asked.request.answers[number]
        told = [
            self._token(answer.tokens[at], answer.logprobs[at])
            | {"top_logprobs": self._likeliest(answer.likeliest[at])}
            for at in range(first, end)
        ]
        return {"content": told, "refusal": None}

    def _likeliest(self, likeliest: Likeliest) -> list[dict[str, Any]]:
        return [self._token(id, logprob) for id, logprob in likeliest]

    def _token(self, id: int, logprob: float) -> dict[str, Any]:
        piece = self.critic.tokenizer.decode([id])
        # JSON has no infinity; OpenAI's own stand-in for what cannot be.
        return {
            "token": piece,
            "logprob": max(logprob, -9999.0),
            "bytes": list(piece.encode()),
        }


class _Text:
    """What of an answer has been sent: whole letters, and nothing that may become a stop string."""

    def __init__(self, critic: Critic, request: Request) -> None:
        self._decode, self._stops = critic.tokenizer.decode, request.sampling.stop
        self._sent = ""
        self.tokens = 0
        self.ended = False

    def more(self, seen: Seen) -> str:
        """The text that is new."""
        text = self._decode(seen.tokens)
        if seen.finish is None:
            text = text.rstrip(_UNKNOWN)
            held = max((_begun(text, stop) for stop in self._stops), default=0)
            text = text[: len(text) - held]
        if len(text) <= len(self._sent):
            return ""
        self.tokens = len(seen.tokens)
        while self.tokens and len(self._decode(seen.tokens[: self.tokens])) > len(text):
            self.tokens -= 1
        new, self._sent = text[len(self._sent) :], text
        return new


def _begun(text: str, stop: str) -> int:
    """How many letters at the end of a text may be the beginning of a stop string."""
    return next((n for n in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def event(content: dict[str, Any] | str) -> str:
    """One server-sent event."""
    return f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n"


def models(critic: Critic, created: int) -> dict[str, Any]:
    """What models there are: one."""
    one = {"id": critic.name, "object": "model", "created": created, "owned_by": "critic_jax"}
    return {"object": "list", "data": [one]}
