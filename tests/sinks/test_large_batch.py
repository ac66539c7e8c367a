"""Batches too large for one transaction of a server are complete."""

from __future__ import annotations

import pyarrow as pa
import pytest
from sqlalchemy import func, select

from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.tables import ALERTS, FLAGGED
from tests.flagged import flagged_batch

#: Of so many ids; each is there twice, with another score.
IDS = 6_000


def repeated() -> pa.RecordBatch:
    ids = [f"t{number:05}" for number in range(IDS)]
    halves = [flagged_batch(ids, score=score) for score in (0.25, 0.75)]
    return pa.concat_batches(halves)


def test_of_rows_with_one_id_the_last_is_kept_with_one_alert(database: str) -> None:
    sink = DatabaseSink(database)
    sink.begin("r")
    writer = sink.open("r")
    for _ in range(2):
        writer.write(repeated(), ["console", "file:x"])
    writer.close()
    with transaction(database) as connection:
        scores = select(FLAGGED.c.score, func.count()).group_by(FLAGGED.c.score)
        assert connection.execute(scores).all() == [(0.75, IDS)]
        alerts = select(ALERTS.c.channel, ALERTS.c.score, func.count())
        alerts = alerts.group_by(ALERTS.c.channel, ALERTS.c.score).order_by(ALERTS.c.channel)
        result = connection.execute(alerts).all()
    assert result == [("console", 0.75, IDS), ("file:x", 0.75, IDS)]


@pytest.mark.parametrize("name", ["a\0b", "x" * 3000, "\N{PILE OF POO}", ""])
def test_hostile_names_and_none_are_written_as_well(database: str, name: str) -> None:
    batch = flagged_batch(["t0", "t1"], account=name)
    nobody = flagged_batch(["t2"], account=None)
    sink = DatabaseSink(database)
    sink.begin("r")
    sink.open("r").write(pa.concat_batches([batch, nobody]))
    with transaction(database) as connection:
        rows = select(FLAGGED.c.account_id, FLAGGED.c.amount).order_by(FLAGGED.c.transaction_id)
        accounts, amounts = zip(*connection.execute(rows), strict=True)
    assert accounts[1:] == (accounts[0], None)
    assert amounts == (12.5,) * 3
    changed = database.startswith("postgresql") and ("\0" in name or len(name) > 400)
    assert (accounts[0] == name) is not changed
