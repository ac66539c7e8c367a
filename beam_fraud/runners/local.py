"""Beam's local runner for pipelines that do not end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from apache_beam.metrics import monitoring_infos
from apache_beam.portability.api import metrics_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.worker import statesampler

#: How often it is looked which step is at work, which nothing here makes use of.
_SAMPLING_MILLISECONDS = 2


class EndlessRunner(fn_runner.FnApiRunner):
    """`FnApiRunner` whose memory does not grow with the number of bundles, and whose bundles end.

    After each bundle that one chains the bundle's metrics to those of all before in generators that
    nothing runs through before the end: every bundle stays in memory, and after a thousand the end
    is a RecursionError. Here they are added up at once, and only the counters, which are all that
    the graph has.

    At the end of each bundle it waits for a thread that looks now and then which step is at work,
    and sleeps in between for a sixth of the time that the bundle has taken. Here it looks often.
    """

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        """Run the stages as the base class does."""
        # There is no other way in: both are used in the middle of long methods.
        sampler = partial(statesampler.StateSampler, sampling_period_ms=_SAMPLING_MILLISECONDS)
        with (
            _replaced(fn_runner, "consolidate_monitoring_infos", added_up),
            _replaced(statesampler, "StateSampler", sampler),
        ):
            return super().run_stages(stage_context, stages)


@contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def added_up(infos: Iterable[metrics_pb2.MonitoringInfo]) -> list[metrics_pb2.MonitoringInfo]:
    """Return the counters of steps, those of the same name and step as one; all else is left out.

    Args:
      infos: metrics of any kind.
    """
    counters = [info for info in infos if info.urn == monitoring_infos.USER_COUNTER_URN]
    return list(monitoring_infos.consolidate(counters))
