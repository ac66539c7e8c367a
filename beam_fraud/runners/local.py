"""Beam's local runner for unbounded pipelines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apache_beam.metrics import monitoring_infos
from apache_beam.portability.api import metrics_pb2

from beam_fraud.platform.beam_internals import FnApiRunner, metrics_and_sampling

#: From one sample of the step at work to the next; nothing here uses the samples.
_SAMPLING_MILLISECONDS = 2


class EndlessRunner(FnApiRunner):
    """`FnApiRunner` with constant memory and without delays at bundle ends.

    After each bundle, `FnApiRunner` chains the bundle's metrics to those of all bundles before in
    generators that nothing consumes before the end: every bundle stays in memory, and a thousand of
    them end in a RecursionError. This runner adds up the counters at once and drops other metrics,
    which the graph does not have.

    At the end of each bundle, `FnApiRunner` joins a thread that samples which step is at work. The
    thread sleeps between samples for a sixth of the bundle's duration; here it samples often.
    """

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        with metrics_and_sampling(added_up, _SAMPLING_MILLISECONDS):
            return super().run_stages(stage_context, stages)


def added_up(infos: Iterable[metrics_pb2.MonitoringInfo]) -> list[metrics_pb2.MonitoringInfo]:
    """Return the counters of steps, summed by name and step; drop other metrics.

    Args:
      infos: metrics of any kind.
    """
    counters = [info for info in infos if info.urn == monitoring_infos.USER_COUNTER_URN]
    return list(monitoring_infos.consolidate(counters))
