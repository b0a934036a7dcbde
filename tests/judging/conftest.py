"""A tiny critic on disk, and some whose answers are scripted instead of sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import load_checkpoint, save_checkpoint
from critic_jax.judging.critic import Critic
from critic_jax.sampling.choose import Sampling
from critic_jax.sampling.completion import Completion
from critic_jax.sampling.guide import Guide
from critic_jax.text import ChatTokenizer
from critic_jax.tree import Path as TokenPath


class ScriptedEngine:
    """Answers each prompt with what `say` makes of its text; keeps the texts in `asked`."""

    batch = 2
    watch: Callable[[int], None]

    def __init__(self, tokenizer: ChatTokenizer, say: Callable[[str], str]) -> None:
        self.tokenizer, self.say = tokenizer, say
        self.asked: list[str] = []
        self.settings: list[Sampling] = []

    def generate(
        self, prompts: Sequence[TokenPath], sampling: Sampling, n: int = 1
    ) -> list[list[Completion]]:
        self.settings.append(sampling)
        answers = []
        for prompt in prompts:
            text = self.tokenizer.decode(prompt.tokens.tolist())
            self.asked.append(text)
            # A function may answer differently each time, as sampling does.
            said = [tuple(self.tokenizer.encode(self.say(text))) for _ in range(n)]
            answers.append([Completion(s, (0.0,) * len(s), "stop") for s in said])
        return answers


class Speaker:
    """An engine that says what it is told, or of a guide the allowed token that goes on towards
    one of `wishes`; every watched token has the same probability."""

    batch = 2
    watch: Callable[[int], None]

    def __init__(
        self, tokenizer: ChatTokenizer, say: Callable[[Sampling], str], wishes: Sequence[str]
    ) -> None:
        self.tokenizer, self.say, self.wishes = tokenizer, say, wishes
        self.calls: list[tuple[Sampling, bool]] = []
        self.prompts: list[str] = []

    def generate(
        self,
        prompts: Sequence[TokenPath],
        sampling: Sampling,
        n: int = 1,
        guides: Sequence[Guide | None] | None = None,
    ) -> list[list[Completion]]:
        self.calls.append((sampling, guides is not None))
        self.prompts += [self.tokenizer.decode(p.tokens.tolist()) for p in prompts]
        answers = []
        for guide in guides or [None] * len(prompts):
            tokens = self._guided(guide) if guide else self.tokenizer.encode(self.say(sampling))
            rows = np.full((len(tokens) + 1, len(sampling.alternatives)), math.log(0.05))
            logprobs = (math.log(0.05),) * len(tokens)
            answers.append([Completion(tuple(tokens), logprobs, "stop", rows.astype(np.float32))])
        return answers

    def _guided(self, guide: Guide) -> list[int]:
        tokens: list[int] = []
        while True:
            ids = guide.allowed(tokens)
            if ids is None:
                return tokens + self.tokenizer.encode("Because.")
            said = self.tokenizer.decode(tokens)
            good = [i for i in ids if i not in self.tokenizer.stop_ids]
            good = [i for i in good if self._wished(said + self.tokenizer.pieces[i])]
            if not good:
                return tokens
            tokens.append(int(max(good, key=lambda i: len(self.tokenizer.pieces[i]))))

    def _wished(self, said: str) -> bool:
        return any(wish.startswith(said) for wish in self.wishes)


@pytest.fixture
def speaking(critic_folder: Path) -> Callable[..., tuple[Critic, Speaker]]:
    """A critic of the tiny weights that says what it is told, and what it says it with."""

    def make(say: str | Callable[[Sampling], str], *wishes: str) -> tuple[Critic, Speaker]:
        critic = Critic(load_checkpoint(critic_folder), "tiny")
        said = say if callable(say) else lambda sampling: say
        speaker = Speaker(critic.tokenizer, said, wishes)
        critic.engine = speaker  # type: ignore[assignment]
        return critic, speaker

    return make


@pytest.fixture(scope="session")
def critic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(path, tiny_checkpoint())
    return path


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    """No test takes the judgments of another."""
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def prescribing(tmp_path: Path) -> Path:
    """The tiny critic with the repetition penalty that released critics come with."""
    path, checkpoint = tmp_path / "prescribing" / "tiny", tiny_checkpoint()
    checkpoint.meta["generation"]["repetition_penalty"] = 1.05
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture
def script(critic_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedEngine]:
    """Let every loaded critic answer by a function of the prompt's text; returns the engine."""

    def install(say: Callable[[str], str], folder: Path = critic_folder) -> ScriptedEngine:
        checkpoint = load_checkpoint(folder)
        engine = ScriptedEngine(checkpoint.tokenizer, say)

        def load(path: str | Path, **settings: Any) -> Critic:
            critic = Critic(checkpoint, Path(path).name, **settings)
            monkeypatch.setattr(critic, "engine", engine)
            return critic

        monkeypatch.setattr(Critic, "load", load)
        return engine

    return install


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a few small pictures: 0.png to 7.png."""
    for number in range(8):
        Image.new("RGB", (16, 16), (30 * number, 200, 90)).save(tmp_path / f"{number}.png")
    return tmp_path
