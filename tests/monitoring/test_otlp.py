"""Metrics reach a receiver of OTLP with the values that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

from beam_fraud import errors
from beam_fraud.errors import Code
from beam_fraud.monitoring.otlp import OtlpTarget, exporting
from tests.failing import fails
from tests.otlp_receiver import labels_of, receiving


def families() -> Iterator[object]:
    done = CounterMetricFamily("beam_fraud_transactions", "Transactions", labels=["outcome"])
    done.add_metric(["scored"], 7)
    done.add_metric(["dead"], 2)
    yield done
    yield GaugeMetricFamily("beam_fraud_drift_alarms", "Alarms", 1)
    seconds = HistogramMetricFamily("beam_fraud_serve_seconds", "Time", labels=["stage"])
    seconds.add_metric(["http"], [("0.1", 3), ("1.0", 5), ("+Inf", 6)], 2.5)
    yield seconds
    yield InfoMetricFamily("beam_fraud_build", "What runs", {"model_id": "cards@1"})
    yield CounterMetricFamily("beam_fraud_none", "Without samples", labels=["rule"])


def test_values_arrive_as_they_are() -> None:
    with receiving() as receiver:
        target = OtlpTarget.of(receiver.url, {})
        with exporting(target, "serve", families):
            pass
        assert [path for path, _ in receiver.requests] == ["/v1/metrics"]
        found = receiver.last
    assert receiver.attributes["service.name"] == "beam-fraud-serve"
    counter = found["beam_fraud_transactions"].sum
    assert counter.is_monotonic
    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert counter.aggregation_temporality == cumulative
    values = {labels_of(one)["outcome"]: one.as_double for one in counter.data_points}
    assert values == {"scored": 7, "dead": 2}
    assert all(one.start_time_unix_nano < one.time_unix_nano for one in counter.data_points)
    assert found["beam_fraud_drift_alarms"].gauge.data_points[0].as_double == 1
    histogram = found["beam_fraud_serve_seconds"]
    [point] = histogram.histogram.data_points
    assert (list(point.bucket_counts), list(point.explicit_bounds)) == ([3, 2, 1], [0.1, 1.0])
    assert (point.count, point.sum, histogram.unit) == (6, 2.5, "s")
    assert not point.HasField("min")
    [build] = found["beam_fraud_build_info"].gauge.data_points
    assert labels_of(build) == {"model_id": "cards@1"}
    assert "beam_fraud_none" not in found


def test_the_variables_of_the_standard_name_receiver_interval_and_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiving() as receiver:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "10",
            "OTEL_SERVICE_NAME": "cards",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with exporting(OtlpTarget.of(None), "stream", families):
            assert receiver.came.wait(30)
        assert receiver.attributes["service.name"] == "cards"
        assert {path for path, _ in receiver.requests} == {"/v1/metrics"}


def test_a_receiver_that_is_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with receiving() as receiver:
        url = receiver.url
    done = []
    with exporting(OtlpTarget(f"{url}/v1/metrics", 60.0), "stream", lambda: []):
        done.append(True)
    assert done


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_nothing_is_sent_without_an_endpoint_or_when_turned_off(environment) -> None:
    assert OtlpTarget.of(None, environment) is None


def test_wrong_targets_and_a_missing_extra_are_named(monkeypatch, caplog) -> None:
    with fails(Code.URL_UNUSABLE, "--otlp localhost:4318"):
        OtlpTarget.of("localhost:4318", {})
    with fails(Code.OPTION_VALUE, "OTEL_METRIC_EXPORT_INTERVAL soon"):
        OtlpTarget.of("http://a", {"OTEL_METRIC_EXPORT_INTERVAL": "soon"})
    monkeypatch.setattr(errors, "is_installed", lambda module: False)
    with fails(Code.EXTRA_MISSING, r"--otlp: needs .*beam-fraud\[opentelemetry\]"):
        OtlpTarget.of("http://a", {})
    # Whoever sets the variable may mean other programs.
    assert OtlpTarget.of(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}) is None
    assert "opentelemetry" in caplog.text
