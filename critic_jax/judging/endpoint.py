"""An OpenAI-style endpoint for chat: requests with patience, within a budget.

The key comes from the environment alone and goes into one header alone: no message, file or
summary holds it, nor does the address, whose query may hold another.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx

from critic_jax.errors import InputError, WorkError

KEY = "OPENAI_API_KEY"
FIRST_PAUSE = 1.0
"""Seconds before the second try, where the endpoint names none; doubled before each further one."""
LONGEST_PAUSE = 60.0
PATIENCE = 600.0
"""Seconds that an endpoint may ask to wait; one that asks for more ends the run."""

_BUSY = (408, 409, 425, 429)
_REFUSED = (400, 413, 415, 422)


@dataclass(frozen=True)
class Policy:
    """How an endpoint is asked.

    concurrency: requests at a time. timeout: seconds without a sign of life. retries: further tries
    of a request that failed for want of a connection, of capacity or of a readable answer.
    request_budget: the most requests, tries included. token_budget: tokens, of prompts and
    answers as the endpoint counts them, after which no request is begun.
    """

    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 6
    request_budget: int | None = None
    token_budget: int | None = None

    def __post_init__(self) -> None:
        rules = [
            ("concurrency", self.concurrency >= 1, "at least 1"),
            ("timeout", 0 < self.timeout < math.inf, "above 0 and finite"),
            ("retries", self.retries >= 0, "0 or more"),
            ("request_budget", self.request_budget is None or self.request_budget > 0, "above 0"),
            ("token_budget", self.token_budget is None or self.token_budget > 0, "above 0"),
        ]
        for name, holds, right in rules:
            if not holds:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {right}")


def policy_from(endpoint: str | None, **given: Any) -> Policy:
    """A policy of what is given, None taken as not given.

    Raises InputError where something is given and there is no endpoint that it could be meant for.
    """
    known = {name: value for name, value in given.items() if value is not None}
    if known and endpoint is None:
        name = next(iter(known)).replace("_", "-")
        raise InputError(f"--{name} is about requests to an endpoint; name one with --endpoint")
    return Policy(**known)


@dataclass(frozen=True)
class Reply:
    """An answer; `complete` is false where it was cut at the length limit."""

    text: str
    complete: bool


@dataclass(frozen=True)
class Usage:
    """Tokens of a prompt and of its answer, as the endpoint counts them."""

    prompt: int
    answer: int


class Meter(Protocol):
    """What is told of every try of one request."""

    def begin(self) -> None:
        """A try is about to be sent. What is raised here goes to whoever asked."""

    def end(self, usage: Usage | None) -> None:
        """That try is over: what it took, None where nobody knows."""


class RefusedError(InputError):
    """The endpoint will not answer this one request; others may still be right."""


class AbandonedError(WorkError):
    """The request was given up because others have shown that it is in vain."""


class Endpoint:
    """One address that answers chat requests. Safe to use from several threads.

    requests, tokens: what was sent and counted so far.
    """

    def __init__(self, url: str, policy: Policy) -> None:
        self.policy = policy
        self.requests = self.tokens = 0
        self._address = chat_address(url)
        self.shown = self._address.split("?")[0]
        self._key = _key()
        self._trust = httpx.create_ssl_context()
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._not_before = 0.0

    def chat(self, body: Mapping[str, Any], meter: Meter | None = None) -> Reply:
        """Send one request, again where that may help. `meter` is told of each try.

        Raises RefusedError where this request is wrong, InputError where every one would be,
        WorkError where tries or budget are used up.
        """
        for left in range(self.policy.retries, -1, -1):
            self._wait_turn()
            self._spend()
            pause = FIRST_PAUSE * 2 ** (self.policy.retries - left) * random.uniform(0.5, 1)
            response = self._try(body, meter)
            if isinstance(response, str):
                trouble = response
            elif response.status_code == 200:
                if (reply := self._read(response)) is not None:
                    return reply
                trouble = "answers, but not with a chat completion"
            else:
                trouble = self._trouble(response)
                pause = self._hold(response) or pause
            if left:
                self._stopped.wait(min(pause, LONGEST_PAUSE))
        raise WorkError(
            f"{self.shown}: {trouble}, {self.policy.retries + 1} times; "
            "run the same command again to go on"
        )

    def stop(self) -> None:
        """Let threads that wait give up, until `go_on`."""
        self._stopped.set()

    def go_on(self) -> None:
        """Answer requests again."""
        self._stopped.clear()

    def _try(self, body: Mapping[str, Any], meter: Meter | None) -> httpx.Response | str:
        """The response to one request, or why there is none."""
        usage: Usage | None = None
        if meter is not None:
            meter.begin()
        try:
            response = self._client().post(self._address, json=body)
            usage = _usage(response)
        except httpx.TimeoutException:
            return f"no answer in {self.policy.timeout:g} s"
        except httpx.TransportError as error:
            return f"cannot be reached ({self._clean(str(error)) or type(error).__name__})"
        finally:
            if meter is not None:
                meter.end(usage)
        return response

    def _client(self) -> httpx.Client:
        """This thread's own client, which ends with it: a pool of connections that threads share
        looks at all of them for each request, one thread at a time."""
        client: httpx.Client | None = getattr(self._of_thread, "client", None)
        if client is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            client = httpx.Client(headers=headers, timeout=self.policy.timeout, verify=self._trust)
            self._of_thread.client = client
        return client

    def _wait_turn(self) -> None:
        """Wait as long as the endpoint wants all to wait."""
        while not self._stopped.is_set():
            wait = self._not_before - time.monotonic()
            if wait <= 0:
                return
            self._stopped.wait(wait)
        raise AbandonedError(f"{self.shown}: given up")

    def _spend(self) -> None:
        policy = self.policy
        with self._lock:
            for name, used, budget in (
                ("requests", self.requests, policy.request_budget),
                ("tokens", self.tokens, policy.token_budget),
            ):
                if budget is not None and used >= budget:
                    raise WorkError(
                        f"{self.shown}: the budget of {budget:,} {name} is used up; what was "
                        "judged is kept, and the same command goes on with a new budget"
                    )
            self.requests += 1

    def _read(self, response: httpx.Response) -> Reply | None:
        """The answer in a response; None where it holds none. Counts its tokens."""
        try:
            said = response.json()
            choice = said["choices"][0]
            content = choice["message"].get("content") or ""
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            text = content.encode("utf-8", "replace").decode()
            usage = said.get("usage") or {}
            tokens = usage.get("total_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        if isinstance(tokens, int):
            with self._lock:
                self.tokens += tokens
        elif self.policy.token_budget is not None:
            raise InputError(
                f"{self.shown}: does not say how many tokens an answer took (usage), so that a "
                "token budget cannot be kept; give a request budget"
            )
        return Reply(text, choice.get("finish_reason") != "length")

    def _trouble(self, response: httpx.Response) -> str:
        """What is wrong, where another try may help; raises where it cannot."""
        status, code, said = response.status_code, *self._error(response)
        told = f"HTTP {status}" + (f" ({said})" if said else "")
        if status in (401, 403):
            hint = f"is the key in {KEY} right?" if self._key else f"set {KEY} to a key"
            raise InputError(f"{self.shown}: does not let us in: {told}; {hint}")
        if code == "insufficient_quota":
            raise WorkError(f"{self.shown}: the account's quota is used up: {told}")
        if status in _REFUSED:
            raise RefusedError(f"{self.shown}: refuses this request: {told}")
        if status in _BUSY or status >= 500:
            return told
        raise InputError(f"{self.shown}: {told}; is the address right, and the model's name?")

    def _hold(self, response: httpx.Response) -> float | None:
        """Let all wait as long as a response says; None where it says nothing."""
        wait = retry_after(response.headers.get("Retry-After"))
        if wait is None:
            return None
        if wait > PATIENCE:
            raise WorkError(
                f"{self.shown}: asks to come back in {wait:,.0f} s; run the same command then"
            )
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + wait)
        return wait

    def _error(self, response: httpx.Response) -> tuple[str, str]:
        """Code and words of an error, as short as a line wants them."""
        try:
            error = response.json()["error"]
        except (ValueError, LookupError, TypeError):
            return "", self._clean(response.text)
        if isinstance(error, Mapping):
            return str(error.get("code") or ""), self._clean(str(error.get("message") or ""))
        return "", self._clean(str(error))

    def _clean(self, text: str) -> str:
        """Somebody else's words for a message: on one line, short, and without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join(text.encode("utf-8", "replace").decode().split())
        return text if len(text) <= 200 else text[:197] + "..."


def _usage(response: httpx.Response) -> Usage | None:
    """What a response took: nothing where it is an error; None where it does not say."""
    if response.status_code != 200:
        return Usage(0, 0)
    try:
        said = response.json()["usage"]
        prompt, answer = said["prompt_tokens"], said["completion_tokens"]
    except (ValueError, LookupError, TypeError):
        return None
    return Usage(prompt, answer) if isinstance(prompt, int) and isinstance(answer, int) else None


def chat_address(url: str) -> str:
    """Where chat requests go: `url` may be the host, its base path (/v1) or the whole path.

    Raises InputError for what is no http address, and for one that holds a password.
    """
    try:
        parts = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise InputError(f"endpoint: no address ({error}); give one like {_LIKE}") from None
    if parts.scheme not in ("http", "https") or not parts.host:
        raise InputError(f"endpoint: {url!r} is no http address; give one like {_LIKE}")
    if parts.userinfo:
        raise InputError(f"endpoint: holds a name or password; put a key into {KEY} instead")
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path or '/v1'}/chat/completions"
    return str(parts.copy_with(path=path))


_LIKE = "https://api.openai.com/v1"


def retry_after(value: str | None) -> float | None:
    """Seconds from now that a Retry-After header means (RFC 9110, 10.2.3): a number or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not all(character.isprintable() for character in key):
        raise InputError(f"{KEY}: holds characters that no key has")
    return key
