"""Schemas of well-known data sets."""

from beam_fraud.schema.notation import TimeNotation
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.velocity import Velocity

_WINDOWS = ("1d", "7d", "30d")

#: ULB credit-card transactions of September 2013: `Time` counts seconds from the first row.
ULB = Schema(
    name="ulb",
    roles={"event_time": "Time", "amount": "Amount", "label": "Class"},
    features=tuple(FeatureColumn(name) for name in ("Time", *(f"V{i}" for i in range(1, 29)))),
    calendar=False,
    time=TimeNotation(origin="2013-09-01T00:00:00+00:00"),
)

#: The transactions of the fraud-detection handbook, and of `beam-fraud simulate`.
HANDBOOK = Schema(
    name="handbook",
    roles={
        "transaction_id": "TRANSACTION_ID",
        "event_time": "TX_DATETIME",
        "account_id": "CUSTOMER_ID",
        "merchant_id": "TERMINAL_ID",
        "amount": "TX_AMOUNT",
        "label": "TX_FRAUD",
    },
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "mean")),
        Velocity(("merchant_id",), _WINDOWS, ("count", "risk"), delay="7d"),
    ),
)

#: A plain ledger export.
LEDGER = Schema(
    name="ledger",
    roles={
        "transaction_id": "transaction_id",
        "event_time": "transaction_date",
        "account_id": "account_id",
        "merchant_id": "merchant",
        "amount": "transaction_amount",
        "label": "label",
    },
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "mean")),
        Velocity(
            ("account_id",), ("30d",), ("std", "ratio", "seconds_since_last", "distinct_merchant")
        ),
        Velocity(("merchant_id",), ("7d", "30d"), ("count", "risk"), delay="7d"),
    ),
)

PRESETS = {schema.name: schema for schema in (ULB, HANDBOOK, LEDGER)}
