"""Figures of a server: counted by increments, formatted when they are read."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from beam_fraud.decisions.decision import APPROVE
from beam_fraud.monitoring.drift.gauges import ReadGauges, no_gauges
from beam_fraud.monitoring.live_figures import LiveFigures, Totals
from beam_fraud.monitoring.prometheus import shadow_metrics
from beam_fraud.monitoring.shadow import ShadowTotals

#: Upper bounds of the buckets in seconds; one more bucket holds longer times.
BOUNDS = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
#: The parts of a request's way: all of it; the wait for the engine; the functions of the pipeline;
#: the commit to the state.
Stage = Literal["http", "queue", "engine", "commit"]


class Histogram:
    """Times of many requests or rows; one thread adds.

    >>> histogram = Histogram()
    >>> histogram.add(0.0004)
    >>> histogram.add(3.0, rows=2)
    >>> histogram.counts[2], histogram.counts[16], histogram.seconds
    (1, 2, 6.0004)
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float, rows: int = 1) -> None:
        """Count rows that took a time."""
        self.counts[bisect_left(BOUNDS, seconds)] += rows
        self.seconds += seconds * rows


def _stages() -> dict[Stage, Histogram]:
    return {"http": Histogram(), "queue": Histogram(), "engine": Histogram(), "commit": Histogram()}


def _zero() -> int:
    return 0


@dataclass
class Metrics:
    """Counts of a server since its start.

    Each figure is written by one thread, without a lock: `http` and `requests` by the event loop,
    the others by the engine, except that the loop counts what it sheds itself.
    """

    #: Latency by stage.
    stages: dict[Stage, Histogram] = field(default_factory=_stages)
    #: Requests by route and status.
    requests: dict[tuple[str, int], int] = field(default_factory=dict)
    #: Requests that were refused because of load, by limit: `queue`, `concurrency`.
    shed: dict[str, int] = field(default_factory=dict)
    #: Rows by outcome: `scored`, `dead`, `duplicate`.
    outcomes: dict[str, int] = field(default_factory=dict)
    #: Scored rows by decision.
    decisions: dict[str, int] = field(default_factory=dict)
    #: Answers with a default decision or without velocity, by reason.
    degraded: dict[str, int] = field(default_factory=dict)
    #: Problems and faulty rows by code.
    errors: dict[str, int] = field(default_factory=dict)
    #: Other champions and rules by outcome: `taken_up`, by the engine; `refused`, by their watch.
    swaps: dict[str, int] = field(default_factory=dict)
    #: Records of the access log that could not be written.
    unlogged: int = 0
    #: Rows that wait for the engine.
    queue_depth: Callable[[], int] = _zero
    #: Predictions that are being answered, and open connections.
    in_flight: Callable[[], int] = _zero
    connections: Callable[[], int] = _zero
    #: Challengers in shadow.
    shadow_totals: Callable[[], ShadowTotals] = ShadowTotals
    #: The figures of the live page; None before any.
    live: Callable[[], LiveFigures | None] = lambda: None
    #: The gauges of the monitor.
    monitor: ReadGauges = no_gauges
    #: Labels of `beam_fraud_build_info`.
    build: dict[str, str] = field(default_factory=dict)

    def totals(self) -> Totals:
        """Return what was done, for the live page; its latency is that of requests."""
        outcomes, decisions = self.outcomes.copy(), self.decisions.copy()
        return Totals(
            time.time(),
            self.build.get("model_id", ""),
            outcomes,
            sum(decisions.values()),
            sum(rows for decision, rows in decisions.items() if decision != APPROVE),
            list(self.stages["http"].counts),
            BOUNDS,
        )

    def collect(self) -> Iterator[Metric]:
        """Yield all figures but those of the process."""
        yield from _Served(self).collect()

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Served(self))
        ProcessCollector(registry=registry)
        return generate_latest(registry)


def count(figures: dict[str, int], name: str, rows: int = 1) -> None:
    """Add to a counter that may not exist yet."""
    figures[name] = figures.get(name, 0) + rows


class _Served(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the page."""
        metrics = self._metrics
        yield InfoMetricFamily("beam_fraud_build", "What runs", metrics.build)
        yield _latencies(metrics.stages)
        requests = CounterMetricFamily(
            "beam_fraud_serve_requests", "Requests by route and status", labels=["route", "status"]
        )
        for (route, status), number in sorted(metrics.requests.copy().items()):
            requests.add_metric([route, str(status)], number)
        yield requests
        for figures, name, label, text in (
            (metrics.shed, "shed", "limit", "Requests that were refused because of load"),
            (metrics.outcomes, "transactions", "outcome", "Rows by what became of them"),
            (metrics.decisions, "decisions", "decision", "Scored rows by decision"),
            (metrics.degraded, "degraded", "reason", "Rows that were answered in a degraded way"),
            (metrics.errors, "errors", "code", "Problems and faulty rows by code"),
            (metrics.swaps, "swaps", "outcome", "Other champions and rules by what became of them"),
        ):
            family = CounterMetricFamily(f"beam_fraud_serve_{name}", text, labels=[label])
            for value, number in sorted(figures.copy().items()):
                family.add_metric([value], number)
            yield family
        yield CounterMetricFamily(
            "beam_fraud_serve_unlogged", "Lost records of the access log", metrics.unlogged
        )
        for read, name, text in (
            (metrics.queue_depth, "queue_rows", "Rows that wait for the engine"),
            (metrics.in_flight, "in_flight", "Predictions that are being answered"),
            (metrics.connections, "connections", "Open connections"),
        ):
            yield GaugeMetricFamily(f"beam_fraud_serve_{name}", text, read())
        yield from metrics.monitor()
        shadows = metrics.shadow_totals()
        yield from shadow_metrics(shadows.figures)
        if shadows.figures:
            yield GaugeMetricFamily(
                "beam_fraud_serve_shadow_rows",
                "Rows that wait for the challengers in shadow",
                shadows.waiting,
            )
            yield CounterMetricFamily(
                "beam_fraud_serve_not_shadowed",
                "Rows that the challengers did not get",
                shadows.left_out,
            )


def _latencies(stages: dict[Stage, Histogram]) -> Metric:
    family = HistogramMetricFamily(
        "beam_fraud_serve_seconds", "Time of requests and rows by stage", labels=["stage"]
    )
    ends = (*(str(bound) for bound in BOUNDS), "+Inf")
    for stage, histogram in stages.items():
        buckets = list(zip(ends, accumulate(histogram.counts), strict=True))
        family.add_metric([stage], buckets, histogram.seconds)
    return family
