"""Values of declared columns, kept for the transactions that people see: they link cases.

A decided row has them as one more column, a struct of texts, until those that people see are
written; no archive, topic or table of scored rows has that column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.errors import Code, UsageError
from beam_fraud.features.matrix import Values
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.stages import LINKED_VALUE
from beam_fraud.wording import did_you_mean

_LINKED = "linked"
#: Roles that link cases already, or of which a case has one alone.
_OWN_ROLES = ("transaction_id", "account_id", "merchant_id")
_TEXT = FeatureColumn("", "categorical", "linking")


def reading(schema: Schema, columns: Sequence[str]) -> Schema:
    """Return a schema that also reads declared columns, as text; rows may lack them.

    Args:
      schema: of the transactions.
      columns: names of columns of the input.

    Raises:
      UsageError: a column is a number, a time or a label, or links cases already.
    """
    described = schema.transactions(labels="known")
    roles = {part: role for role, of in schema.roles.items() for part in (of, *schema.parts(of))}
    further = list[FeatureColumn]()
    for column in dict.fromkeys(columns):
        if roles.get(column, column) in _OWN_ROLES:
            raise UsageError(
                f"--link {column}: accounts are cases, and merchants link them without it; give "
                "another column, such as device_id",
                Code.OPTION_VALUE,
            )
        if column in roles or column in described.names:
            if column in described.names and pa.types.is_string(described.field(column).type):
                continue
            texts = [one.column for one in schema.features if one.kind == "categorical"]
            hint = did_you_mean(column, texts, "give a column of text, such as device_id")
            raise UsageError(
                f"--link {column}: the schema {schema.name} reads it as a number, a time or a "
                f"label, not as text; {hint}",
                Code.COLUMN_TYPE,
            )
        further.append(replace(_TEXT, column=column))
    return replace(schema, features=(*schema.features, *further)) if further else schema


@dataclass(frozen=True)
class LinkedColumns:
    """The declared columns, and which rows' values are kept."""

    #: Names of columns of text of `Schema.transactions`.
    columns: tuple[str, ...]
    #: Which unflagged rows people see as well; None for none.
    audit: AuditLane | None = None

    def beside(self, decided: pa.RecordBatch, transactions: pa.RecordBatch) -> pa.RecordBatch:
        """Append the values of n transactions to their rows of `stages.SCORED`."""
        values = [transactions.column(name) for name in self.columns]
        return decided.append_column(_LINKED, pa.StructArray.from_arrays(values, self.columns))

    def of_rows(self, rows: Sequence[Values]) -> pa.RecordBatch:
        """Return the values of transactions that are values and that people see.

        Returns:
          Rows of `stages.LINKED_VALUE`.
        """
        found = [
            (row["transaction_id"], row["event_time"], name, row[name])
            for name in self.columns
            for row in rows
            if row[name] is not None
        ]
        columns = list(zip(*found, strict=True)) or [()] * len(LINKED_VALUE)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, LINKED_VALUE, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=LINKED_VALUE)

    def seen(self, decided: pa.RecordBatch) -> pa.RecordBatch:
        """Return the values of n decided rows that people see.

        Args:
          decided: rows that `beside` has made, with their last decision.

        Returns:
          Rows of `stages.LINKED_VALUE`, absent values left out.
        """
        flagged = np.asarray(decided.column("flagged").to_numpy(zero_copy_only=False), dtype=bool)
        rows = decided.filter(
            pa.array(flagged if self.audit is None else self.audit.seen(decided) | flagged)
        )
        parts = list[pa.RecordBatch]()
        for name, values in zip(self.columns, rows.column(_LINKED).flatten(), strict=True):
            there = values.is_valid()
            arrays = [
                rows.column("transaction_id").filter(there),
                rows.column("event_time").filter(there),
                pa.repeat(pa.scalar(name), there.true_count),
                values.filter(there),
            ]
            parts.append(pa.RecordBatch.from_arrays(arrays, schema=LINKED_VALUE))
        return pa.concat_batches(parts)


def without_linked(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return decided rows without the values of declared columns."""
    return rows.drop_columns([_LINKED]) if _LINKED in rows.schema.names else rows
