"""The requirements of a graph, read from the graph: tests compare refusals with them."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.runners.common import DoFnSignature
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import get_dofn_specs

from beam_fraud.runners.runner import Capability


def needs_of(pipeline: beam.Pipeline) -> dict[Capability, str]:
    """Return the requirements of a pipeline, each with the first step that has it."""
    visitor = _Needs()
    pipeline.visit(visitor)
    return visitor.found


class _Needs(PipelineVisitor):
    def __init__(self) -> None:
        self.found: dict[Capability, str] = {}

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        if isinstance(transform_node.transform, beam.GroupByKey):
            self._look(transform_node)

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        self._look(transform_node)

    def _look(self, node: AppliedPTransform) -> None:
        transform = node.transform
        endless = any(not collection.is_bounded for collection in node.inputs)
        if isinstance(transform, beam.GroupByKey) and endless:
            self._need(Capability.GROUPS_IN_A_STREAM, node)
        if isinstance(transform, beam.ParDo):
            dofn = transform.dofn
            signature = DoFnSignature(dofn)
            if signature.is_unbounded_per_element():
                self._need(Capability.ENDLESS_SOURCE, node)
            if signature.is_stateful_dofn():
                self._need(Capability.STATE, node)
                _, timers = get_dofn_specs(dofn)
                if any(timer.time_domain == TimeDomain.REAL_TIME for timer in timers):
                    self._need(Capability.CLOCK_TIMERS, node)

    def _need(self, capability: Capability, node: AppliedPTransform) -> None:
        self.found.setdefault(capability, node.full_label)
