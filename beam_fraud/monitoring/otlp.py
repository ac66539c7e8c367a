"""Send the metrics that Prometheus reads to a collector of OpenTelemetry, by OTLP over HTTP."""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import urlsplit

from prometheus_client.core import Metric

from beam_fraud.errors import Code, FraudError, UsageError, need_extras
from beam_fraud.monitoring.periodic_work import periodically

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData, NumberDataPoint
    from opentelemetry.sdk.metrics.export import Metric as Exported
    from opentelemetry.sdk.resources import Resource

_LOG = logging.getLogger(__name__)
#: Type: returns the current metrics; called from another thread.
Collect: TypeAlias = Callable[[], Iterable[Metric]]
#: What the extra has beside what others bring along.
EXPORTER = "opentelemetry.exporter.otlp.proto.http"
#: Variables of the standard: endpoints, one that turns everything off, and one that chooses.
_BASE, _OWN = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
_DISABLED, _CHOSEN, _INTERVAL = (
    *("OTEL_SDK_DISABLED", "OTEL_METRICS_EXPORTER"),
    "OTEL_METRIC_EXPORT_INTERVAL",
)
_PATH = "/v1/metrics"
_PACKAGE = "beam-fraud"
#: Milliseconds between two exports, as the standard says.
_EVERY = 60_000.0
#: Seconds for the last export.
_LAST_SECONDS = 5


@dataclass(frozen=True)
class OtlpTarget:
    """Where metrics are sent."""

    #: URL of `--otlp`; None for that of the standard's variables.
    url: str | None
    #: Seconds between two exports.
    seconds: float

    @classmethod
    def of(
        cls, option: str | None, environment: Mapping[str, str] = os.environ
    ) -> OtlpTarget | None:
        """Return the target of `--otlp URL`, or of the standard's variables; None for none.

        Raises:
          UsageError: it is no URL of HTTP, or a variable is no number.
          FraudError: the extra is not installed, and `--otlp` is given.
        """
        if option is None:
            off = environment.get(_DISABLED, "").strip().lower() == "true"
            named = environment.get(_OWN) or environment.get(_BASE)
            if off or not named or environment.get(_CHOSEN, "otlp").strip() != "otlp":
                return None
            try:
                need_extras((EXPORTER,), _BASE)
            except FraudError as error:
                # Whoever set it may mean other programs.
                _LOG.warning("no metrics are sent: %s", error)
                return None
            return cls(None, _interval(environment))
        parts = urlsplit(option)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"--otlp {option}: give the URL of a collector, as in http://localhost:4318",
                Code.URL_UNUSABLE,
            )
        need_extras((EXPORTER,), "--otlp")
        path = option if parts.path.strip("/") else option.rstrip("/") + _PATH
        return cls(path, _interval(environment))


def _interval(environment: Mapping[str, str]) -> float:
    text = environment.get(_INTERVAL, "").strip() or str(_EVERY)
    try:
        milliseconds = float(text)
        if not 0 < milliseconds < math.inf:
            raise ValueError(text)
    except ValueError:
        raise UsageError(
            f"{_INTERVAL} {text}: must be a number of milliseconds", Code.OPTION_VALUE
        ) from None
    return milliseconds / 1e3


@contextmanager
def exporting(target: OtlpTarget | None, what: str, collect: Collect) -> Iterator[None]:
    """Send metrics while the body runs, and once more at its end.

    A collector that is away loses samples, which the next ones replace; it delays nothing.

    Args:
      target: where to; None for nowhere.
      what: `stream`, `serve` or `monitor`, for the attribute `service.name`.
      collect: returns the metrics.
    """
    if target is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    exporter = OTLPMetricExporter(endpoint=target.url)
    named = {
        "service.name": f"beam-fraud-{what}",
        "service.version": version(_PACKAGE),
        "service.instance.id": str(uuid.uuid4()),
    }
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes first, as everywhere.
    resource = Resource(named).merge(OTELResourceDetector().detect())
    begun = time.time_ns()

    def export() -> None:
        exporter.export(metrics_data(collect(), resource, begun, time.time_ns()))

    sending = periodically(
        export, target.seconds, "the export of metrics", at_once=False, patience=_LAST_SECONDS
    )
    try:
        with sending:
            yield
    finally:
        exporter.shutdown(_LAST_SECONDS * 1_000)


def metrics_data(
    families: Iterable[Metric], resource: Resource, since: int, now: int
) -> MetricsData:
    """Return metrics of Prometheus as those of OpenTelemetry.

    Counters are cumulative, monotonic sums, histograms keep their bounds, and information is a
    gauge of 1 with its labels as attributes. Names and labels stay as they are.

    Args:
      families: the metrics.
      resource: what they are of.
      since: begin of the counts, nanoseconds of the epoch.
      now: the time, likewise.
    """
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    exported = [one for family in families if (one := _exported(family, since, now)) is not None]
    scope = ScopeMetrics(InstrumentationScope("beam_fraud", version(_PACKAGE)), exported, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _exported(family: Metric, since: int, now: int) -> Exported | None:
    from opentelemetry.sdk.metrics import export

    unit = family.unit or ("s" if family.name.endswith("_seconds") else "")
    data: export.Sum | export.Gauge | export.Histogram
    if family.type == "histogram":
        points = list(_histograms(family, since, now))
        data = export.Histogram(points, export.AggregationTemporality.CUMULATIVE)
    elif family.type == "counter":
        numbers = list(_numbers(family, "_total", since, now))
        data = export.Sum(numbers, export.AggregationTemporality.CUMULATIVE, is_monotonic=True)
    else:
        data = export.Gauge(list(_numbers(family, "", since, now)))
    if not data.data_points:
        return None
    name = f"{family.name}_info" if family.type == "info" else family.name
    return export.Metric(name, family.documentation, unit, data)


def _numbers(family: Metric, ending: str, since: int, now: int) -> Iterator[NumberDataPoint]:
    from opentelemetry.sdk.metrics.export import NumberDataPoint

    for sample in family.samples:
        if sample.name.endswith(ending):
            yield NumberDataPoint(dict(sample.labels), since, now, float(sample.value))


def _histograms(family: Metric, since: int, now: int) -> Iterator[HistogramDataPoint]:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    ends: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        place = tuple(sorted(labels.items()))
        if sample.name.endswith("_bucket"):
            ends.setdefault(place, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[place] = sample.value
    for place, buckets in ends.items():
        bounds, upto = zip(*buckets, strict=True)
        yield HistogramDataPoint(
            dict(place),
            since,
            now,
            int(upto[-1]),
            sums.get(place, 0.0),
            _differences(upto),
            bounds[:-1],
            # Least and greatest are not known, and not sent.
            *cast(tuple[float, float], (None, None)),
        )


def _differences(upto: Sequence[float]) -> list[int]:
    return [int(one - before) for one, before in zip(upto, (0.0, *upto), strict=False)]
