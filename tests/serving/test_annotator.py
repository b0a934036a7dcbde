"""`critic-data pointwise` with the endpoint for its annotator: a critic makes critic data."""

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from data_tools_helpers import write_answers
from endpoint import NEW_TOKENS, Served, Serving
from serve_process import ServeProcess

from critic_data.cli import main
from critic_data.making.cases import read_cases
from critic_data.making.pointwise import BENCHMARKS, draw
from critic_jax.data import read_json_lines
from critic_jax.files import write_json_lines
from critic_jax.judging import endpoint
from critic_jax.judging.templates import get_template

pytestmark = pytest.mark.slow

COUNT = 50


@pytest.fixture(autouse=True)
def endpoint_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def pointwise(url: str, source: Path, output: Path, *more: str) -> int:
    words = ["pointwise", str(source), "--output", str(output), "--endpoint", url]
    return main([*words, "--model", "critic", *more])


def lines(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_json_lines(path)]


def ids(found: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(one["id"] for one in found)


def answered(served: Served) -> int:
    """Requests that the endpoint has answered so far; it has refused none."""
    requests = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in served.client.get("/metrics").text.splitlines()
        if line.startswith("critic_jax_requests_total{")
    }
    assert all('status="200"' in name for name in requests)
    return int(sum(requests.values()))


@pytest.mark.parametrize("reasks", [0, 1])
def test_each_answer_is_asked_about_and_told_of_once(
    serving: Serving, tmp_path: Path, reasks: int
) -> None:
    """A critic of random weights seldom says what can be read; then the answer is listed."""
    source, output = write_answers(tmp_path, COUNT), tmp_path / "out"
    more = ("--reasks", str(reasks), "--max-new-tokens", str(NEW_TOKENS))
    with serving() as served:
        assert pointwise(f"{served.url}/v1", source, output, *more) == 0
        annotations = lines(output / "annotations.jsonl")
        records, rejected = (lines(output / f"{name}.jsonl") for name in ("records", "rejected"))
        assert ids(annotations) == ids(lines(source)) == ids(records + rejected)
        assert ids(rejected) == ids([line for line in annotations if line["why"]])
        assert answered(served) == sum(line["asks"] for line in annotations)
        assert {line["asks"] for line in annotations if line["why"]} == {1 + reasks}
        assert json.loads((output / "summary.json").read_text())["records"] == len(records)
        left = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
        asked = answered(served)
        assert pointwise(f"{served.url}/v1", source, output, *more) == 0
        assert answered(served) == asked
        assert left == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
        if reasks == 0:
            check_texts(served, source, {line["id"]: line["text"] for line in annotations})


def check_texts(served: Served, source: Path, texts: dict[str, str]) -> None:
    """Each is what the critic says to the prompt that was drawn for its answer."""
    drawn, _ = draw(read_cases(source)[0], [get_template(name) for name in BENCHMARKS], 0)
    for one in drawn:
        (picture,) = one.case.images
        assert isinstance(picture, Path)
        url = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
        content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": one.prompt}]
        messages = [{"role": "user", "content": content}]
        own = served.said(messages=messages, temperature=0, max_tokens=NEW_TOKENS)
        assert texts[one.case.id] == own
    assert len(set(texts.values())) > COUNT / 2


@pytest.fixture(scope="module")
def digits_server(digits_run: Path) -> Iterator[ServeProcess]:
    limits = ("--prompt-tokens", 512, "--new-tokens", 128, "--batch", 8)
    found = ServeProcess("--model", digits_run / "critic", *limits)
    yield found
    found.kill()


@pytest.mark.xdist_group("digits")
def test_a_trained_critic_annotates_as_it_judges(
    digits_run: Path, digits_server: ServeProcess, tmp_path: Path
) -> None:
    """Its judgments of answers to held-out scans become records, and say what `critic-jax judge`
    made it say; programs compiled otherwise may turn a token here and there."""
    heldout = digits_run / "heldout"
    singles = [line for line in lines(heldout / "input.jsonl") if "response" in line][:COUNT]
    source = write_json_lines(heldout / "singles.jsonl", singles)
    assert pointwise(digits_server.url(), source, tmp_path / "out") == 0
    records = lines(tmp_path / "out/records.jsonl")
    assert len(singles) == COUNT and len(records) >= 0.9 * COUNT
    assert ids(records + lines(tmp_path / "out/rejected.jsonl")) == ids(singles)
    raw = {line["id"]: line["raw"] for line in lines(heldout / "results.jsonl")}
    same = [record["conversations"][1]["value"] == raw[record["id"]] for record in records]
    print(f"{len(records)} of {COUNT} annotations read, {sum(same)} as critic-jax judge has them")
    assert sum(same) >= 0.9 * COUNT
    assert main(["validate", str(tmp_path / "out/records.jsonl")]) == 0
    assert digits_server.stop() == 0
