"""The figures of a report as gauges in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    # Its statistics are SciPy's, which those who read no report need not import.
    from beam_fraud.monitoring.drift.report import DriftReport, MeasureFigures

#: Type: returns the gauges of the last report of a monitor; called from any thread.
ReadGauges: TypeAlias = Callable[[], Iterable[Metric]]


def no_gauges() -> Iterable[Metric]:
    """Return none, without a monitor."""
    return ()


def exposition(families: Iterable[Metric]) -> bytes:
    """Return metrics as a text file for node_exporter's textfile collector."""
    registry = CollectorRegistry()
    registry.register(_Families(tuple(families)))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._families


def drift_metrics(report: DriftReport) -> Iterator[Metric]:
    """Yield the gauges of a report."""
    yield InfoMetricFamily(
        "beam_fraud_drift_model", "The monitored model", {"model_id": report.model_id}
    )
    yield from _figures([report.score, *report.features])
    weight = GaugeMetricFamily(
        "beam_fraud_drift_alarm",
        "Weight of an alarm that goes on and is not snoozed",
        labels=["what", "segment", "kind"],
    )
    for alarm in report.loud_alarms:
        weight.add_metric([alarm.what, alarm.segment or "", alarm.kind], alarm.weight)
    yield weight
    loud = len(report.loud_alarms)
    yield GaugeMetricFamily(
        "beam_fraud_drift_alarms", "Alarms that go on and are not snoozed", loud
    )
    yield GaugeMetricFamily(
        "beam_fraud_drift_snoozed_alarms",
        "Alarms that go on and are snoozed",
        len(report.open_alarms) - loud,
    )
    last = next((window for window in reversed(report.windows) if window.judged), None)
    if last is None:
        return
    yield GaugeMetricFamily("beam_fraud_drift_rows", "Rows of the last judged day", last.rows)
    if last.flagged is not None:
        yield GaugeMetricFamily(
            "beam_fraud_drift_flagged_ratio",
            "Share of flagged rows of the last judged day",
            last.flagged,
        )


def _figures(measures: list[MeasureFigures]) -> Iterator[Metric]:
    labels = ["measure", "segment"]
    psi = GaugeMetricFamily(
        "beam_fraud_drift_psi", "Stability index against the training rows", labels=labels
    )
    missing = GaugeMetricFamily(
        "beam_fraud_drift_missing_ratio", "Share of rows without a value", labels=labels
    )
    unseen = GaugeMetricFamily(
        "beam_fraud_drift_unseen_ratio", "Share of values that the model lacks", labels=labels
    )
    for one in measures:
        named = [one.name, one.segment or ""]
        if one.psi is not None:
            psi.add_metric(named, one.psi)
        missing.add_metric(named, one.missing)
        if one.unseen is not None:
            unseen.add_metric(named, one.unseen)
    yield from (psi, missing, unseen)
