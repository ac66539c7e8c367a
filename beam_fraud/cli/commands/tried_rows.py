"""Transactions that rules are tried on, with the scores of the model beside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options.modelling import TriedRowsOptions
from beam_fraud.decisions.rules.condition import Kind, vocabulary
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.candidate import overlap_warning
from beam_fraud.evaluation.rows import Floats, Labels
from beam_fraud.features.dataset import Dataset, load_dataset, mixed_currencies
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.bundle import Bundle, check_packages, load_model
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.predict import predict_scores
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema

_LOG = logging.getLogger(__name__)
#: Rows per block, as in the graph.
_BLOCK_ROWS = 50_000
#: Label of a row without one.
_UNKNOWN = -1


@dataclass(frozen=True)
class TriedBlock:
    """n transactions."""

    #: n rows as `Schema.transactions` describes them, with velocity features.
    transactions: pa.RecordBatch
    #: float64[n, features] and float64[n]; scores are 0 without a model.
    block: Floats
    scores: Floats
    #: int8[n]: 1 is fraud, 0 genuine, -1 unknown.
    labels: Labels


@dataclass(frozen=True)
class TriedRows:
    """Transactions that rules are tried on."""

    dataset: Dataset
    #: The model's features, with those for the rules.
    features: FeatureSet
    #: The model beside the rules, or None.
    bundle: Bundle | None

    @classmethod
    def read(
        cls,
        options: TriedRowsOptions,
        schema: Schema,
        bundle: Bundle | None,
        columns: Sequence[str],
    ) -> TriedRows:
        """Read the rows of a call, and warn of what makes figures on them mislead.

        Args:
          options: options of the call.
          schema: schema of the transactions.
          bundle: the model, or None.
          columns: columns and features that the rules name.

        Raises:
          FraudError: there are no rows, or a file or the bundle cannot be used.
        """
        since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
        on, history = input_places(options.on), input_places(options.history)
        if bundle is None:
            velocity = tuple(part for spec in schema.velocity for part in spec.only({*columns}))
            features = FeatureSet(replace(schema, velocity=velocity), order=("amount",))
        else:
            check_packages(bundle)
            features = bundle.features_in(schema, columns)
        dataset = load_dataset(
            on, features.schema, since=since, until=until, history=history, labels="known"
        )
        if dataset.rows_dead:
            _LOG.warning("%s", dataset.left_out)
        if not dataset.transactions.num_rows:
            raise FraudError(
                "no rows to try the rules on in the files and times given", Code.INPUT_EMPTY
            )
        for warning in (
            _overlap(dataset.transactions, bundle),
            mixed_currencies(dataset.transactions, features.schema),
            None if dataset.reach is None else dataset.reach.warning(),
        ):
            if warning is not None:
                _LOG.warning("%s", warning)
        return cls(dataset, features, bundle)

    @property
    def thresholds(self) -> Thresholds:
        """Those of the model; without one, only rules flag."""
        return Thresholds(1.0) if self.bundle is None else self.bundle.thresholds

    def blocks(self) -> Iterator[TriedBlock]:
        """Yield the rows by blocks.

        Raises:
          FraudError: the model cannot be opened.
        """
        model = None if self.bundle is None else load_model(self.bundle)
        total, done = self.dataset.transactions.num_rows, 0
        with doing("trying the rules", lambda: f"{done:,} of {total:,} rows"):
            for rows in self.dataset.transactions.to_batches(max_chunksize=_BLOCK_ROWS):
                block = feature_matrix(rows, self.features)
                scores = np.zeros(len(rows)) if model is None else predict_scores(model, block)
                yield TriedBlock(rows, block, scores, _labels(rows))
                done += len(rows)


def schema_of_rules(named: str | None, bundle: Bundle | None) -> Schema:
    """Return the schema of `--schema`, or that of the model.

    Raises:
      UsageError: there is neither.
    """
    if named is not None:
        return load_schema(named)
    if bundle is None:
        raise UsageError(
            "--schema: say what the transactions look like, or give --model BUNDLE",
            Code.OPTION_MISSING,
        )
    return bundle.schema


def names_for_rules(schema: Schema, bundle: Bundle | None) -> dict[str, Kind]:
    """Return the names that conditions may use; `score` beside a model alone."""
    if bundle is None:
        return vocabulary(schema, scored=False)
    return vocabulary(schema, bundle.velocity_names(), scored=True)


def _overlap(transactions: pa.Table, bundle: Bundle | None) -> str | None:
    """Return a warning if the model may have been fitted on these labels."""
    if bundle is None or "label" not in transactions.column_names:
        return None
    times = event_micros(transactions)
    return overlap_warning(bundle, int(times.min()), int(times.max()))


def _labels(rows: pa.RecordBatch) -> Labels:
    if "label" not in rows.schema.names:
        return np.full(len(rows), _UNKNOWN, dtype=np.int8)
    known = rows.column("label").fill_null(_UNKNOWN)
    return np.asarray(known.to_numpy(zero_copy_only=False)).astype(np.int8)
