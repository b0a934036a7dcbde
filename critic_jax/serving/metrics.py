"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from critic_jax.sampling.service import Service


class Metrics:
    """The numbers of one endpoint."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "critic_jax_requests",
            "Requests answered, by path and status",
            ("path", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "critic_jax_request_seconds",
            "Seconds from a request to the end of its answer",
            ("path",),
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
            registry=self.registry,
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts")
        self.answer_tokens = self._counter("answer_tokens", "Tokens of answers")
        self._gauge("requests_waiting", "Requests that wait", lambda: service.waiting)
        self._gauge("requests_running", "Requests in slots", lambda: service.active)
        self._gauge("tokens_read", "Tokens of prompts read by the model", lambda: service.read)
        self._gauge(
            "tokens_taken_over",
            "Tokens of prompts taken over from earlier ones",
            lambda: service.taken_over,
        )

    def text(self) -> bytes:
        """The page that is scraped."""
        return generate_latest(self.registry)

    def _counter(self, name: str, about: str) -> Counter:
        return Counter(f"critic_jax_{name}", about, registry=self.registry)

    def _gauge(self, name: str, about: str, read: object) -> None:
        Gauge(f"critic_jax_{name}", about, registry=self.registry).set_function(read)  # type: ignore[arg-type]
