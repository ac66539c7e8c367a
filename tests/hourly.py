"""Transactions an hour apart, identified by the feature `row`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from beam_fraud.models.examples import Examples
from beam_fraud.schema.duration import HOUR
from beam_fraud.schema.schema import FeatureColumn, Schema

SCHEMA = Schema(
    name="hourly",
    roles={"event_time": "t", "account_id": "card", "amount": "price", "label": "fraud"},
    features=(
        FeatureColumn("row"),
        FeatureColumn("telling"),
        FeatureColumn("misleading"),
        FeatureColumn("shop", kind="categorical"),
    ),
    calendar=False,
)
TOML = """
name = "hourly"
calendar = false
[roles]
event_time = "t"
account_id = "card"
amount = "price"
label = "fraud"
[[feature]]
column = "row"
[[feature]]
column = "telling"
[[feature]]
column = "misleading"
[[feature]]
column = "shop"
kind = "categorical"
"""
#: Midnight of 2024-01-01 in microseconds.
START = 19_723 * 24 * HOUR


def hourly(rows: int = 600, seed: int = 0) -> pa.Table:
    """One row in ten is a fraud of one of thirty cards; `telling` predicts most of them."""
    random = np.random.default_rng(seed)
    fraud = (random.random(rows) < 0.1).astype(np.int8)
    return pa.table(
        {
            "t": pa.array(START + np.arange(rows) * HOUR, pa.timestamp("us", "UTC")),
            "card": [f"c{n}" for n in random.integers(30, size=rows)],
            "price": random.lognormal(3, 1, rows).round(2),
            "row": np.arange(rows, dtype=float),
            "telling": random.normal(0, 1, rows) + 2 * fraud,
            "misleading": random.normal(0, 1, rows),
            "shop": [f"s{n}" for n in random.integers(3, size=rows)],
            "fraud": fraud,
        }
    )


def examples(table: pa.Table) -> Examples:
    """Return the rows in the form of `load_dataset`."""
    names = {"t": "event_time", "card": "account_id", "price": "amount", "fraud": "label"}
    renamed = table.rename_columns([names.get(name, name) for name in table.column_names])
    return Examples(renamed, np.asarray(table.column("fraud"), dtype=np.int8), SCHEMA)
