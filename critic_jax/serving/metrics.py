"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

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
        self.registry.register(_OfService(service))

    def text(self) -> bytes:
        """The page that is scraped."""
        return generate_latest(self.registry)


class _OfService:
    """What the sampler itself counts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        of = self._service
        for name, about, value in (
            ("prompt_tokens", "Tokens of prompts", of.asked),
            ("answer_tokens", "Tokens of answers", of.said),
            ("tokens_read", "Tokens of prompts that went through the model", of.read),
            ("tokens_taken_over", "Tokens of prompts that others had in common", of.taken_over),
        ):
            yield CounterMetricFamily(f"critic_jax_{name}", about, value=value)
        for name, about, count in (
            ("requests_waiting", "Prompts that wait", of.waiting),
            ("requests_running", "Prompts that are being answered", of.active),
        ):
            yield GaugeMetricFamily(f"critic_jax_{name}", about, value=count)
