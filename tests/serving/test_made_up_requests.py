"""Requests that are made up from the endpoint's description, right ones and wrong ones."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import schemathesis
from endpoint import Serving
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode

SHARES = {"/v1/chat/completions": 0.8, "/v1/judge": 0.2, "/v1/models": 0.02}


def for_each(cases: Any, count: int, send: Callable[[Case], None]) -> None:
    """Send that many of them."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def sent(case: Case) -> None:
        send(case)

    sent()


@pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_none_is_the_servers_fault(serving: Serving, cases: int) -> None:
    """No 5xx, and every refusal says why. Answers are cut at a few tokens: it is not about them."""
    statuses: Counter[int] = Counter()
    with serving({"new_tokens": 4}) as served:
        schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        client = served.client

        def send(case: Case) -> None:
            words: dict[str, Any] = case.as_transport_kwargs(base_url=served.url)
            words = {
                k: v for k, v in words.items() if k in ("method", "url", "json", "data", "headers")
            }
            if "data" in words:
                words["content"] = words.pop("data")
            try:
                found = client.request(**words)
            except (httpx.InvalidURL, UnicodeEncodeError, httpx.LocalProtocolError):
                return  # what no client can send
            statuses[found.status_code] += 1
            assert found.status_code < 500, (words, found.text)
            if found.status_code >= 400:
                assert found.json()["error"]["message"], words

        for path, share in SHARES.items():
            operation = schema[path]["GET" if path.endswith("models") else "POST"]
            for mode, part in ((GenerationMode.POSITIVE, 0.5), (GenerationMode.NEGATIVE, 0.5)):
                if path.endswith("models") and mode is GenerationMode.NEGATIVE:
                    continue
                every = operation.as_strategy(generation_mode=mode)

                for_each(every, int(cases * share * part) + 1, send)
    assert statuses[200] > cases / 20 and statuses[400] > cases / 20
    assert sum(statuses.values()) >= 0.8 * cases
