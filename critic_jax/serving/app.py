"""The endpoint's routes: who may ask, how much, and what is answered."""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from critic_jax.judging.critic import Critic
from critic_jax.sampling.service import Service
from critic_jax.serving.chat import Asked, Chat, event, models
from critic_jax.serving.errors import Refused
from critic_jax.serving.judge import ServedCritic, judge
from critic_jax.serving.limits import Limits
from critic_jax.serving.metrics import Metrics
from critic_jax.serving.openapi import description
from critic_jax.serving.pictures import Pictures
from critic_jax.serving.schema import ChatBody, JudgeBody

CHAT_PATHS = (
    "/v1/chat/completions",
    "/chat/completions",
    "/v1",  # a base URL that a client posts to as it is
    "/v1/chat/completions/chat/completions",  # a whole path, taken for a base URL
)

BODY_SECONDS = 30.0
"""How long a client may take to send a body."""

_GONE = 499
"""The status of a request whose client is gone; nobody sees it but the metrics."""

Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """An OpenAI-style endpoint over a critic.

    key: what clients must send as bearer; None lets all in. ready: set once the programs are there.
    draining: set when no new request is taken.
    """

    def __init__(
        self,
        critic: Critic,
        service: Service,
        limits: Limits,
        key: str | None = None,
        keep_order: bool = False,
    ) -> None:
        self.critic, self.service, self.limits = critic, service, limits
        self.pictures = Pictures(critic.geometry, limits)
        self.chat = Chat(critic, service, self.pictures, limits, keep_order)
        self.metrics = Metrics(service)
        self.ready = self.draining = False
        self.running = self.held = 0  # requests, and bytes of their bodies
        self._key, self._created = key, int(time.time())
        self._aliases: set[str] = set()
        # A thread waits for each judgment.
        self._judges = ThreadPoolExecutor(limits.queue, "judge")

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [Route(path, self._counted(self._chat), methods=["POST"]) for path in CHAT_PATHS]
        routes += [
            Route("/v1/judge", self._counted(self._judge), methods=["POST"]),
            Route("/v1/models", self._let_in(self._models)),
            Route("/v1/models/{name:path}", self._let_in(self._model)),
            Route("/healthz", self._health),
            Route("/readyz", self._readiness),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._description),
        ]
        handlers = {Refused: _refused, 404: _unknown, 405: _unknown, Exception: _failed}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def drained(self) -> None:
        """Take no new request and wait for those that run."""
        self.draining = True
        while self.running:
            await asyncio.sleep(0.02)

    def _let_in(self, handler: Handler) -> Handler:
        async def let_in(request: Request) -> Response:
            self._check_key(request)
            return await handler(request)

        return let_in

    def _counted(self, handler: Handler) -> Handler:
        """Within the queue's length, and counted to its end."""

        async def counted(request: Request) -> Response:
            begun, path = time.monotonic(), request.url.path
            status, runs = 500, False

            def ended() -> None:
                self.running -= runs
                self.held -= getattr(request.state, "held", 0)
                self.metrics.requests.labels(path, status).inc()
                self.metrics.seconds.labels(path).observe(time.monotonic() - begun)

            response: Response | None = None
            try:
                self._admit(request)
                self.running, runs = self.running + 1, True
                response = await handler(request)
                status = response.status_code
            except Refused as refused:
                status = refused.status
                raise
            except ClientDisconnect:
                status = _GONE
                return Response(status_code=_GONE)
            finally:
                if isinstance(response, _Stream):
                    response.ends.append(ended)
                else:
                    ended()
            return response

        return counted

    def _admit(self, request: Request) -> None:
        self._check_key(request)
        if self.draining:
            raise Refused(503, "the server is stopping; ask another, or later", retry_after=5)
        if self.running >= self.limits.queue:
            said = f"{self.running} requests wait or run; come again in a moment"
            raise Refused(429, said, code="rate_limit_exceeded", retry_after=1)

    async def _chat(self, request: Request) -> Response:
        body = await self._body(request, ChatBody)
        self._note_alias(body.model)
        prepared = await asyncio.to_thread(self.chat.prepare, body)
        asked = self.chat.submit(body, prepared)
        if body.stream:
            return _Stream(self._events(asked), prepared.leave)
        try:
            await self._in_time(request, self.chat.answers(asked))
            found = self.chat.completion(asked)
        finally:
            prepared.leave()
        return JSONResponse(found)

    async def _events(self, asked: Asked) -> AsyncIterator[str]:
        until = time.monotonic() + self.limits.seconds
        chunks = self.chat.chunks(asked)
        try:
            while True:
                left = max(until - time.monotonic(), 0)
                yield event(await asyncio.wait_for(anext(chunks), left))
        except StopAsyncIteration:
            yield event("[DONE]")
        except TimeoutError:
            yield event(self._too_long().body())
        except Refused as refused:
            yield event(refused.body())

    async def _judge(self, request: Request) -> Response:
        body = await self._body(request, JudgeBody)
        self._note_alias(body.model)
        critic = ServedCritic(self.critic, self.service, self.pictures, self.limits.new_tokens)
        loop = asyncio.get_running_loop()
        try:
            judged = loop.run_in_executor(self._judges, judge, critic, body)
            said = await self._in_time(request, judged)
        finally:
            critic.leave()
        return JSONResponse(said | {"system_fingerprint": self.critic.fingerprint})

    async def _in_time(self, request: Request, work: Awaitable[Any]) -> Any:
        """What comes of work, if it comes within the limit and the client stays."""
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_left(request))
        try:
            done, _ = await asyncio.wait(
                (working, leaving),
                timeout=self.limits.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if working in done:
                return working.result()
            if leaving in done:
                raise ClientDisconnect
            raise self._too_long()
        finally:
            working.cancel()
            leaving.cancel()

    def _too_long(self) -> Refused:
        return Refused(504, f"the answer took more than {self.limits.seconds:g} s", code="timeout")

    async def _models(self, request: Request) -> Response:
        return JSONResponse(models(self.critic, self._created))

    async def _model(self, request: Request) -> Response:
        return JSONResponse(models(self.critic, self._created)["data"][0])

    async def _health(self, request: Request) -> Response:
        if not self.service.alive:
            return PlainTextResponse("the sampler has ended\n", 503)
        return PlainTextResponse("ok\n")

    async def _readiness(self, request: Request) -> Response:
        if self.draining:
            return PlainTextResponse("stopping\n", 503)
        return PlainTextResponse("ok\n") if self.ready else PlainTextResponse("warming up\n", 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _description(self, request: Request) -> Response:
        return JSONResponse(description(self._key is not None))

    def _check_key(self, request: Request) -> None:
        if self._key is None:
            return
        sent = request.headers.get("authorization", "")
        wanted = f"Bearer {self._key}"
        if not hmac.compare_digest(sent.encode("latin-1", "replace"), wanted.encode()):
            raise Refused(
                401, "the key is missing or wrong; send it as 'Authorization: Bearer KEY'"
            )

    def _note_alias(self, name: str) -> None:
        """Any model's name is answered by the one that there is; that is told once."""
        if name in ("", self.critic.name) or name in self._aliases or len(self._aliases) >= 100:
            return
        self._aliases.add(name)
        print(f"critic-jax: {name[:80]!r} is answered by {self.critic.name}", file=sys.stderr)

    async def _body(self, request: Request, kind: type[Body]) -> Body:
        """A request's JSON, checked. Raises Refused."""
        try:
            content = await asyncio.wait_for(self._content(request), BODY_SECONDS)
        except TimeoutError:
            raise Refused(408, f"the body took more than {BODY_SECONDS:g} s to arrive") from None
        return await asyncio.to_thread(_parsed, content, kind)

    async def _content(self, request: Request) -> bytes:
        most = self.limits.body
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise Refused(413, f"the body has {announced} bytes; at most {most} are read")
        content = bytearray()
        async for piece in request.stream():
            content += piece
            self.held += len(piece)
            request.state.held = len(content)
            if len(content) > most:
                raise Refused(413, f"the body has more than {most} bytes")
            if self.held > self.limits.bodies:
                raise Refused(429, "too much is on its way; come again in a moment", retry_after=1)
        return bytes(content)


class _Stream(StreamingResponse):
    """Server-sent events; `ends` are called when no more are sent, be it that the client left."""

    def __init__(self, events: AsyncIterator[str], *ends: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self.ends = list(ends)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for end in self.ends:
                end()


def _parsed(content: bytes, kind: type[Body]) -> Body:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        said = (
            "lists or objects too deep in each other"
            if isinstance(error, RecursionError)
            else error
        )
        raise Refused(400, f"the body is no JSON: {said}") from None
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"]).lstrip(
            "."
        )
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = f"{where or 'the body'}: {first['msg']}{more}"
        raise Refused(400, message[:500], where[:100] or None) from None


async def _left(request: Request) -> None:
    """Until the client is gone."""
    while not await request.is_disconnected():
        await asyncio.sleep(0.1)


async def _refused(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    return JSONResponse(refused.body(), refused.status, headers=headers)


async def _unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    said = (
        f"{request.method} {request.url.path[:200]} is nothing here; POST /v1/chat/completions is"
    )
    allowed = getattr(error, "headers", None)
    return JSONResponse(Refused(status, said).body(), status, headers=allowed)


async def _failed(request: Request, error: Exception) -> Response:
    said = Refused(500, f"the server failed: {type(error).__name__}")
    return JSONResponse(said.body(), 500)
