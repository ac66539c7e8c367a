"""Decide on transactions by scores and rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
import pyarrow as pa

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.inputs import without_inputs
from beam_fraud.features.matrix import append_block
from beam_fraud.monitoring.counters import ROWS_AUDITED, ROWS_FLAGGED, ROWS_SCORED, rule_counter
from beam_fraud.transforms.counters import count
from beam_fraud.transforms.deciders import Deciders
from beam_fraud.transforms.infer import Scored


@dataclass
class Decide(beam.PTransform):
    """Convert transactions, features and scores to rows of `stages.SCORED` with features.

    The features (`features.block`) stay beside the rows until `Explain` has computed the reasons.
    """

    #: What decides.
    deciders: Deciders

    def expand(self, scored: beam.PCollection[Scored]) -> beam.PCollection[pa.RecordBatch]:
        """Decide, and explain nothing yet."""
        return scored | beam.ParDo(_Decide(self.deciders)).with_output_types(pa.RecordBatch)


@dataclass
class Flagged(beam.PTransform):
    """Keep the flagged rows, without their inputs.

    With an audit, keep the audited ones as well: rows of `stages.SEEN`.
    """

    #: Which unflagged rows are audited; None for none.
    audit: AuditLane | None = None

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Keep them; blocks without any go no further."""
        chosen = _flagged if self.audit is None else partial(_seen, audit=self.audit)
        return scored | beam.FlatMap(chosen).with_output_types(pa.RecordBatch)


class _Decide(beam.DoFn):
    """Compile the rules once per process."""

    def __init__(self, deciders: Deciders) -> None:
        self._deciders = deciders

    def setup(self) -> None:
        self._in_force = self._deciders.in_force()
        _ = self._in_force.current.program

    def process(self, scored: Scored) -> Iterator[pa.RecordBatch]:
        transactions, block, scores = scored
        count(ROWS_SCORED, len(transactions))
        decided, fired = self._in_force.of(transactions).decide(transactions, block, scores)
        if fired is not None:
            for rule, rows in zip(fired.rules, fired.counts, strict=True):
                count(rule_counter(rule.name, shadow=rule.shadow), rows)
        yield append_block(decided, block)


def _flagged(scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    flagged = scored.filter(scored.column("flagged"))
    if len(flagged):
        count(ROWS_FLAGGED, len(flagged))
        yield without_inputs(flagged)


def _seen(scored: pa.RecordBatch, audit: AuditLane) -> Iterator[pa.RecordBatch]:
    seen = scored.filter(pa.array(audit.seen(scored)))
    if len(seen):
        flagged = seen.column("flagged").true_count
        count(ROWS_FLAGGED, flagged)
        count(ROWS_AUDITED, len(seen) - flagged)
        yield audit.with_probability(without_inputs(seen))
