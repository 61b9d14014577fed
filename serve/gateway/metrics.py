"""Prometheus series of the gateway, by deployment and release, and of the engines.

Label values come from the store's names, never from what a client sent, so their number is bounded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve.engine.pool import EnginePool
from serve.gateway.recorder import Recorder
from serve.metering.rate_limiter import RateLimiter
from serve.router import Target

FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
SECONDS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
LABELS = ("deployment", "release", "lane")


class Metrics:
    """All series, in a registry of their own. Times are in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "trimtab_requests", "Requests answered, by HTTP status", (*LABELS, "code"), registry=self.registry
        )
        self.refused = Counter(
            "trimtab_requests_refused", "Requests refused before routing", ("code",), registry=self.registry
        )
        self.broken = Counter(
            "trimtab_streams_broken", "Streams that ended with an error", LABELS, registry=self.registry
        )
        self.stopped = Counter(
            "trimtab_requests_client_stopped", "Requests the client left", LABELS, registry=self.registry
        )
        self.first_token = Histogram(
            "trimtab_time_to_first_token_seconds",
            "From the request's arrival to the first byte of its stream",
            LABELS,
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.inter_token = Histogram(
            "trimtab_inter_token_latency_seconds",
            "Mean time between the tokens of a stream",
            LABELS,
            buckets=TOKEN_BUCKETS,
            registry=self.registry,
        )
        self.seconds = Histogram(
            "trimtab_request_seconds",
            "Whole requests",
            LABELS,
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "trimtab_tokens",
            "Tokens, by kind (prompt, completion); of a stream that ended early estimated from what went out",
            (*LABELS, "kind"),
            registry=self.registry,
        )
        self._children: dict[tuple[str, ...], _Series] = {}
        self._pool: EnginePool | None = None
        self._refresh: list[Callable[[], Awaitable[None]]] = []

    def series(self, target: Target) -> _Series:
        """Return the series of one release on one lane; looked up once and kept."""
        key = (target.deployment or "", target.release, target.lane)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = _Series(self, key)
        return found

    def watch(self, pool: EnginePool, recorder: Recorder, limiter: RateLimiter) -> None:
        """Read the state of engines, recorder and gateway whenever the series are asked for."""
        self._pool = pool
        self.registry.register(_State(pool, recorder, limiter))

    def add(self, collector: Collector, refresh: Callable[[], Awaitable[None]]) -> None:
        """Show the series of a collector too; `refresh` is awaited before each reading of all."""
        self.registry.register(collector)
        self._refresh.append(refresh)

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)

    def routes(self) -> list[BaseRoute]:
        """Return the route `/metrics`."""

        async def show(request: Request) -> Response:
            if self._pool is not None:
                await self._pool.read_queues()
            for refresh in self._refresh:
                await refresh()
            return Response(self.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

        return [Route("/metrics", show, methods=["GET"])]


class _Series:
    """The children of the request series for one set of labels."""

    def __init__(self, metrics: Metrics, labels: tuple[str, ...]) -> None:
        self._requests, self._labels = metrics.requests, labels
        self._codes: dict[int, Counter] = {}
        self.broken = metrics.broken.labels(*labels)
        self.stopped = metrics.stopped.labels(*labels)
        self.first_token = metrics.first_token.labels(*labels)
        self.inter_token = metrics.inter_token.labels(*labels)
        self.seconds = metrics.seconds.labels(*labels)
        self.prompt_tokens = metrics.tokens.labels(*labels, "prompt")
        self.completion_tokens = metrics.tokens.labels(*labels, "completion")

    def answered(self, code: int) -> None:
        """Count one answered request."""
        child = self._codes.get(code)
        if child is None:
            child = self._codes[code] = self._requests.labels(*self._labels, str(code))
        child.inc()


class _State(Collector):
    """Gauges that are read when asked for."""

    def __init__(self, pool: EnginePool, recorder: Recorder, limiter: RateLimiter) -> None:
        self._pool, self._recorder, self._limiter = pool, recorder, limiter

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges."""
        names = ("engine", "base")
        ready = GaugeMetricFamily("trimtab_engine_ready", "1 while the engine serves", labels=names)
        outstanding = GaugeMetricFamily(
            "trimtab_engine_outstanding", "Requests under way in the engine", labels=names
        )
        queue = GaugeMetricFamily(
            "trimtab_engine_queue", "Requests that wait in the engine for a place in its batch", labels=names
        )
        adapters = GaugeMetricFamily("trimtab_engine_adapters", "Adapters registered", labels=names)
        restarts = CounterMetricFamily("trimtab_engine_restarts", "Starts after the first", labels=names)
        for engine in self._pool.engines():
            labels = (engine.spec.name, engine.spec.base)
            ready.add_metric(labels, float(engine.state == "ready"))
            outstanding.add_metric(labels, engine.in_flight.outstanding)
            if engine.queue is not None:
                queue.add_metric(labels, engine.queue)
            adapters.add_metric(labels, len(engine.loaded))
            restarts.add_metric(labels, engine.restarts)
        yield from (ready, outstanding, queue, adapters, restarts)
        yield GaugeMetricFamily("trimtab_outstanding", "Requests under way", value=self._limiter.outstanding)
        yield GaugeMetricFamily(
            "trimtab_recorder_backlog", "Turns waiting to be written", value=self._recorder.backlog
        )
