"""lmms-eval, as it is published, takes the endpoint for a judge.

Its clients and its tasks are told where the endpoint is, by the environment variables that they
read, and nothing else; what they hand on is what the critic says to the same prompt.
"""

import base64
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import NEW_TOKENS, Served, Serving, picture_bytes
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lmms-eval")]

KEY = "sk-harness"
PROGRAM = Path(__file__).parents[1] / "lmms_eval_calls.py"

# What its judges and these tasks import, by module; the models it evaluates need far more.
NEEDED = {
    "lmms_eval": "lmms_eval==0.7.3",
    **{name: name for name in ("loguru", "requests", "aiohttp", "yaml", "tqdm", "pandas")},
    **{"yaml": "pyyaml", "dateutil": "python-dateutil", "six": "six"},
}

Call = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def judge(serving: Serving) -> Iterator[Served]:
    with serving(key=KEY) as found:
        found.client.headers["Authorization"] = f"Bearer {KEY}"
        yield found


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Runs a call of lmms_eval_calls.py with the package in reach."""
    folder = tmp_path_factory.mktemp("lmms_eval")
    lacking = [package for name, package in NEEDED.items() if not importlib.util.find_spec(name)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]
    subprocess.run([*pip, "--target", folder, *lacking], check=True, timeout=600)
    picture = folder / "digit.png"
    picture.write_bytes(picture_bytes())

    def call(name: str, **variables: str) -> list[dict[str, Any]]:
        environment = os.environ | {"PYTHONPATH": str(folder), "NO_PROXY": "127.0.0.1"}
        for set_elsewhere in ("API_TYPE", "MODEL_VERSION", "OPENAI_API_KEY"):
            environment.pop(set_elsewhere, None)
        done = subprocess.run(
            [sys.executable, PROGRAM, name, picture],
            env=environment | variables,
            cwd=tmp_path_factory.mktemp("calls"),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found

    return call


def pictures() -> dict[str, str]:
    """The picture as lmms-eval sends it: as it is, or as a JPEG."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture_bytes())).save(buffer, format="JPEG", quality=85)
    contents = {"png": picture_bytes(), "jpeg": buffer.getvalue()}
    return {
        kind: f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        for kind, content in contents.items()
    }


def own(judge: Served, asked: dict[str, Any], max_tokens: int) -> str:
    """What the endpoint says when it is asked the plain way."""
    urls = [pictures()[kind] for kind in asked.get("pictures", ())]
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [
        *({"role": "system", "content": asked["system"]} for _ in range("system" in asked)),
        {"role": "user", "content": [*content, {"type": "text", "text": asked["prompt"]}]},
    ]
    words = {"response_format": {"type": "json_object"}} if asked.get("json") else {}
    return judge.said(messages=messages, temperature=0, max_tokens=max_tokens, **words).strip()


def check(judge: Served, answers: list[dict[str, Any]], max_tokens: int = 32) -> None:
    """Every answer is the critic's own, and none a failure that was passed over."""
    assert [a["content"].strip() for a in answers] == [own(judge, a, max_tokens) for a in answers]
    assert all(answer["content"] and answer.get("success", True) for answer in answers)
    assert {answer.get("model", "tiny") for answer in answers} == {"tiny"}


@pytest.mark.parametrize("path", ["/v1", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("name", "count"),
    [("with_openai", 9), ("with_requests", 9), ("with_async_openai", 24), ("with_aiohttp", 24)],
)
def test_its_judges(judge: Served, call: Call, name: str, count: int, path: str) -> None:
    """One by one and side by side, with pictures; the URL with the path and without."""
    answers = call(name, OPENAI_API_KEY=KEY, OPENAI_API_URL=judge.url + path)
    check(judge, answers)
    assert len(answers) == count and len({answer["content"] for answer in answers}) > count / 2
    for answer in answers:
        if "usage" in answer:
            assert 0 < answer["usage"]["completion_tokens"] <= 32


def test_its_judge_in_other_words(judge: Served, call: Call) -> None:
    answers = call("in_other_words", OPENAI_API_KEY=KEY, OPENAI_API_URL=f"{judge.url}/v1")
    check(judge, answers)
    assert answers[1]["content"].startswith("{")


def test_its_local_judge(served: Served, call: Call) -> None:
    check(served, call("with_local", LLM_JUDGE_URL=f"{served.url}/v1/chat/completions"))


@pytest.mark.parametrize("path", ["/v1", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("name", "max_tokens"),
    [
        ("wild_vision", NEW_TOKENS),
        ("llava_in_the_wild", NEW_TOKENS),
        ("mmvet", NEW_TOKENS),
        ("mia_bench", 32),
        ("hallusion_bench", 16),
    ],
)
def test_its_tasks(judge: Served, call: Call, name: str, max_tokens: int, path: str) -> None:
    """Whether a task asks through the judges above or posts to the URL as it is."""
    answers = call(name, OPENAI_API_KEY=KEY, OPENAI_API_URL=judge.url + path)
    check(judge, answers, max_tokens)


def test_who_has_another_key_is_told(judge: Served, call: Call) -> None:
    with pytest.raises(AssertionError, match="the key is missing or wrong"):
        call("with_openai", OPENAI_API_KEY="sk-other", OPENAI_API_URL=f"{judge.url}/v1")
