"""Fixtures that the import's readers share."""

import pytest
from published_fixtures import imported, published, rows, tokenizer_folder

from critic_jax.judging import endpoint

__all__ = ["imported", "published", "rows", "tokenizer_folder"]


@pytest.fixture(autouse=True)
def endpoint_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints are on this machine, know no key, and are tried again at once."""
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
