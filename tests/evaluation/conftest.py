"""What tests of evaluation share: a folder of their own for judgments, scripted judges."""

from pathlib import Path
from typing import Any

import pytest

from critic_jax.testing import FakeCritic


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRITIC_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every judge say what a function makes of its prompt."""

    def install(say: Any) -> FakeCritic:
        critic = FakeCritic(say)
        monkeypatch.setattr("critic_jax.judging.batch._load", lambda *a, **k: critic)
        return critic

    return install
