"""A stand-in for an OpenAI-style endpoint: answers by a function, misbehaves as it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any

Say = Callable[[str], str]


@dataclass(frozen=True)
class Fault:
    """One bad answer: a status with a body and headers, after `delay` seconds; None hangs up."""

    status: int | None
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass
class Chat:
    """What the endpoint says and was asked.

    say: the answer to a prompt's text. faults: bad answers to the next requests, in turn. when: a
    fault for a prompt's text, if any. key: what it lets in; None lets in all. usage: tokens that
    it counts for an answer; None counts none; a function counts prompt and answer by their texts.
    """

    say: Say = lambda prompt: "Score: 50"
    faults: list[Fault] = field(default_factory=list)
    when: Callable[[str], Fault | None] = lambda prompt: None
    key: str | None = None
    usage: int | Callable[[str, str], tuple[int, int]] | None = 10
    delay: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most: int = 0
    now: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def prompts(self) -> list[str]:
        return [text_of(body) for body in self.bodies]


def text_of(body: dict[str, Any]) -> str:
    (message,) = body["messages"]
    return "".join(part.get("text", "") for part in message["content"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: Chat

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        chat = self.chat
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with chat.lock:
            chat.now += 1
            chat.most = max(chat.most, chat.now)
            chat.bodies.append(body)
            chat.paths.append(self.path)
            chat.keys.append(self.headers.get("Authorization"))
            chat.times.append(monotonic())
            fault = chat.faults.pop(0) if chat.faults else chat.when(text_of(body))
        try:
            sleep(chat.delay)
            if chat.key is not None and self.headers.get("Authorization") != f"Bearer {chat.key}":
                said = f"Incorrect API key provided: {self.headers.get('Authorization')}"
                return self._send(401, json.dumps({"error": {"message": said}}), {})
            if fault is not None:
                return self._fault(fault)
            message = {"role": "assistant", "content": chat.say(text_of(body))}
            said = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            if callable(chat.usage):
                prompt, answer = chat.usage(text_of(body), message["content"])
                said["usage"] = {
                    "prompt_tokens": prompt,
                    "completion_tokens": answer,
                    "total_tokens": prompt + answer,
                }
            elif chat.usage is not None:
                said["usage"] = {"total_tokens": chat.usage}
            self._send(200, json.dumps(said), {})
        finally:
            with chat.lock:
                chat.now -= 1

    def _fault(self, fault: Fault) -> None:
        sleep(fault.delay)
        if fault.status is None:
            self.close_connection = True
            return
        self._send(fault.status, fault.body, fault.headers)

    def _send(self, status: int, body: str, headers: dict[str, str]) -> None:
        content = body.encode()
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # whoever asked has given up
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # connections that come at once; five by default


@contextmanager
def chatting(chat: Chat) -> Iterator[Chat]:
    """The endpoint at `chat.url`, while the block lasts."""
    handler = type("Handler", (_Handler,), {"chat": chat})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
