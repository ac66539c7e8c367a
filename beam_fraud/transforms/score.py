"""Score records of any pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from beam_fraud.decisions.decider import Decider
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.toml import load_rules
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.bundle import Bundle, load_bundle
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.decide import Decide
from beam_fraud.transforms.deciders import Deciders
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
    """Outputs of `Score`; every record is in one of the two."""

    #: `records.ScoredTransaction`, or batches of `stages.SCORED`.
    scored: beam.PCollection[Any]
    #: `records.DeadLetter`, or batches of `stages.DEAD_LETTER`.
    dead_letters: beam.PCollection[Any]


@dataclass
class Score(beam.PTransform):
    """Score any pipeline's records, as `beam-fraud score` does.

    Accepts dicts, `beam.Row` and other named tuples, JSON objects as text, and
    `pyarrow.RecordBatch`. An invalid record becomes a dead letter. Records with repeated ids are
    all scored.

    A model with velocity features needs all rows of a key, so a bounded collection in the global
    window. Of rows with equal key and time, the one with the lower numeric id comes first.

    Raises, when it is applied:
      UsageError: an argument is invalid, or the collection is unbounded.
      FraudError: the bundle, the rules or the history cannot be used.
    """

    #: A bundle, its directory or its URL.
    model: Bundle | str | Path
    #: A TOML file of rules that raise or lower decisions, or None.
    rules: str | Path | None = None
    #: Maximum of reasons per flagged row; 0 for none.
    reasons: int = 5
    #: Paths, directories or globs of earlier transactions, which fill windows.
    history: Sequence[str | Path] = ()
    #: Form of both outputs: `rows` or `batches`.
    output: Output = "rows"

    def expand(self, records: beam.PCollection[Record]) -> Scored:
        """Build the graph of `score` for any source and sink."""
        check_output(self.output)
        if self.reasons < 0:
            raise UsageError(f"reasons={self.reasons}: must be 0 or more", Code.OPTION_VALUE)
        bundle = self.model if isinstance(self.model, Bundle) else load_bundle(self.model)
        schema = bundle.schema.with_ids()
        known = vocabulary(schema, bundle.velocity_names(), scored=True)
        rules = None if self.rules is None else load_rules(str(self.rules), known)
        features = bundle.features_in(schema, () if rules is None else rules.columns)
        history = tuple(map(Place.of, self.history))
        parsed = records | ParseRecords(features.schema, features.labels)
        deciders = Deciders(Decider(bundle, features, rules), self.reasons)
        scored = (
            parsed.transactions
            | "Velocity" >> VelocityOfRecords(features, history, features.labels)
            | "Features" >> Features(deciders)
            | "Infer" >> Infer(deciders)
            | "Decide" >> Decide(deciders)
            | "Explain" >> Explain(deciders)
        )
        return Scored(
            scored | "Scored" >> scored_as(self.output),
            parsed.dead_letters | "DeadLetters" >> dead_letters_as(self.output),
        )
