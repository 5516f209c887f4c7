"""Metrics of a server, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from gpt2dsl.serve.worker import GenerationWorker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


class Metrics:
    """The metrics of one server, its worker's queue and cache included."""

    def __init__(self, worker: GenerationWorker) -> None:
        # Otherwise each metric has a second one with its creation time, which is not needed.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "gpt2dsl_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.prompt_tokens = Counter(
            "gpt2dsl_prompt_tokens", "Tokens of prompts.", registry=registry
        )
        self.texts = Counter("gpt2dsl_texts", "Texts asked for.", ["model"], registry=registry)
        self.first_token = Histogram(
            "gpt2dsl_time_to_first_token_seconds",
            "From a request to the first piece of a text.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.next_token = Histogram(
            "gpt2dsl_time_to_next_token_seconds",
            "Between two pieces of a text.",
            buckets=_SECONDS,
            registry=registry,
        )
        registry.register(_OfWorker(worker))

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class _OfWorker(Collector):
    """Collector that reads the counters of a worker on each scrape."""

    def __init__(self, worker: GenerationWorker) -> None:
        self._worker = worker

    @override
    def collect(self) -> Iterable[Metric]:
        running, waiting = self._worker.counts
        totals = self._worker.counters
        for name, what, gauge in (
            ("running_texts", "Texts that are generated.", running),
            ("waiting_texts", "Texts that wait for a place.", waiting),
            ("cache_bytes", "Bytes that are kept of prompts.", totals.cache_bytes),
        ):
            yield GaugeMetricFamily(f"gpt2dsl_{name}", what, gauge)
        for name, what, count in (
            ("generated_tokens", "Tokens generated.", totals.generated_tokens),
            ("prefilled_prompt_tokens", "Tokens of prompts computed.", totals.prefilled_tokens),
            ("cached_prompt_tokens", "Tokens of prompts found in the cache.", totals.cached_tokens),
            ("steps", "Steps, in which each running text gets a token.", totals.steps),
        ):
            yield CounterMetricFamily(f"gpt2dsl_{name}", what, count)


class Counted:
    """Middleware that counts responses by path and status, with unknown paths under one label."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application and count the response."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "")
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)
