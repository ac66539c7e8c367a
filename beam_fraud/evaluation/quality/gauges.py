"""The newest figures of quality as gauges of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from beam_fraud.evaluation.quality.quality import Period, Quality

_NAMES = ("precision", "recall")


def quality_gauges(quality: Quality) -> Iterator[Metric]:
    """Yield expected figures of the last whole week, and measured ones of the newest with labels.

    A measured figure carries `state`: `mature`, or `corrected` for labels to come.
    """
    last = next((one for one in reversed(quality.periods) if one.whole), None)
    expected = GaugeMetricFamily(
        "beam_fraud_quality_expected_ratio",
        "Figure that scores let expect of the last whole week",
        labels=["figure"],
    )
    if last is not None and last.expected is not None:
        for name in _NAMES:
            value = getattr(last.expected, name).value
            if value is not None:
                expected.add_metric([name], value)
    measured = GaugeMetricFamily(
        "beam_fraud_quality_measured_ratio",
        "Figure by labels of the newest week that has one in this state",
        labels=["figure", "state"],
    )
    since = GaugeMetricFamily(
        "beam_fraud_quality_measured_age_days",
        "Days from the end of that week to the end of the archive",
        labels=["state"],
    )
    for state in ("mature", "corrected"):
        newest = next((one for one in reversed(quality.periods) if _state(one) == state), None)
        if newest is None or newest.measured is None:
            continue
        for name in _NAMES:
            value = getattr(newest.measured, name).value
            if value is not None:
                measured.add_metric([name, state], value)
        since.add_metric([state], newest.days_before(quality.periods[-1]))
    yield from (expected, measured, since)
    yield GaugeMetricFamily(
        "beam_fraud_quality_assumption",
        "1 while scores mean what they meant as far as labels and drift tell, 0 if they do not",
        0 if quality.assumption.holds is False else 1,
    )


def _state(period: Period) -> str:
    return "" if period.measured is None or not period.whole else period.measured.state
