"""Another judge behind an endpoint: what is sent, what is tried again, what ends a run."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import Chat, Fault, chatting
from PIL import Image

from critic_jax.cli import main
from critic_jax.errors import InputError, WorkError
from critic_jax.files import write_json_lines
from critic_jax.judging import endpoint as endpoint_module
from critic_jax.judging.ask import Ask
from critic_jax.judging.endpoint import Policy, RefusedError, chat_address, retry_after
from critic_jax.judging.remote import RemoteCritic, sent_picture
from critic_jax.judging.templates import get_template

SECRET = "sk-do-not-write-me-0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def chat() -> Iterator[Chat]:
    with chatting(Chat()) as running:
        yield running


def single(name: int, **more: Any) -> dict[str, Any]:
    return {"id": f"q{name}", "question": f"Question {name}?", "response": "A 7."} | more


def asks(count: int) -> list[Ask]:
    template = get_template("critic-pointwise")
    texts: list[dict[str, str | None]] = [
        {"question": f"Question {n}?", "response": f"Answer {n}"} for n in range(count)
    ]
    return [Ask((), template, t) for t in texts]


def number_of(prompt: str) -> int:
    return int(prompt.split("Question ")[1].split("?")[0])


def test_a_request_carries_model_prompt_and_pictures(chat: Chat, pictures: Path) -> None:
    chat.say = lambda prompt: "Right. The better response: [second]"
    critic = RemoteCritic(chat.url, "gpt-test", seed=3, max_new_tokens=90)
    found = critic.compare([pictures / "0.png", pictures / "1.png"], "Which?", "A 1.", "A 7.")
    assert (found.verdict, found.model, found.reason) == ("B", "gpt-test", "Right.")
    swapped = critic.compare(None, "Which?", "A 1.", "A 7.", order="ba")
    assert swapped.verdict == "A"
    body = chat.bodies[0]
    assert {name: body[name] for name in ("model", "temperature", "max_tokens", "seed")} == {
        "model": "gpt-test",
        "temperature": 0.0,
        "max_tokens": 90,
        "seed": 3,
    }
    content = body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    for number, part in enumerate(content[:2]):
        raw = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
        assert raw == (pictures / f"{number}.png").read_bytes()
    ask = Ask(
        (),
        get_template("critic-pairwise"),
        {"question": "Which?", "response_a": "A 1.", "response_b": "A 7."},
    )
    assert content[2]["text"] == ask.prompt()
    assert chat.keys == [None, None] and chat.paths == ["/v1/chat/completions"] * 2
    assert critic.generate(pictures / "0.png", "Hello?", n=2) == [chat.say("")] * 2
    with pytest.raises(InputError, match=r"gone.png: no such file"):
        critic.score("gone.png", "Which?", "A 7.")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://host:1", "http://host:1/v1/chat/completions"),
        ("http://host:1/", "http://host:1/v1/chat/completions"),
        ("https://host/v1", "https://host/v1/chat/completions"),
        ("https://host/v1/", "https://host/v1/chat/completions"),
        ("https://host/v1/chat/completions", "https://host/v1/chat/completions"),
        ("https://host/api/v3", "https://host/api/v3/chat/completions"),
        ("https://host/d/chat/completions?v=3", "https://host/d/chat/completions?v=3"),
    ],
)
def test_an_address_may_be_a_base_or_the_whole_path(given: str, asked: str) -> None:
    assert chat_address(given) == asked


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("host/v1", "is no http address"),
        ("ftp://host", "is no http address"),
        ("http://user:pass@host/v1", "put a key into OPENAI_API_KEY instead"),
        ("http://host:port", "no address"),
    ],
)
def test_what_is_no_address_is_told(given: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        chat_address(given)
    assert "pass@" not in str(caught.value)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after(None) is None and retry_after("soon") is None
    assert (retry_after("7"), retry_after("0.5"), retry_after("-3")) == (7.0, 0.5, 0.0)
    then = datetime.now(UTC) + timedelta(seconds=90)
    assert retry_after(format_datetime(then, usegmt=True)) == pytest.approx(90, abs=2)
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_files_are_sent_as_they_are_if_every_reader_sees_the_same(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image.save(tmp_path / "plain.jpg")
    image.save(tmp_path / "plain.webp", lossless=True)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "old.bmp")
    image.convert("RGBA").save(tmp_path / "clear.png")
    for name, kind in (("plain.jpg", "jpeg"), ("plain.webp", "webp")):
        sent = sent_picture(tmp_path / name)
        start = f"data:image/{kind};base64,"
        assert sent.url.startswith(start)
        assert base64.b64decode(sent.url.removeprefix(start)) == (tmp_path / name).read_bytes()
    sizes = {"turned.jpg": (20, 30), "old.bmp": (30, 20), "clear.png": (30, 20)}
    for name, size in sizes.items():
        sent = sent_picture(tmp_path / name)
        raw = base64.b64decode(sent.url.removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(raw)) as opened:
            assert (opened.size, opened.mode) == (size, "RGB")
    assert sent_picture(Image.fromarray(noise)) == sent_picture(Image.fromarray(noise))
    with pytest.raises(InputError, match="is not a picture"):
        sent_picture(b"junk", "field 'image'")


def test_a_text_that_cannot_be_read_is_asked_for_again(chat: Chat, tmp_path: Path) -> None:
    texts = iter(["hm", "Score: 1 or Score: 2", "Score: 30", "Score: 40", *["hm"] * 3])
    chat.say = lambda prompt: next(texts)
    source = write_json_lines(tmp_path / "in.jsonl", [single(n) for n in range(3)])
    words = ["judge", "--model", "m", "--endpoint", chat.url, "--concurrency", "1", "--seed", "5"]
    words += ["--input", str(source), "--output", str(tmp_path / "out.jsonl"), "--reasks", "2"]
    assert main(words) == 0
    found = [json.loads(t) for t in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r.get("score") for r in found] == [30, 40, None]
    assert [r.get("asks", 1) for r in found] == [3, 1, 3]
    assert found[0]["first_why"].startswith("cut off") and found[0]["asking"] == {"reasks": 2}
    assert [body["temperature"] for body in chat.bodies] == [0, 0.7, 0.7, 0, 0, 0.7, 0.7]
    assert [body["seed"] for body in chat.bodies] == [5, 6, 7, 5, 5, 6, 7]
    assert [body.get("top_p") for body in chat.bodies[:2]] == [None, 0.9]
    summary = json.loads((tmp_path / "summary.json").read_text())
    wanted = {"unparsed": 1, "first_unparsed": 2, "free": 3, "asks": 7, "requests": 7}
    assert {name: summary[name] for name in wanted} == wanted


def test_an_endpoint_ranks_as_a_critic_does(chat: Chat) -> None:
    chat.say = lambda prompt: "8 6\nSo it is."  # whoever is first
    critic = RemoteCritic(chat.url, "m")
    found = critic.rank(None, "Q?", ["a", "b", "c"])
    assert (found.rewards, len(chat.bodies)) == ((0, 0, 0), 6) and found.tie
    assert (found.position_bias, found.orders.consistency) == (2, 0)
    both = critic.compare_both_orders(None, "Q?", "a", "b", template="llava-bench")
    assert (both.state, both.verdict) == ("disagreement", None)
    with pytest.raises(InputError, match="probabilities: an endpoint gives its texts only"):
        critic.rank(None, "Q?", ["a", "b"], relative="probability")


def test_requests_run_side_by_side_and_come_back_in_order(chat: Chat) -> None:
    chat.say, chat.delay = lambda prompt: f"Score: {number_of(prompt)}", 0.05
    critic = RemoteCritic(chat.url, "m", Policy(concurrency=4))
    assert [j.score for j in critic.judge(asks(24))] == list(range(24))
    assert chat.most == 4
    assert (critic.endpoint.requests, critic.endpoint.tokens) == (24, 240)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, "oh"),
        Fault(503, '{"error": "busy"}'),
        Fault(429, '{"error": {"message": "slow down"}}'),
        Fault(200, "<html>a gateway</html>"),
        Fault(200, '{"choices": []}'),
        Fault(200, '{"choices": [{"message": null}]}'),
        Fault(None),
        Fault(200, "", delay=1.5),
    ],
)
def test_what_may_pass_is_tried_again(chat: Chat, fault: Fault) -> None:
    chat.faults = [fault, fault]
    critic = RemoteCritic(chat.url, "m", Policy(timeout=0.5, retries=2))
    assert critic.score(None, "Question 1?", "A 7.").score == 50
    assert len(chat.bodies) == 3 and critic.endpoint.requests == 3
    chat.faults = [fault] * 3
    with pytest.raises(WorkError, match=r"127.0.0.1.*, 3 times; run the same command again"):
        critic.score(None, "Question 1?", "A 7.")
    assert critic.score(None, "Question 1?", "A 7.").score == 50


@pytest.mark.parametrize("as_date", [False, True])
def test_all_wait_as_long_as_the_endpoint_wants(chat: Chat, as_date: bool) -> None:
    date = datetime.now(UTC) + timedelta(seconds=4)  # dates have whole seconds
    wait = format_datetime(date, usegmt=True) if as_date else "1.0"
    chat.faults = [Fault(429, headers={"Retry-After": wait})]
    critic = RemoteCritic(chat.url, "m", Policy(concurrency=2))
    assert all(j.score == 50 for j in critic.judge(asks(4)))
    begun = chat.times[0]
    # One other request may be under way already, and one behind it; the rest come after the wait.
    assert sum(t - begun < 0.7 for t in chat.times) <= 3 and len(chat.times) == 5


def test_an_endpoint_that_asks_for_too_much_patience_ends_the_run(chat: Chat) -> None:
    chat.faults = [Fault(429, headers={"Retry-After": "86400"})]
    critic = RemoteCritic(chat.url, "m")
    with pytest.raises(WorkError, match="asks to come back in 86,400 s"):
        critic.score(None, "Question 1?", "A 7.")
    chat.faults = [Fault(429, '{"error": {"code": "insufficient_quota", "message": "pay"}}')]
    with pytest.raises(WorkError, match=r"quota is used up: HTTP 429 \(pay\)"):
        critic.score(None, "Question 1?", "A 7.")
    assert len(chat.bodies) == 2


def test_nobody_there_is_one_line() -> None:
    with chatting(Chat()) as gone:
        pass
    critic = RemoteCritic(gone.url, "m", Policy(retries=1))
    with pytest.raises(WorkError, match=r"cannot be reached \(.*\), 2 times"):
        critic.score(None, "Question 1?", "A 7.")


def test_a_refused_request_is_its_own_affair(chat: Chat) -> None:
    refusal = Fault(400, '{"error": {"message": "not this one"}}')
    chat.when = lambda prompt: refusal if "Question 2?" in prompt else None
    critic = RemoteCritic(chat.url, "m")
    found = dict(critic.judge_each(asks(5)))
    assert isinstance(found[2], RefusedError) and "HTTP 400 (not this one)" in str(found[2])
    assert [getattr(found[n], "score", None) for n in range(5)] == [50, 50, None, 50, 50]
    with pytest.raises(RefusedError):
        critic.judge(asks(5))
    assert critic.score(None, "Question 1?", "A 7.").score == 50


@pytest.mark.parametrize("of", ["requests", "tokens"])
def test_a_budget_ends_the_run_and_keeps_what_was_judged(
    chat: Chat, tmp_path: Path, capsys: Any, of: str
) -> None:
    source = write_json_lines(tmp_path / "in.jsonl", [single(n) for n in range(10)])
    output = tmp_path / "out.jsonl"
    budget = ["--request-budget", "4"] if of == "requests" else ["--token-budget", "40"]
    words = ["judge", "--model", "m", "--endpoint", chat.url, "--concurrency", "1", "--no-cache"]
    words += ["--input", str(source), "--output", str(output), *budget]
    amount = budget[1]
    assert main(words) == 1
    assert f"the budget of {amount} {of} is used up" in capsys.readouterr().err
    assert len(chat.bodies) == 4 and not output.exists()
    assert main(words) == 1 and len(chat.bodies) == 8
    assert main(words) == 0 and len(chat.bodies) == 10
    assert [json.loads(t)["id"] for t in output.read_text().splitlines()] == [
        f"q{n}" for n in range(10)
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["requests"], summary["tokens"], summary["judgments"]) == (2, 20, 10)


def test_tokens_that_are_not_told_cannot_be_budgeted(chat: Chat) -> None:
    chat.usage = None
    critic = RemoteCritic(chat.url, "m", Policy(token_budget=100))
    with pytest.raises(InputError, match=r"does not say how many tokens .*; give a request budget"):
        critic.score(None, "Question 1?", "A 7.")
    assert RemoteCritic(chat.url, "m").score(None, "?", "A 7.").score == 50


def test_a_wrong_key_is_one_line_and_is_written_nowhere(
    chat: Chat, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.key = "another"
    source = write_json_lines(tmp_path / "in.jsonl", [single(n) for n in range(10)])
    words = ["judge", "--model", "m", "--endpoint", chat.url, "--cache", str(tmp_path / "cache")]
    words += ["--input", str(source), "--output", str(tmp_path / "out" / "r.jsonl")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "set OPENAI_API_KEY to a key" in error
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    chat.bodies.clear()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is the key in OPENAI_API_KEY right?" in error
    # The endpoint says the key back; nobody hears of it.
    assert "Incorrect API key provided: Bearer ***" in error
    assert len(chat.bodies) <= 8  # those that were under way; none is tried again
    chat.key = SECRET
    chat.faults = [Fault(400, json.dumps({"error": {"message": f"no {SECRET}"}}))]
    assert main([*words, "--skip-bad", "--concurrency", "1"]) == 0
    printed = capsys.readouterr()
    assert chat.keys[-1] == f"Bearer {SECRET}"
    assert "no ***" in (tmp_path / "out" / "rejected.jsonl").read_text()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 12  # input, results, summary, rejected, nine judgments
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in printed.out + printed.err
    assert SECRET not in repr(vars(RemoteCritic(chat.url, "m"))).replace("'_key'", "")


def test_a_key_of_odd_characters_is_not_said_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-naïve")
    with pytest.raises(InputError, match=r"^OPENAI_API_KEY: holds characters that no key has$"):
        RemoteCritic("http://127.0.0.1:1", "m")


def test_judgments_are_kept_between_runs_and_models(chat: Chat, pictures: Path) -> None:
    lines = [single(n, image=f"{n % 3}.png") for n in range(6)]
    source = write_json_lines(pictures / "in.jsonl", lines)
    chat.say = lambda prompt: f"Score: {number_of(prompt)}"

    def judge(name: str, *more: str) -> bytes:
        words = ["judge", "--endpoint", chat.url, "--input", str(source), "--concurrency", "1"]
        output = pictures / f"{name}.jsonl"
        assert main([*words, "--output", str(output), *more]) == 0
        return output.read_bytes()

    first = judge("one", "--model", "m")
    assert len(chat.bodies) == 6
    # Those with one picture are asked one after the other.
    shown = [body["messages"][0]["content"][0]["image_url"]["url"] for body in chat.bodies]
    assert [shown.index(url) for url in shown] == [0, 0, 2, 2, 4, 4]
    assert judge("two", "--model", "m") == first and len(chat.bodies) == 6
    for number, more in enumerate(
        [["--model", "n"], ["--model", "m", "--temperature", "0.5"], ["--model", "m", "--no-cache"]]
    ):
        judge(f"more{number}", *more)
        assert len(chat.bodies) == 12 + 6 * number
    Image.new("RGB", (16, 16), (1, 2, 3)).save(pictures / "0.png")
    judge("three", "--model", "m")
    assert len(chat.bodies) == 26  # the two about the picture that changed


def test_refused_lines_are_told_after_the_others_are_written(
    chat: Chat, tmp_path: Path, capsys: Any
) -> None:
    chat.when = lambda prompt: Fault(400, "no") if "Question 2?" in prompt else None
    source = write_json_lines(tmp_path / "in.jsonl", [single(n) for n in range(5)])
    words = ["judge", "--model", "m", "--endpoint", chat.url, "--no-cache"]
    words += ["--input", str(source), "--output", str(tmp_path / "out.jsonl")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"{source} line 3: {chat.url}/v1/chat/completions: refuses this request" in error
    assert len((tmp_path / "out.jsonl.partial").read_text().splitlines()) == 4
    assert main([*words, "--skip-bad", "--json"]) == 0
    assert len(chat.bodies) == 6  # only the refused one was asked again
    summary = json.loads(capsys.readouterr().out)
    assert (summary["judgments"], summary["rejected"], summary["requests"]) == (4, 1, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--concurrency", "2"], "--concurrency is about requests to an endpoint"),
        (["--endpoint", "nowhere"], "'nowhere' is no http address"),
        (["--endpoint", "http://h", "--retries", "-1"], "retries is -1; it must be 0 or more"),
        (["--endpoint", "http://h", "--token-budget", "0"], "token_budget is 0; it must be above"),
        (
            ["--endpoint", "http://h", "--repetition-penalty", "1.1"],
            "repetition_penalty: an endpoint takes none",
        ),
        (["--endpoint", "http://h", "--memory", "1GB"], "memory: an endpoint takes none"),
        (["--endpoint", "http://h", "--temperature", "-1"], "temperature must be 0 or more"),
        (["--endpoint", "http://h", "--temperature", "nan"], "temperature must be 0 or more"),
        (["--endpoint", "http://h", "--timeout", "inf"], "timeout is inf; it must be above 0 and"),
        (["--endpoint", "http://h", "--replica-devices", "2"], "replica_devices: an endpoint has"),
        (["--limit", "-1"], "limit is -1; it must be 0 or more"),
        *(
            (
                ["--endpoint", "http://h", f"--{name.replace('_', '-')}"],
                f"{name}: an endpoint gives its texts only; leave it out",
            )
            for name in ("verdict_only", "probabilities", "constrained")
        ),
    ],
)
def test_a_wrong_command_is_told(tmp_path: Path, capsys: Any, words: list[str], said: str) -> None:
    source = write_json_lines(tmp_path / "in.jsonl", [single(1)])
    files = ["--input", str(source), "--output", str(tmp_path / "out.jsonl")]
    assert main(["judge", "--model", "m", *files, *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_an_error_that_ends_a_run_ends_its_waiting_too(chat: Chat) -> None:
    # One request is told to wait; while it does, another finds that the key is wrong.
    chat.faults = [Fault(503, headers={"Retry-After": "60"}, delay=0.3), Fault(401, delay=1.0)]
    critic = RemoteCritic(chat.url, "m", Policy(concurrency=2))
    begun, threads = time.monotonic(), threading.active_count()
    with pytest.raises(InputError, match="does not let us in"):
        critic.judge(asks(20))
    assert time.monotonic() - begun < 30 and len(chat.bodies) == 2
    assert threading.active_count() <= threads + 2  # the server's own, for open connections
