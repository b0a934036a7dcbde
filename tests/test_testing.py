"""The critic for users' own tests: the face of the real one, and no model behind it."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from critic_jax import Critic, InputError
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
    assert {"score", "compare", "generate", "judge", "visuals"} <= public <= set(dir(Critic))


def test_it_needs_no_jax(tmp_path: Path) -> None:
    program = (
        "import sys; from critic_jax.testing import FakeCritic; "
        "FakeCritic('Score: 1').score(None, '?', 'x'); print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
