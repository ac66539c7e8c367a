"""Two accounts for tests of erasing, and the traces of one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beam_fraud.alerts.queue import queue_flagged
from beam_fraud.cli.commands import erase
from beam_fraud.cli.options import EraseOptions
from beam_fraud.review.list_requests import ListEntry, ask
from beam_fraud.review.opening import open_cases
from beam_fraud.review.queue import Filters, counted_page
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.review.teamwork import add_note
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import prepare_database, transaction, writing
from beam_fraud.storage.database.review_tables import LINKED_VALUES
from beam_fraud.storage.database.tables import (
    ALERTS,
    AUDITED,
    DEAD_LETTERS,
    DELIVERIES,
    LABELS,
    METADATA,
    SNOOZES,
)
from beam_fraud.storage.database.upsert import upsert
from tests.flagged import flagged_batch

#: Nothing else in a file looks like these.
GONE, STAYS = "acct-7f3e9b1c", "acct-7f3e9b1c5"
NOW = datetime.now(UTC)


def traces(directory: Path, what: str = GONE) -> list[str]:
    """Return the files under `directory` whose bytes or compressed values contain an id."""
    result = []
    for path in directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data += json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
            # What stays has an id that begins like the other.
            if what.encode() in data.replace(STAYS.encode(), b""):
                result.append(str(path.relative_to(directory)))
    return result


def run(**options: Any) -> dict[str, Any]:
    return erase.run(EraseOptions(**({"accounts": (GONE,)} | options)))


def filled(url: str) -> None:
    """Put rows of both accounts into every table."""
    prepare_database(url)
    batches = [
        flagged_batch([f"t{n}{i}" for i in range(50)], account=account)
        for n, account in enumerate((GONE, STAYS))
    ]
    for batch in batches:
        queue_flagged(url, batch, ["console:"])
    writer = DatabaseSink(url).open("run")
    for batch in batches:
        writer.write(batch)
    writer.close()
    with writing(url) as connection:
        for n, account in enumerate((GONE, STAYS)):
            # One that tells of the account alone, one of both.
            for delivery, alone in ((f"d{n}", True), ("both", False)):
                row = {
                    "delivery_id": delivery,
                    "channel": "console:",
                    "kind": "alerts",
                    "account_id": None,
                    "created_at": NOW,
                    "state": "sent",
                    "attempts": 1,
                }
                upsert(connection, DELIVERIES, [row])
                chosen = ALERTS.c.transaction_id.like(f"t{n}1%" if alone else f"t{n}2%")
                connection.execute(ALERTS.update().where(chosen).values(delivery_id=delivery))
            labels = {"label": 1, "event_time": NOW, "labelled_at": NOW, "labelled_by": ""}
            upsert(
                connection,
                LABELS,
                [
                    labels | {"transaction_id": f"t{n}3", "account_id": None},
                    labels | {"transaction_id": f"other{n}", "account_id": account},
                ],
            )
            audited = {
                "transaction_id": f"unflagged{n}",
                "model_id": "m@1",
                "event_time": NOW - timedelta(days=1),
                "account_id": account,
                "merchant_id": "m",
                "amount": 1.0,
                "score": 0.1,
                "decision": "approve",
                "rules": "[]",
                "reasons": "[]",
                "probability": 0.002,
            }
            upsert(connection, AUDITED, [audited])
            value = {"event_time": audited["event_time"], "name": "device_id"}
            # The last is of a transaction that only a label names.
            ids = (f"t{n}0", f"unflagged{n}", f"other{n}")
            linked = [{"transaction_id": one} for one in ids]
            device = f"device of {account}"
            upsert(connection, LINKED_VALUES, [value | one | {"value": device} for one in linked])
            snooze = {"kind": "account", "value": account, "until": NOW, "created_at": NOW}
            upsert(connection, SNOOZES, [snooze])
            letter = {
                "source": "s",
                "reason": "malformed",
                "detail": None,
                "dead_at": NOW,
            }
            payload = json.dumps({"account": account}).encode()
            upsert(
                connection,
                DEAD_LETTERS,
                [letter | {"position": n * 1000 + i, "payload": payload} for i in range(600)],
            )
    _review(url)


def _review(url: str) -> None:
    """Open a case of each account, with a note and a list request."""
    settings = ReviewSettings()
    open_cases(url, settings, NOW)
    with transaction(url) as connection:
        cases = counted_page(connection, Filters(), NOW)[0].cases
    for case in cases:
        account = str(case.account_id)
        with writing(url) as connection:
            add_note(connection, settings, case.case_id, "ann", f"called {account}", NOW)
            entry = ListEntry("account", account, "watch", "odd")
            ask(connection, settings, "ann", entry, NOW, case_id=case.case_id)


#: Rows of the review of one of the accounts.
REVIEWED = {
    "linked_values": 3,
    "cases": 1,
    "case_transactions": 51,
    "case_facets": 4,
    "case_notes": 1,
    "list_requests": 1,
}


def rows_of(url: str) -> dict[str, int]:
    with transaction(url) as connection:
        return {
            table.name: len(connection.execute(table.select()).all())
            for table in METADATA.sorted_tables
        }
