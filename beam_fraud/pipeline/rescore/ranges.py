"""Rescore on a runner of Beam: each worker scores a range of partitions by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import apache_beam as beam

from beam_fraud.features.velocity.reach import look_back
from beam_fraud.pipeline.rescore.plan import Plan, mark_needed
from beam_fraud.pipeline.rescore.run import Run, Settings
from beam_fraud.pipeline.rescore.scoring import Scorers
from beam_fraud.storage.rescore_outputs import RescoreOutputs


def ranges_of(plan: Plan, number: int) -> list[Plan]:
    """Divide the partitions to score into ranges of about equal size, each a plan of its own.

    Rows that the windows of a range reach before it are read for that range as well, so ranges
    need nothing of each other.

    Args:
      plan: the whole.
      number: maximum of ranges.
    """
    pending = plan.pending
    # An id of any earlier row makes a row a repeat.
    number = 1 if plan.scope.dedupe_across else min(number, len(pending))
    total = sum(task.size for task in pending) or 1
    parts: list[list[str]] = [[] for _ in range(number)]
    before = 0
    for task in pending:
        parts[min(before * number // total, number - 1)].append(task.name)
        before += task.size
    return [_only(plan, names) for names in parts if names]


def _only(plan: Plan, names: Sequence[str]) -> Plan:
    tasks = [replace(task, pending=task.name in names) for task in plan.tasks]
    part = replace(plan, tasks=tasks)
    mark_needed(part, look_back(plan.sides.velocity))
    return part


@dataclass
class ScoreRanges(beam.PTransform):
    """Score ranges of partitions, and publish each partition; failures are noted in `outputs`."""

    #: Plans of `ranges_of`.
    ranges: Sequence[Plan]
    #: The outputs, in a directory that all workers share, or at a URL.
    outputs: RescoreOutputs
    settings: Settings

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[None]:
        """One element a range."""
        return (
            root
            | "Ranges" >> beam.Create(list(self.ranges), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "Score" >> beam.Map(score_range, self.outputs, replace(self.settings, workers=1))
        )


def score_range(plan: Plan, outputs: RescoreOutputs, settings: Settings) -> None:
    """Score the partitions of a plan."""
    scorers = Scorers(plan.sides, settings.reasons, keep_features=settings.keep_features)
    with outputs.attempt() as attempt:
        records = Run(plan, attempt, settings, scorers)()
    for record in records.values():
        if record.state == "failed":
            outputs.note_failure(record.name, record.to_bytes())
