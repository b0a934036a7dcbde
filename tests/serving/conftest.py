"""An endpoint over a tiny critic, in this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from endpoint import NEW_TOKENS, Served, Serving, answers, picture_bytes, wait_for
from tiny_critic import tiny_checkpoint

from critic_jax.judging.critic import Critic
from critic_jax.sampling.service import Service
from critic_jax.serving.app import Endpoint
from critic_jax.serving.limits import Limits
from critic_jax.serving.server import VERDICT_TOKENS, listen, make_server


@pytest.fixture(scope="session")
def serving() -> Serving:
    """Starts an endpoint; arguments are those of `Endpoint`, `limits` as fields."""
    critic = Critic(tiny_checkpoint(max_new_tokens=NEW_TOKENS), "tiny", batch=8)

    @contextmanager
    def serving(limits: dict[str, Any] | None = None, **words: Any) -> Iterator[Served]:
        fields = {"new_tokens": NEW_TOKENS, "seconds": 60.0} | (limits or {})
        service = Service(critic.engine, 2048, fields["new_tokens"] + VERDICT_TOKENS)
        endpoint = Endpoint(critic, service, Limits(**fields), **words)
        server, listening = make_server(endpoint), listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                wait_for(lambda: answers(client))
                yield Served(url, endpoint, critic, client)
        finally:
            server.should_exit = True
            thread.join(30)
            service.close()
        assert not thread.is_alive()

    return serving


@pytest.fixture(scope="module")
def served(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "digit.png").write_bytes(picture_bytes())
    with serving({"folders": (folder,)}) as found:
        yield found


@pytest.fixture
def pictures(served: Served) -> Path:
    """The folder that pictures are read from."""
    return served.endpoint.limits.folders[0]
