"""A database with cases, for tests of the review."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pyarrow as pa

from beam_fraud.review.opening import open_cases
from beam_fraud.review.queue import Filters, QueuedCase, counted_page
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import prepare_database, transaction
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.database.tables import AUDITED
from beam_fraud.storage.database.upsert import upsert

T = TypeVar("T")
NOW = datetime(2024, 5, 2, 12, 0, tzinfo=UTC)
SETTINGS = ReviewSettings()


def row(key: str, account: str | None = "a", **values: object) -> dict[str, object]:
    """A scored row, flagged."""
    reasons = [{"feature": "amount", "value": 99.0, "contribution": 0.4, "text": "a high amount"}]
    return {
        "transaction_id": key,
        "event_time": NOW - timedelta(hours=1),
        "account_id": account,
        "merchant_id": "shop",
        "amount": 100.0,
        "score": 0.5,
        "flagged": True,
        "decision": "review",
        "rules": ["large"],
        "reasons": reasons,
        "model_id": "m@1",
        "rules_id": "rules@1",
        "shadow_rules": [],
    } | values


def flag(url: str, *rows: dict[str, object]) -> None:
    """Write flagged rows as a run does."""
    prepare_database(url)
    writer = DatabaseSink(url).open("run")
    writer.write(pa.RecordBatch.from_pylist(list(rows), schema=SCORED))
    writer.close()


def audit(url: str, *keys: str, account: str = "a") -> None:
    """Write audited rows."""
    prepare_database(url)
    values = [
        row(key, account, decision="approve", rules="[]", reasons="[]", score=0.001)
        | {"probability": 0.01, "shadow_rules": None}
        for key in keys
    ]
    for one in values:
        del one["flagged"]

    persistently(url, lambda connection: upsert(connection, AUDITED, values))


def opened(url: str, *rows: dict[str, object], now: datetime = NOW) -> list[QueuedCase]:
    """Flag rows, open their cases and return the queue."""
    if rows:
        flag(url, *rows)
    while open_cases(url, SETTINGS, now).more:
        pass
    return queued(url, now=now)


def queued(url: str, *, now: datetime = NOW, **filters: object) -> list[QueuedCase]:
    """Return the queue by expected loss."""
    with transaction(url) as connection:
        return list(counted_page(connection, Filters(**filters), now)[0].cases)  # type: ignore[arg-type]


def do(url: str, work: Callable[..., T], *given: object, **named: object) -> T:
    """Call a function of the review in a transaction of its own."""
    return persistently(url, lambda connection: work(connection, *given, **named))


def read(url: str, work: Callable[..., T], *given: object, **named: object) -> T:
    """Call a function that reads."""
    with transaction(url) as connection:
        return work(connection, *given, **named)


def ids(cases: Sequence[QueuedCase]) -> list[str | None]:
    """The accounts of cases."""
    return [case.account_id for case in cases]
