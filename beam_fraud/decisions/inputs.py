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

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.decision import names_of_rules
from beam_fraud.decisions.rules.condition import Column, Kind, columns_of
from beam_fraud.decisions.rules.rule import Fired, RuleSet, listings_of
from beam_fraud.features.matrix import FeatureSet, Values, number_of, numeric_feature
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import SCORED

DECIDED_AT, RULE_INPUTS, MUTED_RULES, FEATURES = (
    *("decided_at", "rule_inputs", "muted_rules"),
    "features",
)
#: Every column that a kept row may have beside those of a scored row.
KEPT = (DECIDED_AT, RULE_INPUTS, MUTED_RULES, FEATURES)
#: Names of conditions that a scored row itself holds.
_OF_ROW = frozenset({*SCORED.names[:5], "score"})
_TYPES: dict[Kind, pa.DataType] = {"number": pa.float64(), "text": pa.string()}
_RULES = SCORED.field("rules").type


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
    def fields(self) -> tuple[pa.Field, ...]:
        """The columns, in the order in which they follow those of a row."""
        fields = [pa.field(DECIDED_AT, EVENT_TIME)]
        if self.columns or self.listings:
            fields.append(pa.field(RULE_INPUTS, self._rule_inputs))
        if self.ruled:
            fields.append(pa.field(MUTED_RULES, _RULES))
        return (*fields, pa.field(FEATURES, pa.struct(self._feature_fields)))

    @cached_property
    def _feature_fields(self) -> list[pa.Field]:
        return [pa.field(name, pa.float64(), nullable=False) for name in self.features.names]

    @cached_property
    def _rule_inputs(self) -> pa.StructType:
        read = [pa.field(column.name, _TYPES[column.kind]) for column in self.columns]
        return pa.struct([*read, *(pa.field(name, pa.bool_()) for name in self.listings)])

    def after(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of kept rows.

        Args:
          schema: `stages.SCORED`, or one that extends it.
        """
        return pa.schema([*schema, *self.fields], schema.metadata)

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
        read: dict[str, pa.Array] = {
            column.name: transactions.column(column.name)
            if column.kind == "text"
            else pa.array(numeric_feature(transactions, column.name, self.features))
            for column in self.columns
        }
        return _appended(decided, self.fields[:-1], self._decided_now(len(decided), read, fired))

    def of_rows(
        self,
        rows: Sequence[Values],
        computed: Sequence[Mapping[str, float]],
        block: npt.NDArray[np.float64],
        fired: Fired | None,
        muted: npt.NDArray[np.bool_] | None,
    ) -> pa.RecordBatch:
        """Return all columns of n transactions that are values and decided now.

        Args:
          rows: the transactions.
          computed: velocity features of each.
          block: the model's input, float64[n, features].
          fired: the rules that hold, muted ones too; or None.
          muted: bool[rules, n]: those that are muted; or None.
        """
        read: dict[str, pa.Array] = {}
        for column in self.columns:
            if column.kind == "text":
                read[column.name] = pa.array([row[column.name] for row in rows], pa.string())
            else:
                number = number_of(column.name, self.features)
                values = [number(*pair) for pair in zip(rows, computed, strict=True)]
                read[column.name] = pa.array(values, pa.float64(), from_pandas=False)
        columns = self._decided_now(len(rows), read, fired)
        if self.ruled and fired is not None and muted is not None and muted.any():
            columns[-1] = _names_of_muted(len(rows), fired, muted)
        return pa.RecordBatch.from_arrays(
            [*columns, self._features_of(block)], schema=pa.schema(self.fields)
        )

    def _decided_now(
        self, rows: int, read: Mapping[str, pa.Array], fired: Fired | None
    ) -> list[pa.Array]:
        """Return the columns before the features."""
        columns = [pa.repeat(pa.scalar(time.time_ns() // 1_000, EVENT_TIME), rows)]
        if self.columns or self.listings:
            assert fired is not None, "rules that read something have been asked"
            listed = [pa.array(fired.listed[name]) for name in self.listings]
            arrays = [*read.values(), *listed]
            columns.append(pa.StructArray.from_arrays(arrays, fields=list(self._rule_inputs)))
        if self.ruled:
            columns.append(pa.nulls(rows, _RULES))
        return columns

    def with_features(self, rows: pa.RecordBatch, block: npt.NDArray[np.float64]) -> pa.RecordBatch:
        """Append the features to n rows.

        Args:
          rows: n rows with all other columns.
          block: the model's input, float64[n, features].
        """
        return _appended(rows, self.fields[-1:], [self._features_of(block)])

    def _features_of(self, block: npt.NDArray[np.float64]) -> pa.StructArray:
        # One transposition costs less than a strided copy of each column, and slices of one array
        # less than arrays.
        rows, columns = block.shape
        values = pa.array(np.ascontiguousarray(block.T).ravel())
        each = [values.slice(at * rows, rows) for at in range(columns)]
        return pa.StructArray.from_arrays(each, fields=self._feature_fields)


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
