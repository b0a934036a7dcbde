"""Asked again, within limits, for a verdict alone, with probabilities: what is asked and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from critic_jax import Asking, Critic, InputError
from critic_jax.data.encode import prompt_path
from critic_jax.judging.critic import Ask
from critic_jax.judging.guide import VerdictGuide
from critic_jax.judging.spelling import verdict_texts
from critic_jax.judging.summary import answers_read
from critic_jax.judging.templates import get_template
from critic_jax.sampling.choose import Sampling
from critic_jax.tree import Path as TokenPath


def test_an_unread_answer_is_sampled_anew_and_counted(speaking: Any) -> None:
    critic, speaker = speaking(lambda s: "Score: 70" if s.temperature else "I cannot say.")
    found = critic.score(None, "Q?", "A.", asking=Asking(reasks=3))
    assert (found.score, found.asks, found.constrained) == (70, 2, False)
    assert found.first_why == "missing: no statement Score: N"
    assert found.to_dict()["first_why"] == found.first_why and found.to_dict()["asks"] == 2
    first, again = (settings for settings, _ in speaker.calls)
    assert (first.temperature, again.temperature, again.top_p) == (0, 0.7, 0.9)
    assert first.seed != again.seed
    assert critic.score(None, "Q?", "A.", asking=Asking(reasks=1)) == found


def test_it_is_asked_so_often_and_no_more(speaking: Any) -> None:
    critic, speaker = speaking("I cannot say.")
    found = critic.score(None, "Q?", "A.", asking=Asking(reasks=2))
    assert (found.state, found.asks, found.score) == ("unparsed", 3, None)
    seeds = [settings.seed for settings, _ in speaker.calls]
    assert len(set(seeds)) == 3
    plain = critic.score(None, "Q?", "A.")
    assert (plain.asks, plain.first_why) == (1, "")
    assert not {"asks", "first_why", "constrained", "probabilities"} & set(plain.to_dict())
    with pytest.raises(InputError, match="reasks is -1; it must be 0 or more"):
        Asking(reasks=-1)


def test_only_the_unread_are_asked_again(speaking: Any) -> None:
    critic, speaker = speaking("Fine.\nScore: 70")
    pair = get_template("mt-bench")
    asks = [
        Ask((), get_template("critic-pointwise"), {"question": "Q?", "response": "A."}),
        Ask((), pair, {"question": "Q?", "response_a": "A.", "response_b": "B."}),
    ]
    found = critic.judge(asks, Asking(reasks=1))
    assert [j.asks for j in found] == [1, 2]
    assert len(speaker.prompts) == 3
    counts = answers_read([j.to_dict() for j in found])
    assert counts == {
        "judgments": 2,
        "unparsed": 1,
        "unparsed_rate": 0.5,
        "free": 2,
        "first_unparsed": 1,
        "first_unparsed_rate": 0.5,
        "constrained": 0,
        "asks": 3,
    }
    assert answers_read([])["first_unparsed_rate"] is None


def test_a_constrained_verdict_goes_on_from_the_free_reason(speaking: Any) -> None:
    critic, speaker = speaking("It names the dog, but not its", "Score: 64.5")
    found = critic.score(None, "Q?", "A.", asking=Asking(constrained=True))
    assert (found.state, found.score, found.constrained) == ("value", 64.5, True)
    assert found.reason == "It names the dog, but not its"
    assert found.raw == "It names the dog, but not its\n\nScore: 64.5"
    assert (found.asks, found.first_why.split(":")[0]) == (2, "cut off")
    assert [guided for _, guided in speaker.calls] == [False, True]
    assert speaker.prompts[1] == speaker.prompts[0] + "It names the dog, but not its\n\n"
    counts = answers_read([found.to_dict()])
    assert (counts["unparsed"], counts["first_unparsed_rate"], counts["constrained"]) == (0, 1, 1)


def test_a_verdict_that_contradicts_itself_is_begun_again(speaking: Any) -> None:
    critic, speaker = speaking("[[A]]\nNo.\n[[B]]", "[[C]]")
    found = critic.compare(
        None, "Q?", "A.", "B.", template="mt-bench", asking=Asking(constrained=True)
    )
    assert (found.state, found.raw) == ("tie", "[[C]]")
    assert found.first_why == "conflicting: the text states A and B"
    assert speaker.prompts[1] == speaker.prompts[0]


def test_what_can_be_read_is_not_constrained(speaking: Any) -> None:
    critic, speaker = speaking("Fine.\nScore: 70", "Score: 10")
    found = critic.score(None, "Q?", "A.", asking=Asking(constrained=True))
    assert (found.score, found.constrained, len(speaker.calls)) == (70, False, 1)


def test_two_scores_are_constrained_and_the_reason_is_free(speaking: Any) -> None:
    critic, _ = speaking("Both are fine.", "8 7.5\n")
    how = {"template": "llava-bench", "asking": Asking(constrained=True)}
    found = critic.compare(None, "Q?", "A.", "B.", **how)
    assert (found.scores, found.reason) == ((8, 7.5), "Because.")
    assert found.verdict == "A"


def test_a_verdict_alone_is_short(speaking: Any) -> None:
    critic, speaker = speaking("8 7", "The better response: [second]")
    asks = [
        Ask((), get_template(name), {"question": "Q?", "response_a": "A.", "response_b": "B."})
        for name in ("critic-pairwise", "llava-bench", "critic-pairwise")
    ]
    found = critic.judge(asks, Asking(verdict_only=True))
    assert [j.verdict for j in found] == ["B", "A", "B"]
    assert [j.constrained for j in found] == [True, False, True]
    assert [j.asks for j in found] == [1, 1, 1]
    counts = answers_read([j.to_dict() for j in found])  # two gave nothing but a verdict
    assert (counts["free"], counts["first_unparsed"], counts["constrained"]) == (1, 0, 2)
    (line, guided), (forced, also) = speaker.calls
    assert (line.stop, line.max_new_tokens, guided, also) == (("\n",), 16, False, True)
    assert forced.max_new_tokens == len("The better response: [second]") + 1


def test_probabilities_stand_beside_the_verdict_and_turn_with_it(speaking: Any) -> None:
    critic, _ = speaking("[[A]]")
    how = {"template": "mt-bench", "asking": Asking(probabilities=True)}
    found = critic.compare(None, "Q?", "A.", "B.", **how)
    assert found.probabilities is not None
    third = pytest.approx(1 / 3)
    assert found.probabilities == {
        **dict.fromkeys(("A", "B", "tie"), third),
        **{"preference": pytest.approx(0.5), "valid": pytest.approx(0.15), "known": 1},
    }
    assert found.to_dict()["probabilities"] == found.probabilities
    critic, _ = speaking("9 4\nWell.")
    how["template"] = "llava-bench"
    straight = critic.compare(None, "Q?", "A.", "B.", **how).probabilities
    turned = critic.compare(None, "Q?", "A.", "B.", order="ba", **how).probabilities
    assert straight and turned
    assert turned["preference"] == pytest.approx(1 - straight["preference"])
    assert turned["expected_a"] == straight["expected_b"]
    critic, _ = speaking("no idea.")
    assert critic.compare(None, "Q?", "A.", "B.", **how).probabilities is None


def test_a_batch_is_ranked_by_one_ask(speaking: Any) -> None:
    critic, _ = speaking("Judgement: [[B]], [[A]]", "Judgement: [[C]], [[A]], [[B]]")
    texts = {"question": "Q?", "responses": ["x", "y"]}
    ask = Ask((), get_template("mllm-judge-batch"), texts)
    (found,) = critic.judge([ask])
    assert (found.state, found.verdict) == ("value", "BA")
    three = Ask((), get_template("mllm-judge-batch"), texts | {"responses": ["x", "y", "z"]})
    (short,) = critic.judge([three])
    assert short.why == "malformed: the text ranks 2 of 3 answers"
    (forced,) = critic.judge([three], Asking(constrained=True))
    assert (forced.verdict, forced.constrained) == ("CAB", True)


def test_the_real_engine_is_held_to_verdicts_and_tells_their_probabilities(
    critic_folder: Path,
) -> None:
    """A random model states a verdict only where it must."""
    critic = Critic.load(critic_folder, batch=4)
    how = Asking(constrained=True, probabilities=True)
    free = critic.score(None, "Which?", "It is a 7.", template="mmhal")
    assert free.state == "unparsed"
    forced = critic.score(None, "Which?", "It is a 7.", template="mmhal", asking=how)
    assert (forced.state, forced.constrained, forced.first_why) == ("value", True, free.why)
    assert forced.score in range(7)
    read = forced.probabilities
    assert read is not None and 0 < read["expected"] < 6 and 0 < read["valid"] < 1
    # The same by reading the prompt up to the number, and asking for the digits there.
    alone = critic.score(
        None,
        "Which?",
        "It is a 7.",
        template="mmhal",
        asking=Asking(verdict_only=True, probabilities=True),
    )
    assert alone.raw == f"Rating: {alone.score:g}" and alone.probabilities is not None
    template = get_template("mmhal")
    prompt = template.render(question="Which?", response="It is a 7.")
    path = prompt_path(prompt, (), critic.tokenizer)
    (raw,) = critic.engine.generate(
        [path],
        Sampling(max_new_tokens=40),
        guides=[VerdictGuide(verdict_texts(template.format), critic.tokenizer)],
    )[0]
    ids = list(raw.tokens)
    step = next(k for k in range(len(ids)) if critic.tokenizer.decode(ids[: k + 1])[-1].isdigit())
    more = np.asarray(ids[:step], np.int32)
    longer = TokenPath(
        np.concatenate([path.tokens, more]),
        np.concatenate([path.weights, np.zeros(len(more), np.float32)]),
    )
    lead = critic.tokenizer.pieces[ids[step]][:-1]
    digits = [critic.tokenizer.pieces.index(f"{lead}{n}") for n in range(7)]
    (there,) = critic.engine.generate(
        [longer], Sampling(max_new_tokens=1, alternatives=tuple(digits))
    )[0]
    p = np.exp(there.alternatives[0].astype(np.float64))
    mean = float((p * np.arange(7)).sum() / p.sum())
    assert alone.probabilities["expected"] == pytest.approx(mean, abs=1e-4)
    assert alone.probabilities["valid"] == pytest.approx(p.sum(), rel=1e-3)


def test_the_real_engine_ranks_by_probability(critic_folder: Path) -> None:
    critic = Critic.load(critic_folder, batch=8)
    answers = ["It is a 7.", "It is a 1.", "No."]
    found = critic.rank(
        None,
        "Which?",
        answers,
        relative="probability",
        asking=Asking(verdict_only=True, constrained=True),
    )
    assert found.unparsed == () and not found.tie
    for pair in found.pairs:
        assert pair.relative is not None and -9 < pair.relative < 9
        assert pair.judgment.raw.count(" ") == 1 and pair.judgment.scores is not None
    sides = critic.rank(
        None,
        "Which?",
        answers,
        relative="probability",
        template="mt-bench",
        asking=Asking(verdict_only=True),
        pairs=[(0, 1), (1, 0)],
    )
    assert sides.counted == (2, 2, 0)
    assert all(p.relative is not None and -1 <= p.relative <= 1 for p in sides.pairs)
