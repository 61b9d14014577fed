"""The figures of the loop as Prometheus series, read anew at most every `MAX_AGE_S` seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from store.errors import StoreError
from trimtab.metrics.figures import LoopFigures

K = TypeVar("K", bound=tuple[str, ...])
MAX_AGE_S = 10.0
log = logging.getLogger(__name__)


class LoopSeries(Collector):
    """Series of what `read` returned last; none before the first reading, and the last ones where the store fails."""

    def __init__(self, read: Callable[[], Awaitable[LoopFigures]]) -> None:
        self._read = read
        self._figures: LoopFigures | None = None
        self._at = -MAX_AGE_S
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the figures again where they are old; several who ask at once wait for one reading."""
        async with self._reading:
            if time.monotonic() - self._at < MAX_AGE_S:
                return
            try:
                self._figures = await self._read()
            except StoreError as error:
                log.warning("the figures of the loop were not read: %s", error)
            self._at = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """Yield the series."""
        if self._figures is None:
            return
        yield from _counts(self._figures)
        yield from _runs(self._figures)
        yield from _canaries(self._figures)


def _counts(found: LoopFigures) -> Iterator[Metric]:
    yield CounterMetricFamily("trimtab_votes", "Votes on comparisons", value=found.votes)
    yield _labelled("trimtab_comparisons", "Comparisons by state", ("state",), _single(found.comparisons))
    yield _labelled("trimtab_rows", "Training data by kind", ("kind",), _single(found.rows))
    yield _labelled(
        "trimtab_rows_waiting",
        "Rows since the last snapshot for a method",
        ("deployment", "method"),
        found.waiting,
    )
    agreement = GaugeMetricFamily("trimtab_rater_agreement_alpha", "Krippendorff's alpha of the raters")
    if found.alpha is not None:
        agreement.add_metric((), found.alpha)
    yield agreement
    yield GaugeMetricFamily(
        "trimtab_store_query_seconds", "One small query of the store, when the figures were read", value=found.store_s
    )  # fmt: skip


def _runs(found: LoopFigures) -> Iterator[Metric]:
    yield _labelled("trimtab_runs", "Training runs by state", ("deployment", "state"), found.runs)
    yield _labelled(
        "trimtab_last_run_seconds",
        "From request to end of the newest run that ended",
        ("deployment", "method"),
        found.last_run_s,
    )
    verdicts = CounterMetricFamily(
        "trimtab_gate_verdicts", "Verdicts of the gate", labels=("deployment", "verdict")
    )
    for labels, count in found.verdicts.items():
        verdicts.add_metric(labels, count)
    yield verdicts


def _canaries(found: LoopFigures) -> Iterator[Metric]:
    gauges = {
        "weight": "Share of the traffic that the canary gets",
        "votes": "Votes that decide between canary and stable",
        "win_rate": "The canary's mean score; a tie is 0.5",
        "win_rate_low": "Lower end of its interval, valid at any time",
        "win_rate_high": "Upper end of its interval, valid at any time",
        "evidence_for": "Evidence for the canary (a wealth of bets)",
        "evidence_against": "Evidence against the canary",
    }
    made = {
        name: GaugeMetricFamily(f"trimtab_canary_{name}", about, labels=("deployment",))
        for name, about in gauges.items()
    }
    for canary in found.canaries:
        values = (
            canary.weight, canary.votes, canary.mean, canary.low, canary.high, canary.evidence_for,
            canary.evidence_against,
        )  # fmt: skip
        for gauge, value in zip(made.values(), values, strict=True):
            if value is not None:
                gauge.add_metric((canary.deployment,), value)
    yield from made.values()


def _single(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(name,): count for name, count in counts.items()}


def _labelled(name: str, about: str, labels: tuple[str, ...], values: Mapping[K, float]) -> Metric:
    gauge = GaugeMetricFamily(name, about, labels=labels)
    for key, value in values.items():
        gauge.add_metric(key, value)
    return gauge
