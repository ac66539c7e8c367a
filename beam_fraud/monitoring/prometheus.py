"""Serve the metrics of a stream over HTTP in Prometheus' format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring import counters as names
from beam_fraud.monitoring.drift.gauges import ReadGauges, no_gauges
from beam_fraud.monitoring.latency import BOUNDS, LatencyHistogram
from beam_fraud.monitoring.shadow import ShadowFigures
from beam_fraud.monitoring.snapshot import ReadAlerts, Snapshot, no_alerts, topic_and_partition

_LOG = logging.getLogger(__name__)
#: Listen on this machine alone: the page has no password.
_ADDRESS = "127.0.0.1"


@contextmanager
def serve_metrics(
    port: int,
    read: Callable[[], Snapshot],
    build: dict[str, str],
    alerts: ReadAlerts = no_alerts,
    monitor: ReadGauges = no_gauges,
) -> Iterator[str]:
    """Answer `GET /metrics` while the body runs.

    Args:
      port: port to listen on; 0 for a free one.
      read: returns the status of the stream; called from other threads.
      build: labels of `beam_fraud_build_info`: `version`, `model_id` of the start.
      alerts: returns the counts of alerts; called from other threads.
      monitor: returns the gauges of the monitor; called from other threads.

    Yields:
      The URL of the page.

    Raises:
      FraudError: the port cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(StreamMetrics(read, build, alerts, monitor))
    try:
        server, thread = start_http_server(port, addr=_ADDRESS, registry=registry)
    except OSError as error:
        raise FraudError(
            f"--metrics-port {port}: cannot listen there ({error.strerror}); give another port, "
            "or 0 for any that is free",
            Code.PORT_UNUSABLE,
        ) from None
    try:
        yield f"http://{_ADDRESS}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class StreamMetrics(Collector):
    """The metrics of a stream; its status is read once a collection.

    Args:
      read, build, alerts, monitor: as for `serve_metrics`.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        build: dict[str, str],
        alerts: ReadAlerts,
        monitor: ReadGauges,
    ) -> None:
        self._read = read
        self._build = build
        self._alerts, self._monitor = alerts, monitor

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the page."""
        snapshot = self._read()
        build = self._build | ({"model_id": snapshot.model_id} if snapshot.model_id else {})
        yield InfoMetricFamily("beam_fraud_build", "What runs", build)
        yield from _counts(snapshot)
        yield from shadow_metrics(snapshot.shadows)
        yield _lag(snapshot)
        yield _latency(snapshot.latency)
        yield GaugeMetricFamily(
            "beam_fraud_updated_timestamp_seconds",
            "When a worker last told of itself",
            snapshot.updated,
        )
        yield from self._alert_counts()
        yield from self._monitor()

    def _alert_counts(self) -> Iterator[Metric]:
        try:
            counts = self._alerts()
        except FraudError as error:
            # An unreachable database must not hide the other metrics.
            _LOG.debug("alerts are not counted: %s", error)
            return
        label = ["channel"]
        sent = CounterMetricFamily("beam_fraud_alerts_sent", "Alerts that went out", labels=label)
        waiting = GaugeMetricFamily("beam_fraud_alerts_pending", "Alerts that wait", labels=label)
        failed = GaugeMetricFamily(
            "beam_fraud_alerts_failed", "Alerts that were given up", labels=label
        )
        snoozed = GaugeMetricFamily(
            "beam_fraud_alerts_snoozed", "Alerts that wait for the end of a snooze", labels=label
        )
        for channel, count in sorted(counts.items()):
            sent.add_metric([channel], count.sent)
            waiting.add_metric([channel], count.pending)
            failed.add_metric([channel], count.failed)
            snoozed.add_metric([channel], count.snoozed)
        yield from (sent, waiting, failed, snoozed)


def _counts(snapshot: Snapshot) -> Iterator[Metric]:
    done = CounterMetricFamily(
        "beam_fraud_transactions", "Transactions by what became of them", labels=["outcome"]
    )
    done.add_metric(["scored"], snapshot.count(names.ROWS_SCORED))
    done.add_metric(["dead"], snapshot.count(names.ROWS_DEAD))
    done.add_metric(["duplicate"], snapshot.count(names.ROWS_DUPLICATE))
    done.add_metric(["tombstone"], snapshot.count(names.ROWS_TOMBSTONE))
    done.add_metric(["correction"], snapshot.count(names.ROWS_CORRECTION))
    yield done
    ahead = snapshot.count(names.ROWS_AHEAD)
    yield CounterMetricFamily(
        "beam_fraud_ahead", "Transactions that are dated after their arrival", ahead
    )
    dead = CounterMetricFamily(
        "beam_fraud_dead_letters", "Dead letters by reason", labels=["reason"]
    )
    for reason, rows in sorted(snapshot.dead_by_reason.items()):
        dead.add_metric([reason], rows)
    yield dead
    flagged = snapshot.count(names.ROWS_FLAGGED)
    yield CounterMetricFamily("beam_fraud_flagged", "Transactions that were flagged", flagged)
    fired = CounterMetricFamily("beam_fraud_rule_fired", "Rows a rule fired on", labels=["rule"])
    for rule, rows in sorted(snapshot.fired_by_rule.items()):
        fired.add_metric([rule], rows)
    yield fired
    shadow = CounterMetricFamily(
        "beam_fraud_shadow_rule_fired", "Rows a rule in shadow fired on", labels=["rule"]
    )
    for rule, rows in sorted(snapshot.fired_by_shadow_rule.items()):
        shadow.add_metric([rule], rows)
    yield shadow
    muted = snapshot.count(names.RULES_MUTED)
    yield CounterMetricFamily("beam_fraud_rules_muted", "Times that a rule was muted", muted)
    refused = snapshot.count(names.PROMOTIONS_REFUSED)
    yield CounterMetricFamily(
        "beam_fraud_promotions_refused", "Champions and rule sets that a worker refused", refused
    )
    yield GaugeMetricFamily(
        "beam_fraud_champion_waits",
        "Whether a new champion waits for its windows",
        float(bool(snapshot.awaited)),
    )
    labels = snapshot.count(names.LABELS_IN)
    yield CounterMetricFamily("beam_fraud_labels", "Labels that came", labels)


#: Metrics of challengers in shadow: name, help, and value.
_OF_SHADOWS: tuple[tuple[str, str, Callable[[ShadowFigures], float]], ...] = (
    ("rows", "Rows that a challenger scored in shadow", lambda one: one.rows),
    ("agreed", "Rows that it decided as the champion", lambda one: one.agreed),
    ("flagged_by_either", "Rows that it or the champion flagged", lambda one: one.either),
    ("flagged_by_both", "Rows that both flagged", lambda one: one.both),
    ("seconds", "Processor time of its scores and decisions", lambda one: one.nanoseconds / 1e9),
)


def shadow_metrics(figures: Mapping[str, ShadowFigures]) -> Iterator[Metric]:
    """Yield the metrics of challengers in shadow by their ids; none without any."""
    shadows = sorted(figures.items())
    if not shadows:
        return
    label = ["challenger"]
    for name, what, value in _OF_SHADOWS:
        metric = CounterMetricFamily(f"beam_fraud_shadow_{name}", what, labels=label)
        for key, one in shadows:
            metric.add_metric([key], value(one))
        yield metric
    dropped = GaugeMetricFamily(
        "beam_fraud_shadow_dropped", "Whether it failed or was slow, and is dropped", labels=label
    )
    for key, one in shadows:
        dropped.add_metric([key], float(one.dropped is not None))
    yield dropped


def _lag(snapshot: Snapshot) -> Metric:
    lag = GaugeMetricFamily(
        "beam_fraud_lag_messages", "Messages that wait", labels=["topic", "partition"]
    )
    for source, position in sorted(snapshot.positions.items()):
        lag.add_metric(topic_and_partition(source), position.lag)
    return lag


def _latency(histogram: LatencyHistogram) -> Metric:
    ends = (*(str(bound) for bound in BOUNDS), "+Inf")
    buckets = list(zip(ends, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(
        "beam_fraud_latency_seconds",
        "From the broker's taking a message to its score",
        buckets=buckets,
        sum_value=histogram.seconds,
    )
