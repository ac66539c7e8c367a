"""The Arrow schemas between the stages of the graph."""

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
