"""Requests in the shapes that other harnesses send: what comes back is what they read.

VLMEvalKit's, from open-compass/VLMEvalKit, vlmeval/api/gpt.py: it posts JSON to the URL of
OPENAI_API_BASE as it is, with the key as bearer; pictures are JPEGs wherever they stand in a
message, every turn's content is a list of parts, and `n` is sent by some versions and not by
others. It reads choices[0].message.content, or the deltas of a stream line by line.
"""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from endpoint import NEW_TOKENS, Served, Serving, picture_bytes
from PIL import Image

KEY = "sk-harness"
FIRST, LAST = "Look at the picture:", "Which digit is it?"


@pytest.fixture(scope="module")
def judge(serving: Serving) -> Iterator[Served]:
    with serving(key=KEY) as found:
        found.client.headers["Authorization"] = f"Bearer {KEY}"
        yield found


def jpeg(seed: int = 0) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture_bytes(seed))).save(buffer, format="JPEG")
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def plain(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": content[0] if isinstance(content[0], str) else list(content)}


# What is sent, and the same in the plainest words.
CONVERSATIONS = {
    "text": ([plain("user", text(LAST))], [plain("user", LAST)]),
    "system": (
        [plain("system", "You count."), plain("user", text(LAST))],
        [plain("system", "You count."), plain("user", LAST)],
    ),
    "picture between texts": (
        [plain("user", text(FIRST), jpeg(), text(LAST))],
        [plain("user", jpeg(), text(f"{FIRST}\n{LAST}"))],
    ),
    "two pictures": (
        [plain("user", jpeg(), text(FIRST), jpeg(1), text(LAST))],
        [plain("user", jpeg(), jpeg(1), text(f"{FIRST}\n{LAST}"))],
    ),
    "turns": (
        [
            plain("user", jpeg(), text(FIRST)),
            plain("assistant", text("It is a 7.")),
            plain("user", text(LAST)),
        ],
        [plain("user", jpeg(), text(FIRST)), plain("assistant", "It is a 7."), plain("user", LAST)],
    ),
}

# What else is in the body: of the versions so far, and for models that reason.
WORDS = {
    "with n": {"n": 1, "temperature": 0, "max_tokens": 2048},
    "without n": {"temperature": 0, "max_tokens": 2048},
    "reasoning": {"n": 1, "max_completion_tokens": 2048},
    "other fields": {"temperature": 0, "max_tokens": 2048, "reasoning_effort": "high"},
    "stream": {"temperature": 0, "max_tokens": 2048, "stream": True},
}


def vlmevalkit(url: str, messages: Any, words: dict[str, Any], key: str = KEY) -> httpx.Response:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    payload = {"model": "gpt-4o-2024-11-20", "messages": messages} | words
    return httpx.post(url, headers=headers, content=json.dumps(payload), timeout=60)


def read(found: httpx.Response, stream: bool) -> str:
    """The answer as it is read there."""
    if not stream:
        answer: str = found.json()["choices"][0]["message"]["content"]
        return answer.strip()
    lines = [line.strip() for line in found.text.splitlines()]
    data = [line[5:].strip() for line in lines if line.startswith("data:")]
    assert data[-1] == "[DONE]"
    deltas = [json.loads(one)["choices"][0]["delta"] for one in data[:-1]]
    return "".join(delta.get("content") or "" for delta in deltas).strip()


@pytest.mark.parametrize("path", ["/v1", "/v1/chat/completions"])
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_vlmevalkit(judge: Served, conversation: str, words: str, path: str) -> None:
    sent, same = CONVERSATIONS[conversation]
    found = vlmevalkit(judge.url + path, sent, WORDS[words])
    assert found.status_code == 200, found.text
    own = judge.said(messages=same, temperature=0, max_tokens=NEW_TOKENS)
    assert read(found, words == "stream") == own.strip() != ""


def test_its_conversations_are_answered_differently(judge: Served) -> None:
    said = {judge.said(messages=same) for _, same in CONVERSATIONS.values()}
    assert len(said) == len(CONVERSATIONS)


def test_without_the_key_it_reads_a_status_and_no_answer(judge: Served) -> None:
    sent, _ = CONVERSATIONS["text"]
    found = vlmevalkit(f"{judge.url}/v1", sent, WORDS["with n"], key="sk-other")
    assert found.status_code == 401 and "choices" not in found.json()
