"""Decide on transactions by scores and rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.decisions.decision import decide
from beam_fraud.decisions.rules.program import Program
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.features.matrix import FeatureSet, append_block
from beam_fraud.models.manifest import Thresholds
from beam_fraud.monitoring.counters import ROWS_FLAGGED, ROWS_SCORED, RULE_PREFIX
from beam_fraud.transforms.counters import count
from beam_fraud.transforms.infer import Scored


@dataclass
class Decide(beam.PTransform):
    """Convert transactions, features and scores to rows of `stages.SCORED` with features.

    The features (`features.block`) stay beside the rows until `Explain` has computed the reasons.
    """

    #: The scores from which a transaction is reviewed or declined.
    thresholds: Thresholds
    #: Id of the model.
    model_id: str
    #: Rules that may overrule the model, or None.
    rules: RuleSet | None = None
    #: The features of the blocks, for rules alone.
    features: FeatureSet | None = None

    def expand(self, scored: beam.PCollection[Scored]) -> beam.PCollection[pa.RecordBatch]:
        """One step."""
        step = _Decide(self.thresholds, self.model_id, self.rules, self.features)
        return scored | beam.ParDo(step).with_output_types(pa.RecordBatch)


@dataclass
class Flagged(beam.PTransform):
    """Keep the flagged rows."""

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step; blocks without any go no further."""
        return scored | beam.FlatMap(_flagged).with_output_types(pa.RecordBatch)


class _Decide(beam.DoFn):
    """Compile the rules once per worker."""

    def __init__(
        self,
        thresholds: Thresholds,
        model_id: str,
        rules: RuleSet | None,
        features: FeatureSet | None,
    ) -> None:
        self._thresholds = thresholds
        self._model_id = model_id
        self._rules = rules
        self._features = features

    def setup(self) -> None:
        self._program: Program | None = None
        if self._rules is not None and self._features is not None:
            self._program = Program(self._rules, self._features)

    def process(self, scored: Scored) -> Iterator[pa.RecordBatch]:
        transactions, block, scores = scored
        count(ROWS_SCORED, len(transactions))
        fired = None
        if self._program is not None:
            fired = self._program.fired(transactions, block, scores)
            for rule, rows in zip(fired.rules, fired.counts, strict=True):
                count(RULE_PREFIX + rule.name, rows)
        decided = decide(transactions, scores, self._thresholds, self._model_id, fired)
        yield append_block(decided, block)


def _flagged(scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    flagged = scored.filter(scored.column("flagged"))
    if len(flagged):
        count(ROWS_FLAGGED, len(flagged))
        yield flagged
