"""Hostile and mistaken requests: each is refused in one line, and others are served meanwhile."""

import base64
import io
import json
import resource
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from endpoint import Served, Serving, data_url, picture_bytes, wait_for
from PIL import Image

from critic_jax.serving import app, server

TEXT = {"role": "user", "content": "Which digit is it?"}


def shown(url: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": url}
    return {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]}


def encoded(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """A small file of very many pixels."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


TWO = shown(data_url())["messages"][0]["content"]

WRONG: list[tuple[Any, str]] = [
    (b"", "the body is no JSON"),
    (b"\xff\xfe{}", "the body is no JSON"),
    (b"{" * 100_000, "the body is no JSON"),
    (b"[" * 100_000 + b"]" * 100_000, "too deep in each other"),
    (b'{"messages": 1e999999}', "messages: Input should be a valid list"),
    (b'{"n": 1' + b"0" * 5000 + b"}", "the body is no JSON"),
    ([], "the body: Input should be a valid dictionary"),
    ({}, "messages: Field required"),
    ({"messages": []}, "messages: List should have at least 1 item"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role: Input should be"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "\ud800"}]}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "half of a surrogate pair"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "the last message must be a user"),
    ({"messages": [TEXT, {"role": "system", "content": "x"}]}, "stands behind others"),
    ({"messages": [TEXT], "n": 17}, "n is 17; a request has at most 16"),
    ({"messages": [TEXT], "n": 10**30}, "a request has at most 16"),
    ({"messages": [TEXT], "temperature": -1}, "temperature: Input should be greater"),
    (
        b'{"messages": [{"role": "user"}], "temperature": NaN}',
        "temperature: Input should be a finite number",
    ),
    ({"messages": [TEXT], "top_logprobs": 21, "logprobs": True}, "top_logprobs: Input should"),
    ({"messages": [TEXT], "presence_penalty": 0.5}, "knows repetition_penalty only"),
    ({"messages": [TEXT], "tools": [{}]}, "this model calls no tools"),
    ({"messages": [TEXT], "stop": ["a", ""]}, "stop is ('a', ''); it must be strings that"),
    ({"messages": [TEXT], "max_tokens": 0}, "max_tokens: Input should be greater"),
    ({"messages": [{"role": "user", "content": "a " * 9000}]}, "at most 2048 are read"),
    (
        {"messages": [TEXT], "response_format": {"type": "json_schema"}},
        "json_schema is missing",
    ),
    (
        {
            "messages": [TEXT],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"type": "string", "pattern": "(a+)+$"}},
            },
        },
        "schema.pattern: cannot be held to",
    ),
    (shown("http://169.254.169.254/latest/meta-data"), "makes no outgoing request"),
    (shown("https://example.org/x.png"), "a URL of kind 'https' is not read"),
    (shown("gopher://x/_"), "makes no outgoing request"),
    (shown("file:///etc/passwd"), "no such file in the folders"),
    (shown("file://otherhost/etc/passwd"), "no such file in the folders"),
    (shown("/etc/passwd"), "no such file in the folders"),
    (shown("../../../../etc/passwd"), "no such file in the folders"),
    (shown("digit.png\0.txt"), "no such file in the folders"),
    (shown("."), "no such file in the folders"),
    (shown("x" * 10_000), "no such file in the folders"),
    (shown(""), "no such file in the folders"),
    (shown("data:image/png;base64"), "has no comma"),
    (shown("data:image/png,abc"), "is not base64"),
    (shown("data:image/png;base64,%%%"), "holds no valid base64"),
    (shown("data:image/png;base64,\ud800"), "holds no valid base64"),
    (shown("data:image/png;base64,"), "the file is empty"),
    (shown(encoded(SVG, "svg+xml")), "is not a picture in a format that can be read"),
    (shown(encoded(picture_bytes()[:60])), "damaged or cut off"),
    (shown(encoded(bomb(8000, 8000))), "is too large (8,000 x 8,000 pixels)"),
    (shown(encoded(bomb())), "is too large (400,000,000 pixels)"),
    (shown({"href": "x"}), "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": TWO * 17}]},
        "17 pictures; a request has at most 16",
    ),
    (
        {
            "messages": [
                {"role": "system", "content": TWO},
                TEXT,
            ]
        },
        "a picture in a message of system",
    ),
]


@pytest.mark.parametrize(("body", "said"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_request_is_refused(served: Served, body: Any, said: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert said in served.refusal(400, content)
    assert served.chat().status_code == 200


def test_links_out_of_the_folder_are_not_followed(
    served: Served, pictures: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture_bytes())
    link, folder = pictures / "link.png", pictures / "folder"
    link.symlink_to(secret)
    folder.symlink_to(tmp_path)
    circle = pictures / "circle.png"
    circle.symlink_to(circle)
    try:
        for url in ("link.png", "folder/secret.png", str(secret), "circle.png"):
            assert "no such file in the folders" in served.refusal(400, shown(url))
    finally:
        for one in (link, folder, circle):
            one.unlink()


def test_without_folders_no_file_is_read(serving: Serving) -> None:
    with serving() as other:
        assert "no files are read" in other.refusal(400, shown("/etc/passwd"))


def test_a_large_body_is_refused_before_it_is_read(served: Served) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    where = urlsplit(served.url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(4096)
    assert b" 413 " in answer.split(b"\r\n")[0] and b"at most 67108864 are read" in answer

    def pieces() -> Any:
        for _ in range(80):
            yield b" " * 2**20

    # It may hang up on what it will not read before the client looks for the answer.
    with suppress(httpx.WriteError):
        assert served.client.post("/v1/chat/completions", content=pieces()).status_code == 413
    assert served.chat().status_code == 200
    # In KiB: the pieces that were read, and some room, but never the gigabyte.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


def test_a_client_that_sends_slowly_is_hung_up_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(app, "BODY_SECONDS", 0.5)
    where = urlsplit(served.url)
    address = (where.hostname, where.port)
    slow = [socket.create_connection(address, timeout=20) for _ in range(20)]
    for connection in slow:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
    assert served.chat().status_code == 200
    for connection in slow:
        assert connection.recv(1024) == b""
        connection.close()
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        )
        assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]


def test_who_has_no_key_is_not_let_in(serving: Serving) -> None:
    with serving(key="sesame") as other:
        assert "the key is missing or wrong" in other.refusal(401, {"messages": [TEXT]})
        assert other.client.get("/v1/models").status_code == 401
        assert other.client.get("/healthz").status_code == 200
        for sent, status in (("Bearer sesame", 200), ("Bearer sesam\u00e9", 401), ("sesame", 401)):
            headers = {"Authorization": sent.encode("latin-1")}
            found = other.client.get("/v1/models", headers=headers)  # type: ignore[arg-type]
            assert found.status_code == status


def test_what_is_not_there_is_told(served: Served) -> None:
    for method, path, status in (("GET", "/v1/chat/completions", 405), ("POST", "/v2/x", 404)):
        found = served.client.request(method, path)
        assert found.status_code == status
        assert "POST /v1/chat/completions is" in found.json()["error"]["message"]


def test_a_full_queue_says_when_to_come_again(serving: Serving) -> None:
    with serving({"queue": 2}) as other:
        answers: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=other.url, timeout=60) as client:
                body = {"messages": [TEXT], "max_tokens": 64, "temperature": 1.5, "n": 16}
                answers.append(client.post("/v1", json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: other.endpoint.running == 2)
        found = other.chat()
        assert found.status_code == 429 and found.headers["retry-after"] == "1"
        assert "2 requests wait or run" in found.json()["error"]["message"]
        for thread in threads:
            thread.join()
        assert answers == [200, 200] and other.chat().status_code == 200


def test_bodies_together_are_bounded(serving: Serving) -> None:
    body = json.dumps({"messages": [TEXT], "max_tokens": 2, "user": "x" * 3000}).encode()
    with serving({"bodies": 10_000}) as other:
        where = urlsplit(other.url)
        head = f"POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        slow = [socket.create_connection((where.hostname, where.port)) for _ in range(3)]
        for connection in slow:
            connection.sendall(head + body[:-1])
        wait_for(lambda: other.endpoint.held > 9000)
        assert "too much is on its way" in other.refusal(429, body)
        for connection in slow:
            connection.sendall(body[-1:])
            assert b" 200 " in connection.recv(4096).split(b"\r\n")[0]
            connection.close()
        assert other.chat().status_code == 200
        wait_for(lambda: other.endpoint.held == 0)


def test_an_answer_that_takes_too_long_is_given_up(serving: Serving) -> None:
    with serving({"seconds": 0.01}) as other:
        body = {"messages": [TEXT], "max_tokens": 64, "n": 16, "temperature": 1.5}
        assert "took more than 0.01 s" in other.refusal(504, body)
        asked = {"question": "What?", "responses": ["a", "b", "c", "d"]}
        assert "took more than 0.01 s" in other.refusal(504, asked, "/v1/judge")
        with other.client.stream("POST", "/v1", json=body | {"stream": True}) as stream:
            lines = [line for line in stream.iter_lines() if line]
        assert "took more than 0.01 s" in lines[-1] and "[DONE]" not in lines[-1]
        wait_for(lambda: not other.endpoint.service.active and not other.endpoint.running)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slots(served: Served, stream: bool) -> None:
    body = {"messages": [TEXT], "max_tokens": 64, "n": 16, "temperature": 1.5, "stream": stream}
    content = json.dumps(body).encode()
    where = urlsplit(served.url)
    for _ in range(4):
        with socket.create_connection((where.hostname, where.port)) as connection:
            head = f"POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.sendall(head.encode() + content)
            wait_for(lambda: served.endpoint.running > 0)
    begun = time.monotonic()
    wait_for(lambda: not served.endpoint.running and not served.endpoint.service.active)
    assert time.monotonic() - begun < 20
    assert served.chat().status_code == 200


def test_numbers_for_prometheus(served: Served) -> None:
    for number in range(2):
        served.chat(f"Which digit is it? {'It may be any. ' * 20} {number}")
    served.client.post("/v1/chat/completions", content=b"{")
    page = served.client.get("/metrics").text
    numbers = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    told = 'critic_jax_requests_total{path="/v1/chat/completions",status="%d"}'
    assert float(numbers[told % 200]) >= 1 and float(numbers[told % 400]) >= 1
    for name in ("prompt_tokens", "answer_tokens", "tokens_read", "tokens_taken_over"):
        assert float(numbers[f"critic_jax_{name}_total"]) > 0
    assert float(numbers["critic_jax_requests_running"]) == 0


def test_health_ends_with_the_sampler(serving: Serving) -> None:
    with serving() as other:
        assert other.client.get("/healthz").status_code == 200
        other.endpoint.service.close()
        assert other.client.get("/healthz").status_code == 503
        assert "has been closed" in other.refusal(503, {"messages": [TEXT]})
