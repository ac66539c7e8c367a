"""Beam's local runner for pipelines that do not end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.metrics import monitoring_infos
from apache_beam.portability.api import metrics_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner


class EndlessRunner(fn_runner.FnApiRunner):
    """`FnApiRunner` whose memory does not grow with the number of bundles.

    After each bundle that one chains the bundle's metrics to those of all before in generators that
    nothing runs through before the end: every bundle stays in memory, and after a thousand the end
    is a RecursionError. Here they are added up at once, and only the counters, which are all that
    the graph has.
    """

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        """Run the stages as the base class does."""
        with _added_up_at_once():
            return super().run_stages(stage_context, stages)


@contextmanager
def _added_up_at_once() -> Iterator[None]:
    # There is no other way in: the function is called from the middle of a long method.
    before = fn_runner.consolidate_monitoring_infos
    fn_runner.consolidate_monitoring_infos = added_up
    try:
        yield
    finally:
        fn_runner.consolidate_monitoring_infos = before


def added_up(infos: Iterable[metrics_pb2.MonitoringInfo]) -> list[metrics_pb2.MonitoringInfo]:
    """The counters of steps, those of the same name and step as one; all else is left out.

    Args:
      infos: metrics of any kind.
    """
    counters = [info for info in infos if info.urn == monitoring_infos.USER_COUNTER_URN]
    return list(monitoring_infos.consolidate(counters))
