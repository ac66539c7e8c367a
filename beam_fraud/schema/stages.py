"""The Arrow schemas between the stages of the graph."""

from typing import TypeVar

import pyarrow as pa

from beam_fraud.schema.schema import EVENT_TIME

#: A reason: a feature, its value and its contribution to the score.
REASON = pa.struct(
    [
        pa.field("feature", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("contribution", pa.float64()),
        # In words, such as "7 transactions of the account in the last hour, usually 1".
        pa.field("text", pa.string()),
        # Whether the contribution is an estimate.
        pa.field("approximate", pa.bool_()),
    ]
)

#: A scored transaction.
SCORED = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("event_time", EVENT_TIME, nullable=False),
        pa.field("account_id", pa.string()),
        pa.field("merchant_id", pa.string()),
        pa.field("amount", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("rules", pa.list_(pa.string())),
        pa.field("reasons", pa.list_(REASON)),
        pa.field("model_id", pa.string(), nullable=False),
        # The rule set that applied beside the model: name @ digest; null without rules.
        pa.field("rules_id", pa.string()),
        # Rules in shadow that hold: they have no effect.
        pa.field("shadow_rules", pa.list_(pa.string())),
    ]
)
#: A scored transaction that people see: it is flagged, or unflagged and audited.
SEEN = SCORED.append(
    # With which probability they see it: 1 for a flagged one.
    pa.field("probability", pa.float64(), nullable=False)
)
#: Columns that scored rows of earlier versions lack.
LATER_COLUMNS = ("rules_id", "shadow_rules")

#: A transaction as a challenger would have decided on it.
SHADOWED = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("event_time", EVENT_TIME, nullable=False),
        pa.field("account_id", pa.string()),
        pa.field("model_id", pa.string(), nullable=False),
        # The rule set beside the model; null for none.
        pa.field("rules_id", pa.string()),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("rules", pa.list_(pa.string())),
    ]
)

#: A value of a declared column that a transaction has which people see.
LINKED_VALUE = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        # Of the transaction.
        pa.field("event_time", EVENT_TIME, nullable=False),
        # The column.
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
    ]
)

#: An invalid record.
DEAD_LETTER = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("payload", pa.binary()),
    ]
)

#: A person's verdict on a transaction.
LABEL = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        # Null if the transactions have none.
        pa.field("account_id", pa.string()),
        pa.field("merchant_id", pa.string()),
        # Of the transaction.
        pa.field("event_time", EVENT_TIME, nullable=False),
        # 1 is fraud, 0 genuine.
        pa.field("label", pa.int8(), nullable=False),
        pa.field("labelled_at", EVENT_TIME, nullable=False),
        # Who labelled it; empty if unknown.
        pa.field("labelled_by", pa.string(), nullable=False),
    ]
)

#: A label with the reason for it, a code or a few words; null for none.
EXPLAINED_LABEL = LABEL.append(pa.field("reason", pa.string()))

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)


def completed(rows: _Rows, schema: pa.Schema) -> _Rows:
    """Return scored rows of this or an earlier version with the columns of a schema.

    Args:
      rows: n rows with the columns of `schema`, of which `LATER_COLUMNS` may be missing.
      schema: `SCORED`, or one that extends it.

    Returns:
      n rows of `schema`, with its metadata; missing columns are null.

    Raises:
      KeyError: another column is missing, or there is one more.
      pa.ArrowInvalid: a column is of another type.

    Example:
      >>> rows = pa.table({"model_id": ["m@1"]})
      >>> wanted = pa.schema([SCORED.field("model_id"), SCORED.field("rules_id")])
      >>> completed(rows, wanted).to_pylist()
      [{'model_id': 'm@1', 'rules_id': None}]
    """
    if rows.schema.equals(schema):
        return rows
    there = rows.schema.names
    if not set(there) <= set(schema.names):
        raise KeyError(f"columns {there}")
    columns = [
        pa.nulls(rows.num_rows, field.type)
        if field.name in LATER_COLUMNS and field.name not in there
        else rows.column(field.name).cast(field.type)
        for field in schema
    ]
    return type(rows).from_arrays(columns, schema=schema)
