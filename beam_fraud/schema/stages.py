"""The Arrow schemas of what flows between the stages of the graph, beside a schema's own."""

import pyarrow as pa

from beam_fraud.schema.schema import EVENT_TIME

#: Why a flagged row is flagged: a feature, its value and what it added to the score.
REASON = pa.struct(
    [
        pa.field("feature", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("contribution", pa.float64()),
        # In plain words, such as "7 transactions of the account in the last hour, usually 1".
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

#: A record that could not become a transaction.
DEAD_LETTER = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("payload", pa.binary()),
    ]
)

#: What somebody found a transaction to be.
LABEL = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        # Null where the transactions have none.
        pa.field("account_id", pa.string()),
        pa.field("merchant_id", pa.string()),
        # Of the transaction.
        pa.field("event_time", EVENT_TIME, nullable=False),
        # 1 is fraud, 0 genuine.
        pa.field("label", pa.int8(), nullable=False),
        pa.field("labelled_at", EVENT_TIME, nullable=False),
        # Who said so; empty where that is not told.
        pa.field("labelled_by", pa.string(), nullable=False),
    ]
)
