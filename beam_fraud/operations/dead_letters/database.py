"""The dead letters in the table `dead_letters` of a database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from sqlalchemy import LargeBinary, bindparam, null, select

from beam_fraud.operations.dead_letters.store import ROWS_AT_A_TIME, STORED, Choice
from beam_fraud.storage.database.connection import check_database, masked, transaction, writing
from beam_fraud.storage.database.tables import DEAD_LETTERS


@dataclass(frozen=True)
class DeadLetterTable:
    """The table `dead_letters`; `replayed_at` marks replayed ones."""

    #: A database URL of SQLAlchemy.
    url: str

    def check(self) -> None:
        """Check that the database can be reached and its tables are ours.

        Raises:
          FraudError: it cannot be reached, or the tables are foreign.
        """
        check_database(self.url)

    def read(self, choice: Choice, *, payloads: bool = True) -> Iterator[pa.RecordBatch]:
        """Read by source and position; each page is a transaction."""
        table = DEAD_LETTERS.c
        payload = table.payload if payloads else null().cast(LargeBinary).label("payload")
        query = (
            select(
                table.source,
                table.position,
                table.reason,
                table.detail,
                payload,
                table.replayed_at.is_not(None).label("replayed"),
            )
            .order_by(table.source, table.position)
            .limit(ROWS_AT_A_TIME)
        )
        if choice.reason is not None:
            query = query.where(table.reason == choice.reason)
        if choice.source is not None:
            query = query.where(table.source == choice.source)
        page = query
        while True:
            with transaction(self.url) as connection:
                rows = connection.execute(page).all()
            if not rows:
                return
            columns = [list(column) for column in zip(*rows, strict=True)]
            arrays = [
                pa.array(values, field.type) for values, field in zip(columns, STORED, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=STORED)
            source, position = rows[-1][:2]
            page = query.where(
                (table.source > source) | ((table.source == source) & (table.position > position))
            )

    def mark_replayed(self, keys: Iterator[pa.RecordBatch]) -> None:
        """Mark replayed rows, one transaction per batch."""
        change = (
            DEAD_LETTERS.update()
            .where(
                DEAD_LETTERS.c.source == bindparam("of_source"),
                DEAD_LETTERS.c.position == bindparam("at_position"),
                DEAD_LETTERS.c.replayed_at.is_(None),
            )
            .values(replayed_at=bindparam("now"))
        )
        now = datetime.now(UTC)
        for batch in keys:
            rows = [
                {"of_source": row["source"], "at_position": row["position"], "now": now}
                for row in batch.to_pylist()
            ]
            if rows:
                with writing(self.url) as connection:
                    connection.execute(change, rows)

    def headers(self) -> dict[str, str]:
        """Return nothing: a table stores no headers."""
        return {}

    def describe(self) -> str:
        """Return the database URL without its password."""
        return f"{DEAD_LETTERS.name} of {masked(self.url)}"
