"""Many requests to one endpoint: each once, within the budget, through failures and kills."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest
from annotators import counted
from chat_server import Chat, Fault, chatting
from PIL import Image

from critic_data.making.purse import BudgetError, Load, Prices, Purse, estimate
from critic_data.making.queue import Queue, Task
from critic_data.making.sent import KEPT, Sent
from critic_jax.errors import InputError, WorkError
from critic_jax.judging.endpoint import Policy, Reply, Usage
from critic_jax.judging.remote import RemoteCritic, SentPicture, sent_picture

PRICES = Prices(1000.0, 4000.0)


@pytest.fixture
def chat() -> Iterator[Chat]:
    with chatting(Chat(say=lambda prompt: f"Yes, {prompt}", usage=counted)) as running:
        yield running


def right(reply: Reply) -> str:
    return "" if reply.text.startswith("Yes") else "missing: no yes"


def tasks(count: int) -> list[Task]:
    return [Task(f"t{n}", (), f"question {n}", right) for n in range(count)]


def queue(chat: Chat, folder: Path, budget: float | None = None, reasks: int = 1) -> Queue:
    policy = Policy(concurrency=4, retries=2)
    critic = RemoteCritic(chat.url, "annotator", policy, max_new_tokens=30)
    return Queue(critic, Purse(folder / "ledger.jsonl", PRICES, budget), 30, 0, reasks)


def billed(folder: Path) -> float:
    """What the ledger says, a try without an end counted as the most it could take."""
    tries: dict[int, list[int]] = {}
    for text in (folder / "ledger.jsonl").read_text().splitlines():
        line = json.loads(text)
        tries[line["try"]] = line.get("took") or line["most"]
    return sum(PRICES.of(Usage(*took)) for took in tries.values())


def test_every_task_is_answered_once_and_not_asked_again(chat: Chat, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    lines = queue(chat, tmp_path).run(tasks(20), output)
    assert [line["id"] for line in lines] == [f"t{n}" for n in range(20)]
    assert [line["text"] for line in lines] == [f"Yes, question {n}" for n in range(20)]
    assert Counter(chat.prompts) == Counter(f"question {n}" for n in range(20))
    assert chat.most <= 4
    more = queue(chat, tmp_path).run(tasks(23), output)
    assert len(more) == 23 and more[:20] == lines and len(chat.bodies) == 23
    assert not output.with_name("out.jsonl.partial").exists()


def test_wrong_answers_are_asked_again_sampled_and_kept_with_the_reason(
    chat: Chat, tmp_path: Path
) -> None:
    first = set[str]()

    def say(prompt: str) -> str:
        again = prompt in first
        first.add(prompt)
        return "Yes" if again and prompt != "question 1" else "Hm"

    chat.say = say
    lines = queue(chat, tmp_path).run(tasks(3), tmp_path / "out.jsonl")
    assert [(line["text"], line["why"], line["asks"]) for line in lines] == [
        ("Yes", "", 2),
        ("Hm", "missing: no yes", 2),
        ("Yes", "", 2),
    ]
    assert sorted(body["temperature"] for body in chat.bodies) == [0.0] * 3 + [0.7] * 3


def test_a_refused_request_and_a_broken_picture_cost_no_other(chat: Chat, tmp_path: Path) -> None:
    chat.when = lambda prompt: Fault(400, "too long") if prompt == "question 1" else None
    (tmp_path / "no.png").write_text("no picture")
    some = [*tasks(3), Task("broken", (tmp_path / "no.png",), "question 9", right)]
    lines = queue(chat, tmp_path).run(some, tmp_path / "out.jsonl")
    assert [bool(line["why"]) for line in lines] == [False, True, False, True]
    assert "HTTP 400 (too long)" in lines[1]["why"] and "no.png" in lines[3]["why"]


def test_a_picture_is_made_ready_once_for_the_requests_that_follow_each_other(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path | bytes] = []

    def slowly(image: list[Path | bytes], name: str) -> tuple[SentPicture, ...]:
        made.extend(image)
        sleep(0.05)  # so that the others come while it is at work
        return tuple(sent_picture(one) for one in image)

    for n in range(3):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.png")
    some = [Task(f"t{n}", (tmp_path / f"{n // 6}.png",), f"{n}", right) for n in range(18)]
    line = queue(chat, tmp_path)
    monkeypatch.setattr(line.critic, "visuals", slowly)
    assert len(line.run(some, tmp_path / "out.jsonl")) == 18
    assert sorted(map(str, made)) == [str(tmp_path / f"{n}.png") for n in range(3)]
    for body in chat.bodies:
        shown, text = body["messages"][0]["content"]
        place = int(text["text"]) // 6
        assert shown["image_url"]["url"] == sent_picture(tmp_path / f"{place}.png").url
    # What was asked about long ago is let go.
    sent = Sent(line.critic)
    for n in range(KEPT + 1):
        Image.new("RGB", (8, 8), (n, 9, 0)).save(tmp_path / f"many{n}.png")
        sent.visuals((tmp_path / f"many{n}.png",))
    sent.visuals((tmp_path / f"many{KEPT}.png",))
    assert len(made) == 3 + KEPT + 1
    sent.visuals((tmp_path / "many0.png",))
    assert len(made) == 3 + KEPT + 2


def test_what_fails_for_good_ends_the_run_and_the_next_one_goes_on(
    chat: Chat, tmp_path: Path
) -> None:
    chat.when = lambda prompt: Fault(500) if prompt == "question 2" else None
    with pytest.raises(WorkError, match=r"1 of 6 requests failed: .*HTTP 500, 3 times"):
        queue(chat, tmp_path).run(tasks(6), tmp_path / "out.jsonl")
    chat.when = lambda prompt: None
    assert len(queue(chat, tmp_path).run(tasks(6), tmp_path / "out.jsonl")) == 6
    assert Counter(chat.prompts) == Counter({f"question {n}": 1 for n in range(6)}) + Counter(
        {"question 2": 3}
    )


def test_an_endpoint_that_is_gone_ends_the_run_early(chat: Chat, tmp_path: Path) -> None:
    chat.when = lambda prompt: Fault(500)
    with pytest.raises(WorkError, match="HTTP 500, 3 times"):
        queue(chat, tmp_path).run(tasks(100), tmp_path / "out.jsonl")
    assert len(chat.bodies) <= 3 * (8 + 2 * 4)


def test_a_wrong_key_ends_the_run_at_once(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    chat.key = "sk-right"
    with pytest.raises(InputError, match="does not let us in") as error:
        queue(chat, tmp_path).run(tasks(100), tmp_path / "out.jsonl")
    assert len(chat.bodies) <= 4 and "sk-wrong" not in str(error.value)


def test_another_question_under_a_known_id_is_told(chat: Chat, tmp_path: Path) -> None:
    queue(chat, tmp_path).run(tasks(2), tmp_path / "out.jsonl")
    changed = [Task("t1", (), "something else", right)]
    with pytest.raises(InputError, match="'t1' answers another question"):
        queue(chat, tmp_path).run(changed, tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="'t1' answers another question"):
        queue(chat, tmp_path).waiting(changed, tmp_path / "out.jsonl")


def test_the_budget_is_never_exceeded_and_is_used(chat: Chat, tmp_path: Path) -> None:
    """The server counts what it answered; failed and broken tries are among them."""
    lock, bill = threading.Lock(), [0.0]

    def usage(prompt: str, answer: str) -> tuple[int, int]:
        took = counted(prompt, answer)
        with lock:
            bill[0] += PRICES.of(Usage(*took))
        return took

    chat.usage = usage
    broken = Fault(200, '{"choices"', {"Content-Length": "99", "Connection": "close"})
    chat.faults = [Fault(500), broken, Fault(429, "", {"Retry-After": "0"})]
    one_most = PRICES.of(Load("question 10", 0, 30, 0).most())
    budget = 6 * one_most
    with pytest.raises(BudgetError, match=r"the budget of .* is used up .* --budget"):
        queue(chat, tmp_path, budget).run(tasks(200), tmp_path / "out.jsonl")
    spent = billed(tmp_path)
    broken_most = PRICES.of(Load("question 1", 0, 30, 0).most())
    assert bill[0] + broken_most <= spent + 1e-9 and spent <= budget
    assert spent > budget - one_most
    partial = tmp_path / "out.jsonl.partial"
    kept = len(partial.read_text().splitlines())
    assert kept == len(chat.bodies) - 3
    # Another run has nothing left, a larger budget goes on.
    with pytest.raises(BudgetError):
        queue(chat, tmp_path, budget).run(tasks(200), tmp_path / "out.jsonl")
    assert len(chat.bodies) == kept + 3
    lines = queue(chat, tmp_path, 400 * one_most).run(tasks(200), tmp_path / "out.jsonl")
    assert len({line["id"] for line in lines}) == 200 and len(chat.bodies) == 203


def test_a_ledger_that_a_kill_cut_short_counts_what_may_have_been_sent(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with Purse(ledger, PRICES, None) as purse:
        most = Usage(100, 30)
        purse.end(purse.begin(most), most, Usage(40, 10))
        purse.begin(most)
    with ledger.open("a") as file:
        file.write('{"try": 2, "mo')
    again = Purse(ledger, PRICES, None)
    assert again.taken == Usage(140, 40)
    with again:
        again.end(again.begin(most), most, None)
    assert Purse(ledger, PRICES, None).taken == Usage(240, 70)
    numbers = [json.loads(line)["try"] for line in ledger.read_text().splitlines()]
    assert numbers == [0, 0, 1, 2, 2]


def test_an_endpoint_that_counts_more_than_thought_has_more_set_aside(tmp_path: Path) -> None:
    with Purse(tmp_path / "ledger.jsonl", PRICES, None) as purse:
        most = Usage(100, 30)
        purse.end(purse.begin(most), most, Usage(250, 10))
        purse.begin(most)
    last = json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[-1])
    assert last["most"] == [250, 75]


def test_the_estimate_counts_texts_pictures_and_answers() -> None:
    loads = [Load("x" * 400, 2, 200, 1000), Load("ä" * 40, 0, 200, 1000)]
    found = estimate(loads, Prices(2.0, 10.0), reasks=1)
    assert found["requests"] == 2
    assert found["prompt_tokens"] == 100 + 2000 + 16 + 10 + 16
    assert found["answer_tokens"] == 200
    assert found["cost"] == pytest.approx((2142 * 2 + 200 * 10) / 1e6)
    assert found["cost_at_most"] == pytest.approx(
        2 * ((400 + 2000 + 64 + 80 + 64) * 2 + 400 * 10) / 1e6
    )
    assert "cost" not in estimate(loads, None, reasks=0)


@pytest.mark.parametrize(
    ("prices", "budget", "said"),
    [(None, 5.0, "--price-prompt"), (PRICES, 0.0, "it must be above 0")],
)
def test_a_budget_that_means_nothing_is_told(
    tmp_path: Path, prices: Prices | None, budget: float, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        Purse(tmp_path / "ledger.jsonl", prices, budget)
