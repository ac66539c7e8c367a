"""The report of a monitor on a model: drift and quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric

from beam_fraud.evaluation.quality.gauges import quality_gauges
from beam_fraud.evaluation.quality.quality import Quality
from beam_fraud.monitoring.drift.gauges import drift_metrics
from beam_fraud.monitoring.drift.report import DriftReport


@dataclass(frozen=True)
class MonitorReport:
    """The report of a monitor."""

    drift: DriftReport
    #: None if scores are not counted by decision.
    quality: Quality | None

    def gauges(self) -> Iterator[Metric]:
        """Yield the figures as gauges of Prometheus."""
        yield from drift_metrics(self.drift)
        if self.quality is not None:
            yield from quality_gauges(self.quality)
