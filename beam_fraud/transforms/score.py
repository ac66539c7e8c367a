"""Scoring as one step of anybody's pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.decisions.rules.vocabulary import vocabulary
from beam_fraud.errors import UsageError
from beam_fraud.models.bundle import Bundle, load_bundle
from beam_fraud.transforms.decide import Decide
from beam_fraud.transforms.explain import Explain
from beam_fraud.transforms.features import Features
from beam_fraud.transforms.infer import Infer
from beam_fraud.transforms.parse import ParseRecords
from beam_fraud.transforms.records import (
    Output,
    Record,
    check_output,
    dead_letters_as,
    scored_as,
)
from beam_fraud.transforms.velocity import VelocityOfRecords


class Scored(NamedTuple):
    """What `Score` gives; every record is in one of the two."""

    #: `records.ScoredTransaction`, or batches of `stages.SCORED`.
    scored: beam.PCollection[Any]
    #: `records.DeadLetter`, or batches of `stages.DEAD_LETTER`.
    dead_letters: beam.PCollection[Any]


@dataclass
class Score(beam.PTransform):
    """Records of any pipeline to scored transactions, those of `beam-fraud score`.

    Takes dicts, `beam.Row` and other named tuples, JSON objects as text, and `pyarrow.RecordBatch`.
    A record that is no transaction is a dead letter. Records that repeat an id are all scored.

    A model with velocity features needs all rows of a key, so a bounded collection in the global
    window. Of rows of one key and time, that with the lower number for an id comes first.

    Raises, when it is applied:
      UsageError: an argument cannot be meant, or the collection has no end.
      FraudError: the bundle, the rules or the history cannot be used.
    """

    #: A bundle, its directory or its URL.
    model: Bundle | str | Path
    #: A TOML file of rules that raise or lower decisions, or None.
    rules: str | Path | None = None
    #: Reasons of a flagged row at most; 0 for none.
    reasons: int = 5
    #: Paths, directories or globs of earlier transactions, which fill windows.
    history: Sequence[str | Path] = ()
    #: What both results hold: `rows` or `batches`.
    output: Output = "rows"

    def expand(self, records: beam.PCollection[Record]) -> Scored:
        """Return the graph of `score`, between any source and any sink."""
        check_output(self.output)
        if self.reasons < 0:
            raise UsageError(f"reasons={self.reasons}: must be 0 or more")
        bundle = self.model if isinstance(self.model, Bundle) else load_bundle(self.model)
        schema = bundle.schema.with_ids()
        known = vocabulary(schema, bundle.velocity_names(), scored=True)
        rules = None if self.rules is None else load_rules(str(self.rules), known)
        features = bundle.features_in(schema, () if rules is None else rules.columns)
        history = tuple(str(file) for file in self.history)
        parsed = records | ParseRecords(features.schema, features.labels)
        scored = (
            parsed.transactions
            | "Velocity" >> VelocityOfRecords(features, history, features.labels)
            | "Features" >> Features(features)
            | "Infer" >> Infer(bundle)
            | "Decide" >> Decide(bundle.thresholds, bundle.model_id, rules, features)
            | "Explain" >> Explain(bundle, self.reasons)
        )
        return Scored(
            scored | "Scored" >> scored_as(self.output),
            parsed.dead_letters | "DeadLetters" >> dead_letters_as(self.output),
        )
