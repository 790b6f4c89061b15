"""What a server counts, for Prometheus; names after vLLM's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from prag_lightning.serve.api_errors import ApiError
    from prag_lightning.serve.job import Job

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class ServerMetrics:
    """Counters of one server.

    Args:
        model: Its name, which each has as a label.
    """

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        self._model = model
        made = self._registry
        self._succeeded = Counter(
            "prag:request_success", "Requests that were answered.", ("model_name", "finished_reason"), registry=made
        )
        self._failed = Counter(
            "prag:request_failure", "Requests that were not answered.", ("model_name", "status"), registry=made
        )
        self._prompt = Counter("prag:prompt_tokens", "Tokens that were read.", ("model_name",), registry=made)
        self._generation = Counter(
            "prag:generation_tokens", "Tokens that were written.", ("model_name",), registry=made
        )
        self._encoded = Counter(
            "prag:passages_encoded", "Adapters that were made for requests.", ("model_name",), registry=made
        )
        self._first = Histogram(
            "prag:time_to_first_token_seconds",
            "Until the first token.",
            ("model_name",),
            buckets=_SECONDS,
            registry=made,
        )
        self._latency = Histogram(
            "prag:e2e_request_latency_seconds", "Until the last.", ("model_name",), buckets=_SECONDS, registry=made
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Tell a value as it is whenever it is asked for."""
        Gauge(f"prag:{name}", text, ("model_name",), registry=self._registry).labels(self._model).set_function(value)

    def first_token(self, seconds: float) -> None:
        """A reply began so long after it was asked for."""
        self._first.labels(self._model).observe(seconds)

    def ended(self, job: Job, outcome: Job | ApiError) -> None:
        """A request has ended."""
        if outcome is job:
            self._succeeded.labels(self._model, job.finish_reason).inc()
            self._latency.labels(self._model).observe(time.perf_counter() - job.at)
        else:
            self._failed.labels(self._model, str(getattr(outcome, "status", 500))).inc()
        self._prompt.labels(self._model).inc(job.prompt_tokens)
        self._generation.labels(self._model).inc(job.completion_tokens)
        if job.found is not None:
            self._encoded.labels(self._model).inc(job.found.encoded)

    @property
    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)
