"""`critic-jax serve` as a command of its own: it starts, answers, and stops when it is asked to."""

import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serve_process import ServeProcess
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import save_checkpoint
from critic_jax.cli import main
from critic_jax.demo.digits import make_digits, write_pictures

ASKED = {"messages": [{"role": "user", "content": "Which digit is it?"}], "max_tokens": 48}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "tiny"
    save_checkpoint(folder, tiny_checkpoint(max_new_tokens=48))
    return folder


@pytest.fixture
def serving(checkpoint: Path) -> Iterator[ServeProcess]:
    found = ServeProcess(
        *("--model", checkpoint, "--prompt-tokens", 512, "--new-tokens", 48, "--batch", 4)
    )
    yield found
    found.kill()


def test_it_warms_up_answers_and_finishes_what_runs(serving: ServeProcess) -> None:
    """SIGTERM under load: who is being answered is answered, who comes then is told, code 0."""
    url = serving.url()
    with httpx.Client(timeout=60) as client:
        assert client.get(url.replace("/v1", "/healthz")).status_code == 200
        assert float(serving.find(r"ready after ([\d.]+) s")) > 0
        assert client.get(url.replace("/v1", "/readyz")).status_code == 200
        answers: list[int] = []

        def ask(number: int) -> None:
            body: dict[str, Any] = ASKED | {"n": 4, "temperature": 1.0, "seed": number}
            found = client.post(url, json=body)
            answers.append(found.status_code)
            assert len(found.json()["choices"]) == 4

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        metrics = url.replace("/v1", "/metrics")
        while "critic_jax_requests_running 0.0" in client.get(metrics).text:
            time.sleep(0.005)
        serving.process.send_signal(signal.SIGTERM)
        serving.find(r"(stopping); \d+ running requests are finished first")
        try:
            late = httpx.post(url, json=ASKED)
            assert late.status_code == 503 and late.headers["retry-after"] == "5"
            assert "the server is stopping" in late.json()["error"]["message"]
            assert client.get(url.replace("/v1", "/readyz")).text == "stopping\n"
        finally:
            for thread in threads:
                thread.join()
    assert answers == [200] * 6
    assert serving.process.wait(60) == 0


def test_the_pages_clients(
    serving: ServeProcess, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """The Python of docs/serve.md, as it stands there but for the port."""
    write_pictures(make_digits().heldout, tmp_path / "runs/demo/heldout/pictures")
    monkeypatch.chdir(tmp_path)
    url = serving.url()
    page = (Path(__file__).parents[2] / "docs/serve.md").read_text()
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    for block in blocks:
        exec(block.replace("http://127.0.0.1:8000/v1", url), names)
    assert len(blocks) == 2
    assert names["answer"].model == "tiny" and names["answer"].usage.completion_tokens <= 16
    assert names["ranked"]["state"] in ("value", "tie", "unparsed")
    assert len(names["ranked"]["pairs"]) == 6
    assert str(names["answer"].usage.total_tokens) in capsys.readouterr().out


def test_an_idle_server_stops_at_once(checkpoint: Path) -> None:
    process = ServeProcess("--model", checkpoint, "--prompt-tokens", 64, "--no-warm-up")
    process.find(r"(ready) after")
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "MODEL", "--picture-folders", "nowhere"], "nowhere is no folder"),
        (["--model", "MODEL", "--host", "203.0.113.7"], "203.0.113.7:8000: cannot be listened at"),
        (["--model", "MODEL", "--port", "99999"], "127.0.0.1:99999: cannot be listened at"),
        (["--model", "MODEL", "--port", "0", "--memory", "1KB"], "a memory of 1000 bytes holds"),
        (["--model", "no/such/folder/anywhere", "--port", "0"], "no/such/folder/anywhere"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    words: list[str], said: str, checkpoint: Path, capsys: Any
) -> None:
    assert main(["serve", *(str(checkpoint) if w == "MODEL" else w for w in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
