"""Judgments over the endpoint are those of the critic itself."""

from typing import Any

import pytest
from endpoint import NEW_TOKENS, Served, data_url, picture_bytes

from critic_jax.judging.ask import Asking
from critic_jax.judging.critic import Critic
from critic_jax.judging.rank_lines import ranked_fields
from critic_jax.serving.server import VERDICT_TOKENS

QUESTION = "Which digit is it?"
PAIR = {"response_a": "It is a 7.", "response_b": "It is a 1."}


@pytest.fixture(scope="module")
def critic(served: Served) -> Critic:
    """The same critic, through its own face; its engine's place is taken by the service."""
    found = Critic.__new__(Critic)
    found.__dict__.update(served.critic.__dict__)
    found.engine = served.endpoint.service  # type: ignore[assignment]
    return found


def judged(served: Served, **fields: Any) -> dict[str, Any]:
    body = {"question": QUESTION, "image": data_url()} | fields
    found = served.client.post("/v1/judge", json=body)
    assert found.status_code == 200, found.text
    said: dict[str, Any] = found.json()
    assert said.pop("system_fingerprint") == served.critic.fingerprint
    return said


def test_a_score(served: Served, critic: Critic) -> None:
    expected = critic.score(picture_bytes(), QUESTION, "It is a 7.")
    assert judged(served, response="It is a 7.") == expected.to_dict()
    sure = critic.score(
        picture_bytes(), QUESTION, "It is a 7.", asking=Asking(verdict_only=True)
    ).to_dict()
    assert sure["state"] == "value"
    assert judged(served, response="It is a 7.", verdict_only=True) == sure


def test_a_verdict_is_held_to_and_its_probabilities_told(served: Served) -> None:
    found = judged(served, response="It is a 7.", constrained=True, probabilities=True)
    assert found["state"] == "value" and found["constrained"] and 0 <= found["score"] <= 100
    assert 0 <= found["probabilities"]["expected"] <= 100


def test_a_comparison_in_one_order_and_in_both(served: Served, critic: Critic) -> None:
    one = critic.compare(picture_bytes(), QUESTION, *PAIR.values(), asking=Asking(True))
    assert judged(served, **PAIR, verdict_only=True) == one.to_dict()
    both = judged(served, **PAIR, verdict_only=True, order="both")
    assert both["orders"]["ab"] == one.to_dict()
    assert both["state"] in ("value", "tie", "disagreement")
    assert ("verdict" in both) == (both["state"] != "disagreement")


def test_a_ranking(served: Served, critic: Critic) -> None:
    answers = ["It is a 7.", "It is a 1.", "A cat."]
    expected = ranked_fields(critic.rank(picture_bytes(), QUESTION, answers))
    assert judged(served, responses=answers) == expected
    sure = judged(served, responses=answers, relative="verdict", constrained=True)
    assert sure["state"] in ("value", "tie") and sorted(sure["ranking"]) == [0, 1, 2]


def test_without_a_picture_and_with_several(served: Served) -> None:
    none = judged(served, image=None, response="It is a 7.", verdict_only=True)
    two = [data_url(1), data_url(2)]
    several = judged(served, image=two, response="It is a 7.", verdict_only=True)
    assert none["state"] == several["state"] == "value"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give response, or response_a and response_b, or responses"),
        ({"response": "a", "responses": ["a", "b"]}, "give response, or"),
        ({"response_a": "a"}, "belong together; one is missing"),
        ({"responses": ["a"]}, "responses: List should have at least 2 items"),
        ({"response": "a", "template": "none"}, "template"),
        ({"response": "a", "template": "wildvision"}, "wildvision"),
        ({"response": "a", "relative": "scores"}, "relative: is for responses"),
        ({"responses": ["a", "b"], "relative": "scores", "template": "wildvision"}, "no scores"),
        ({"response": 7}, "response: Input should be a valid string"),
        ({"response": "a", "image": "http://there/x.png"}, "makes no outgoing request"),
        ({"response": "a", "reasks": 99}, "reasks: Input should be less than or equal to 8"),
    ],
)
def test_what_is_wrong_is_told(served: Served, fields: dict[str, Any], said: str) -> None:
    assert said in served.refusal(400, {"question": QUESTION} | fields, "/v1/judge")


def test_a_reason_is_cut_where_the_server_cuts(served: Served) -> None:
    found = judged(served, **PAIR, template="llava-bench", constrained=True)
    assert found["state"] == "value"
    assert len(served.critic.tokenizer.encode(found["raw"])) <= NEW_TOKENS + VERDICT_TOKENS
