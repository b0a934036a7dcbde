"""The critic for users' own tests: the face of the real one, and no model behind it."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from critic_jax import Asking, Critic, InputError
from critic_jax.testing import FakeCritic


def test_it_says_what_it_is_told_and_the_parser_reads_it() -> None:
    critic = FakeCritic("Good.\nScore: 70")
    found = critic.score(None, "Which digit?", "A 7.", reference="7", criteria="truth")
    assert (found.state, found.score, found.reason) == ("value", 70.0, "Good.")
    assert (found.model, found.template) == ("fake-critic", "critic-pointwise")
    (prompt,) = critic.asked
    assert all(text in prompt for text in ("Which digit?", "A 7.", "[7]", "[truth]"))
    assert FakeCritic("hm").score(None, "?", "A 7.").state == "unparsed"


def test_it_may_answer_by_a_function_or_a_script() -> None:
    critic = FakeCritic(lambda p: f"[[{'A' if p.index('good') < p.index('bad') else 'B'}]]")
    for order in ("ab", "ba"):
        found = critic.compare(None, "?", "good", "bad", template="mt-bench", order=order)
        assert (found.verdict, found.order) == ("A", order)
    scripted = FakeCritic(["Score: 1", "one", "two"], name="mine")
    assert scripted.score(None, "?", "x").score == 1
    assert scripted.generate(None, "Say.", n=2, temperature=1.0) == ["one", "two"]
    with pytest.raises(InputError, match="mine: asked 4 times, but given 3 texts"):
        scripted.score(None, "?", "x")
    assert scripted.asked[1:3] == ["Say."] * 2


def test_it_ranks_and_compares_in_both_orders() -> None:
    def by_length(prompt: str) -> str:
        """Two scores: the number of a's, and two points more for the answer shown first."""
        shown = prompt.split("[Assistant 1]\n")[1].split("[Assistant 2]\n")
        first, second = (text.split("\n[End")[0].count("a") for text in shown)
        return f"{first + 2} {second}\nSo it is."

    critic = FakeCritic(by_length)
    found = critic.rank(None, "Q?", ["a", "aaaa", "aa"])
    # Each against the other two, in two orders: 2 (1 - 4 + 1 - 2) and so on; places cancel out.
    assert (found.rewards, found.order) == ((-8, 10, -2), (1, 2, 0))
    assert (found.position_bias, len(critic.asked)) == (2, 6)
    both = critic.compare_both_orders(None, "Q?", "a", "aaaa", template="llava-bench")
    assert (both.state, both.verdict) == ("value", "B")
    some = critic.rank(None, "Q?", ["a", "aaaa"], pairs=[(0, 1)], relative="probability")
    assert some.pairs[0].relative == 1  # 3 against 4


def test_it_is_asked_again_and_is_certain() -> None:
    critic = FakeCritic(["hm", "well", "Score: 70", "[[B]]", "[[C]]", "8 3", "hm"])
    found = critic.score(None, "?", "x", asking=Asking(reasks=2, probabilities=True))
    assert (found.score, found.asks, found.first_why.split(":")[0]) == (70, 3, "cut off")
    assert found.probabilities == {"expected": 70, "valid": 1, "known": 1}
    how = Asking(probabilities=True)
    sides = critic.compare(None, "?", "x", "y", template="mt-bench", order="ba", asking=how)
    assert sides.probabilities == {
        **{"A": 1, "B": 0, "tie": 0, "preference": 1},
        **{"valid": 1, "known": 1},
    }
    tie = critic.compare(None, "?", "x", "y", template="mt-bench", asking=how)
    assert tie.probabilities is not None and tie.probabilities["preference"] == 0.5
    two = critic.compare(None, "?", "x", "y", template="llava-bench", asking=how)
    assert two.probabilities is not None
    names = ("expected_a", "expected_b", "preference")
    assert [two.probabilities[name] for name in names] == [8, 3, 1]
    assert critic.score(None, "?", "x", asking=how).probabilities is None


def test_pictures_are_looked_at(tmp_path: Path) -> None:
    critic = FakeCritic("Score: 1")
    with pytest.raises(InputError, match=r"gone.png: no such file"):
        critic.score(tmp_path / "gone.png", "?", "x")
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    image.save(tmp_path / "a.png")
    given = [image, tmp_path / "a.png", (tmp_path / "a.png").read_bytes()]
    assert len({critic.visuals(one) for one in given}) == 1
    assert critic.visuals([image, image]) == critic.visuals(image) * 2
    assert critic.visuals(None) == ()


def test_it_has_the_face_of_a_critic() -> None:
    public = {name for name in dir(FakeCritic) if not name.startswith("_")}
    named = {"score", "compare", "compare_both_orders", "rank", "generate", "judge", "visuals"}
    assert named <= public <= set(dir(Critic))
    for name in ("score", "compare", "compare_both_orders", "rank"):
        assert getattr(FakeCritic, name) is getattr(Critic, name)


def test_it_needs_no_jax(tmp_path: Path) -> None:
    program = (
        "import sys; from critic_jax.testing import FakeCritic; "
        "FakeCritic('Score: 1').score(None, '?', 'x'); print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
