"""A server with `--audit-share` delivers a share of the unflagged answers, also after a kill."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.serve.deliveries import Deliveries, Places
from beam_fraud.serve.state import AUDITED, FLAGGED
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import prepare_database, transaction
from beam_fraud.storage.database.tables import ALERTS
from beam_fraud.storage.database.tables import AUDITED as TABLE
from tests.serve.conftest import Served
from tests.serve.running import Running, ids
from tests.stream_process import wait_until

LANE = AuditLane.parse("20%")


@pytest.fixture
def running(served: Served, tmp_path: Path) -> Running:
    return Running(served, tmp_path, audit=LANE)


def expected(rows: pa.RecordBatch) -> set[str]:
    return {row["transaction_id"] for row in LANE.audited(rows).to_pylist()}


def test_single_answers_and_groups_are_audited_and_explained_alike(
    running: Running, served: Served
) -> None:
    singly, together = Running(served, running.directory / "other", audit=LANE), running
    engine = singly.engine()
    one_by_one = [engine.record([record]) for record in served.records]
    engine.state.close(1.0)
    engine = together.engine()
    group = engine.record(served.records)
    engine.state.close(1.0)
    rows = pa.concat_batches([one.new for one in one_by_one])
    assert rows.column("reasons").equals(group.new.column("reasons"))
    reasons = dict(zip(ids(rows), rows.column("reasons").to_pylist(), strict=True))
    flagged = set(ids(rows.filter(rows.column("flagged"))))
    audited = expected(rows)
    assert audited
    assert {name for name, why in reasons.items() if why} == audited | flagged


def test_answers_are_audited_once_more_after_a_kill(running: Running, served: Served) -> None:
    engine = running.engine()
    rows = engine.record(served.records).new
    engine.state.commit()
    engine.forward_audited(rows)
    assert running.counted["rows_audited"] == len(expected(rows))
    engine.state._checkpoint.close()
    taken: list[pa.RecordBatch] = []
    running.deliveries = {AUDITED: taken.append}
    engine = running.engine()
    engine.state.start()
    wait_until(lambda: sum(map(len, taken)) >= len(expected(rows)))
    assert {name for batch in taken for name in ids(batch)} == expected(rows)
    assert {p for batch in taken for p in batch.column("probability").to_pylist()} == {0.2}
    engine.state.close(1.0)


def test_the_database_gets_them_and_no_channel(
    running: Running, served: Served, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/flagged.db"
    prepare_database(url)
    places = Places(DatabaseSink(url), None, None, ("console:",), None, "run")
    deliveries = Deliveries(places)
    running.deliveries = {**deliveries.by_backlog}
    engine = running.engine()
    rows = engine.record(served.records).new
    engine.state.commit()
    engine.state.forward(FLAGGED, rows.filter(rows.column("flagged")))
    engine.forward_audited(rows)
    engine.state.start()
    engine.state.close(10.0)
    deliveries.close()
    with transaction(url) as connection:
        audited = set(connection.execute(TABLE.select()).scalars())
        alerts = set(connection.scalars(ALERTS.select().with_only_columns(ALERTS.c.transaction_id)))
    assert audited == expected(rows)
    assert alerts == set(ids(rows.filter(rows.column("flagged"))))
