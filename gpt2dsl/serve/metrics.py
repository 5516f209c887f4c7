"""What a server counts, in the text format of Prometheus."""

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

from gpt2dsl.serve.worker import Worker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


class Metrics:
    """The numbers of one server.

    Attributes:
        requests: answered, by path and status.
        prompt_tokens: taken in.
        texts: asked for, by model.
        first_token: seconds from a request to the first piece of each of its texts.
        next_token: seconds from one piece of a text to the next one.

    Args:
        worker: whose queue and cache are told too.
    """

    def __init__(self, worker: Worker) -> None:
        # A second number for each would say when it began, which nobody asks for.
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
        """Return all numbers as Prometheus reads them."""
        return generate_latest(self._registry)


class _OfWorker(Collector):
    """Reads the numbers of a worker when they are asked for."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @override
    def collect(self) -> Iterable[Metric]:
        running, waiting = self._worker.counts
        done = self._worker.counters
        for name, what, gauge in (
            ("running_texts", "Texts that are generated.", running),
            ("waiting_texts", "Texts that wait for a place.", waiting),
            ("cache_bytes", "Bytes that are kept of prompts.", done.cache_bytes),
        ):
            yield GaugeMetricFamily(f"gpt2dsl_{name}", what, gauge)
        for name, what, count in (
            ("generated_tokens", "Tokens generated.", done.generated_tokens),
            ("prefilled_prompt_tokens", "Tokens of prompts computed.", done.prefilled_tokens),
            ("cached_prompt_tokens", "Tokens of prompts found in the cache.", done.cached_tokens),
            ("steps", "Steps, in which each running text gets a token.", done.steps),
        ):
            yield CounterMetricFamily(f"gpt2dsl_{name}", what, count)


class Counted:
    """Counts the answers of an application by path and status; unknown paths as one.

    Args:
        app: it.
        metrics: that count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "")
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)
