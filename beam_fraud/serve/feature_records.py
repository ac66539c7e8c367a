"""Records of a model's features instead of a transaction's columns.

A model without windows scores a row by itself. Programs that were written for such models send an
object of its features, without ids and times: `{"Time": 0, "V1": -1.36, ..., "Amount": 149.62}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle
from beam_fraud.pipeline.frames.scoring import Predict, Scorer
from beam_fraud.records.json_records import tolerant_json
from beam_fraud.records.validate import Arrived
from beam_fraud.schema.notation import PLAIN
from beam_fraud.schema.schema import RESERVED, FeatureColumn, Schema
from beam_fraud.serve.answered_rows import Features
from beam_fraud.serve.answers import Answered, faults_of
from beam_fraud.sources.nested import steps_of
from beam_fraud.sources.raw import POSITION

_AMOUNT, _TIME = "amount", "@time"
#: Roles whose columns say which transaction a record is.
_IDENTIFYING = ("transaction_id", "event_time", "account_id", "merchant_id")
_DECODE = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Divided:
    """Records, by what they hold."""

    #: Records of transactions, and their numbers among all, int64[n].
    transactions: list[bytes]
    places: npt.NDArray[np.int64]
    #: Records of features for `FeatureRecords.schema`, and their numbers, int64[m].
    features: list[bytes]
    feature_places: npt.NDArray[np.int64]


class FeatureRecords:
    """Reads records of features."""

    def __init__(self, features: FeatureSet) -> None:
        """Prepare the reading; `of` checks the features before.

        Args:
          features: the model's features, without windows.
        """
        schema = features.schema
        own = {feature.column: feature for feature in schema.features}
        #: Columns that say which transaction a record is; with one of them it is a transaction.
        self._identifying = [
            part
            for role in _IDENTIFYING
            if role in schema.roles
            for part in schema.parts(schema.roles[role])
            if part not in own
        ]
        column = schema.roles[_AMOUNT]
        #: Column of the amount, where the feature `amount` means the same number.
        plain = schema.notation_of(column) == PLAIN and schema.conversion is None
        self._amount = column if plain and column != _AMOUNT else None
        #: Name of a feature to its name in `schema`.
        self._names = {name: f"@{name}" if name in RESERVED else name for name in features.names}
        self._names.pop(_AMOUNT, None)
        #: Feature to how it is read, in the model's order.
        self.inputs = {
            name: FeatureColumn(name) if name == _AMOUNT else own.get(name, FeatureColumn(name))
            for name in features.names
        }
        #: Features without which a record is none of features.
        self._needed = [
            name for name in self._names if name not in own or own[name].missing == "reject"
        ]
        #: The schema that records of features are read by.
        self.schema = Schema(
            name=schema.name,
            roles={"event_time": _TIME, _AMOUNT: _AMOUNT},
            features=tuple(
                replace(own.get(name, FeatureColumn(name)), column=renamed)
                for name, renamed in self._names.items()
            ),
            calendar=False,
            allow_negative=schema.allow_negative,
            absent=schema.absent,
            reading=schema.reading,
        )
        #: The same features under the names of `schema`.
        self.features = FeatureSet(
            self.schema,
            {self._names[name]: known for name, known in features.categories.items()},
            tuple(self._names.get(name, name) for name in features.names),
        )

    @classmethod
    def of(cls, features: FeatureSet, rules: RuleSet | None) -> FeatureRecords | None:
        """Return the reader of a model's features.

        None if a row's features depend on other rows, if rules need a transaction's columns, or if
        records are wrapped.
        """
        wrapped = features.schema.source.unwrap is not None
        return None if features.velocity or rules is not None or wrapped else cls(features)

    def divide(self, records: Sequence[bytes]) -> Divided:
        """Divide records, and write the amount of each under the name of its column."""
        transactions, features = dict[int, bytes](), dict[int, bytes]()
        for number, record in enumerate(records):
            values = _members(record)
            if values is None:
                transactions[number] = record
                continue
            if self._amount is not None and _AMOUNT in values and self._amount not in values:
                values[self._amount] = values.pop(_AMOUNT)
                record = json.dumps(values).encode()
            if self._holds_features(values):
                features[number] = self._rewritten(values)
            else:
                transactions[number] = record
        return Divided(
            list(transactions.values()),
            np.fromiter(transactions, dtype=np.int64),
            list(features.values()),
            np.fromiter(features, dtype=np.int64),
        )

    def _holds_features(self, values: Mapping[str, Any]) -> bool:
        """Return True if a record has every feature and neither id nor time."""
        return (
            bool(self._identifying)
            and all(_at(values, column) is None for column in self._identifying)
            and all(_at(values, name) is not None for name in self._needed)
        )

    def _rewritten(self, values: Mapping[str, Any]) -> bytes:
        record = {renamed: _at(values, name) for name, renamed in self._names.items()}
        record[_AMOUNT] = values.get(self._amount or _AMOUNT)
        record[_TIME] = datetime.now(UTC).isoformat()
        return json.dumps(record).encode()


class FeatureScoring(NamedTuple):
    """Scores records of a model's features."""

    records: FeatureRecords
    #: Model and reasons over `FeatureRecords.features`, without rules.
    scorer: Scorer

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        features: FeatureSet,
        rules: RuleSet | None,
        reasons: Reasons | None,
        predict: Predict | None = None,
    ) -> FeatureScoring | None:
        """Return what scores records of features by a bundle; None if none are accepted.

        The arguments are those of `Scorer`.
        """
        records = FeatureRecords.of(features, rules)
        if records is None:
            return None
        return cls(records, Scorer(bundle, records.features, None, reasons, predict))


def without_ids(
    checked: Arrived, rows: pa.RecordBatch, records: int, features: Features | None = None
) -> Answered:
    """Return the answers to records of features, which have no id.

    Args:
      checked: the records.
      rows: rows of `ANSWERED`.
      records: number of the records.
      features: the model's input of the rows, or None.
    """
    ids = pa.nulls(len(rows), pa.string())
    rows = rows.set_column(0, rows.schema.field(0), ids)
    faults = {
        record: replace(fault, field=fault.field and fault.field.removeprefix("@"))
        for record, fault in faults_of(0, checked).items()
    }
    places = np.asarray(checked.transactions.column(POSITION))
    return Answered(rows, places, faults, records, features)


def merged(transactions: Answered, features: Answered, divided: Divided) -> Answered:
    """Return the answers to all records."""
    records = len(divided.places) + len(divided.feature_places)
    return transactions.at(divided.places, records).joined(
        features.at(divided.feature_places, records)
    )


def _members(record: bytes) -> dict[str, Any] | None:
    """Return the members of a JSON object; None if it is none."""
    try:
        values = _DECODE(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            values = tolerant_json(record)
        except (ValueError, RecursionError):
            return None
    return values if isinstance(values, dict) else None


def _at(values: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column; None if it is absent."""
    steps = steps_of(column)
    if column in values or steps is None:
        return values.get(column)
    at: Any = values
    for step in steps:
        if isinstance(step, int):
            at = at[step] if isinstance(at, list) and step < len(at) else None
        else:
            at = at.get(step) if isinstance(at, dict) else None
    return at
