"""The inputs of a decision, kept beside its row, so that the decision can be computed again.

A kept row has more columns after those of a scored row:

decided_at    when it was decided, to which changes of lists belong
rule_inputs   what rules read beside the row and the model's features: a struct
muted_rules   rules that held, and were muted
features      the model's input: a struct of float64, every value with its bits
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.decision import names_of_rules
from beam_fraud.decisions.rules.condition import Column, Kind, columns_of
from beam_fraud.decisions.rules.rule import Fired, RuleSet, listings_of
from beam_fraud.features.matrix import FeatureSet, NumberOf, Values, number_of, numeric_feature
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import SCORED

DECIDED_AT, RULE_INPUTS, MUTED_RULES, FEATURES = (
    *("decided_at", "rule_inputs", "muted_rules"),
    "features",
)
#: Every column that a kept row may have beside those of a scored row.
KEPT = (DECIDED_AT, RULE_INPUTS, MUTED_RULES, FEATURES)
_TYPES: dict[Kind, pa.DataType] = {"number": pa.float64(), "text": pa.string()}
#: Type of a list of names of rules.
RULE_NAMES = SCORED.field("rules").type
#: Names of conditions that a scored row itself holds.
_OF_ROW = frozenset({*SCORED.names[:5], "score"})


@dataclass(frozen=True)
class InputColumns:
    """The columns of the kept inputs of one model and rule set."""

    #: Names of the model's features, in its order.
    features: tuple[str, ...]
    #: Name and kind of what rules read beside the row and the features.
    read: tuple[tuple[str, Kind], ...] = ()
    #: Look-ups of lists, as `account_id in @blocked`.
    listings: tuple[str, ...] = ()
    #: Whether there are rules.
    ruled: bool = False

    @cached_property
    def fields(self) -> tuple[pa.Field, ...]:
        """The columns, in the order in which they follow those of a row."""
        fields = [pa.field(DECIDED_AT, EVENT_TIME)]
        if self.read or self.listings:
            fields.append(pa.field(RULE_INPUTS, self.rule_inputs))
        if self.ruled:
            fields.append(pa.field(MUTED_RULES, RULE_NAMES))
        return (*fields, pa.field(FEATURES, pa.struct(self._feature_fields)))

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of the columns alone."""
        return pa.schema(self.fields)

    @cached_property
    def _feature_fields(self) -> list[pa.Field]:
        return [pa.field(name, pa.float64(), nullable=False) for name in self.features]

    @cached_property
    def rule_inputs(self) -> pa.StructType:
        """The type of what rules read."""
        read = [pa.field(name, _TYPES[kind]) for name, kind in self.read]
        return pa.struct([*read, *(pa.field(name, pa.bool_()) for name in self.listings)])

    def before_features(
        self, decided_at: pa.Array, read: Sequence[pa.Array], muted: pa.Array | None = None
    ) -> list[pa.Array]:
        """Return the columns before the features.

        Args:
          decided_at: n times.
          read: n values of each column of `read`, then of each of `listings`.
          muted: n lists of the muted rules; None where none is muted.
        """
        columns = [decided_at]
        if self.read or self.listings:
            columns.append(pa.StructArray.from_arrays(read, fields=list(self.rule_inputs)))
        if self.ruled:
            columns.append(pa.nulls(len(decided_at), RULE_NAMES) if muted is None else muted)
        return columns

    def of_features(self, block: npt.NDArray[np.float64]) -> pa.StructArray:
        """Return the column of the features.

        Args:
          block: the model's input, float64[n, features].
        """
        # One transposition costs less than a strided copy of each column, and slices of one array
        # less than arrays.
        rows, columns = block.shape
        values = pa.array(np.ascontiguousarray(block.T).ravel())
        each = [values.slice(at * rows, rows) for at in range(columns)]
        return pa.StructArray.from_arrays(each, fields=self._feature_fields)


class InputValues(NamedTuple):
    """The kept inputs of n rows that were decided together, as values."""

    #: When, microseconds of the epoch.
    decided_at: int
    #: n.
    rows: int
    #: n values of each column that rules read, then of each look-up of a list.
    read: list[list[Any]]
    #: Names of the muted rules of each row; None if none is muted.
    muted: list[list[str]] | None
    #: The model's input, float64[n, features] in the order of its rows, least byte first.
    features: bytes


@dataclass(frozen=True)
class DecisionInputs:
    """The kept inputs of the decisions of one model and rule set."""

    #: The model's features, in its order.
    features: FeatureSet
    #: Columns and features that rules read, and that neither the row nor `features` hold.
    columns: tuple[Column, ...] = ()
    #: Look-ups of lists, as `account_id in @blocked`.
    listings: tuple[str, ...] = ()
    #: Whether there are rules.
    ruled: bool = False

    @classmethod
    def of(cls, features: FeatureSet, rules: RuleSet | None) -> DecisionInputs:
        """Return the inputs of a model's and rules' decisions."""
        if rules is None:
            return cls(features)
        coded = {features.names[place] for place in features.categorical}
        known = _OF_ROW.union(features.names) - coded
        read = (column for rule in rules.rules for column in columns_of(rule.condition))
        beside = dict.fromkeys(column for column in read if column.name not in known)
        return cls(features, tuple(beside), listings_of(rules), ruled=True)

    @cached_property
    def kept_columns(self) -> InputColumns:
        """The columns that follow those of a row."""
        read = tuple((column.name, column.kind) for column in self.columns)
        return InputColumns(tuple(self.features.names), read, self.listings, self.ruled)

    def after(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of kept rows.

        Args:
          schema: `stages.SCORED`, or one that extends it.
        """
        return pa.schema([*schema, *self.kept_columns.fields], schema.metadata)

    def with_rule_inputs(
        self,
        decided: pa.RecordBatch,
        transactions: pa.RecordBatch,
        fired: Fired | None,
    ) -> pa.RecordBatch:
        """Append all columns but the features to n rows that are decided now.

        Args:
          decided: n rows of `stages.SCORED`.
          transactions: their transactions, with the velocity features that rules read.
          fired: the rules that hold, or None.
        """
        read = [
            transactions.column(column.name)
            if column.kind == "text"
            else pa.array(numeric_feature(transactions, column.name, self.features))
            for column in self.columns
        ]
        if self.listings:
            assert fired is not None, "rules that read something have been asked"
            read += [pa.array(fired.listed[name]) for name in self.listings]
        now = pa.repeat(pa.scalar(_now(), EVENT_TIME), len(decided))
        return _appended(
            decided, self.kept_columns.fields[:-1], self.kept_columns.before_features(now, read)
        )

    def of_rows(
        self,
        rows: Sequence[Values],
        computed: Sequence[Mapping[str, float]],
        block: npt.NDArray[np.float64],
        fired: Fired | None,
        muted: npt.NDArray[np.bool_] | None,
    ) -> InputValues:
        """Return the inputs of n transactions that are values and decided now.

        Args:
          rows: the transactions.
          computed: velocity features of each.
          block: the model's input, float64[n, features].
          fired: the rules that hold, muted ones too; or None.
          muted: bool[rules, n]: those that are muted; or None.
        """
        read = list[list[Any]]()
        for name, number in self._numbers:
            if number is None:
                read.append([row[name] for row in rows])
            else:
                read.append(list(map(number, rows, computed)))
        if self.listings:
            assert fired is not None, "rules that read something have been asked"
            read += [fired.listed[name].tolist() for name in self.listings]
        silenced = None
        if self.ruled and fired is not None and muted is not None and muted.any():
            silenced = _names_of_muted(len(rows), fired, muted).to_pylist()
        features = np.ascontiguousarray(block, dtype="<f8").tobytes()
        return InputValues(_now(), len(rows), read, silenced, features)

    @cached_property
    def _numbers(self) -> list[tuple[str, NumberOf | None]]:
        """Return what reads each column of a transaction that is values; None for a text."""
        return [
            (one.name, None if one.kind == "text" else number_of(one.name, self.features))
            for one in self.columns
        ]

    def with_features(self, rows: pa.RecordBatch, block: npt.NDArray[np.float64]) -> pa.RecordBatch:
        """Append the features to n rows.

        Args:
          rows: n rows with all other columns.
          block: the model's input, float64[n, features].
        """
        return _appended(
            rows, self.kept_columns.fields[-1:], [self.kept_columns.of_features(block)]
        )


def without_inputs(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return scored rows without the columns of kept ones."""
    kept = [name for name in rows.schema.names if name in KEPT]
    return rows.drop_columns(kept) if kept else rows


def with_muted_rules(
    rows: pa.RecordBatch, fired: Fired, muted: npt.NDArray[np.bool_]
) -> pa.RecordBatch:
    """Note the muted rules of n kept rows; other rows have no place for them.

    Args:
      rows: n rows.
      fired: the rules that held, muted ones too.
      muted: bool[rules, n].
    """
    place = rows.schema.get_field_index(MUTED_RULES)
    if place < 0:
        return rows
    names = _names_of_muted(len(rows), fired, muted)
    return rows.set_column(place, rows.schema.field(place), names)


def _names_of_muted(rows: int, fired: Fired, muted: npt.NDArray[np.bool_]) -> pa.ListArray:
    return names_of_rules(rows, replace(fired, holds=fired.holds & muted), shadow=False)


def _appended(
    rows: pa.RecordBatch, fields: Sequence[pa.Field], columns: Sequence[pa.Array]
) -> pa.RecordBatch:
    schema = pa.schema([*rows.schema, *fields], rows.schema.metadata)
    return pa.RecordBatch.from_arrays([*rows.columns, *columns], schema=schema)


def _now() -> int:
    return time.time_ns() // 1_000
