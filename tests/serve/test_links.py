"""A server with `--link` delivers the values of columns that link cases, also after a kill."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.linked_values import LinkedColumns
from beam_fraud.serve.engine import Engine
from beam_fraud.serve.state import LINKED
from tests.serve.conftest import Served
from tests.serve.running import Running, ids
from tests.stream_process import wait_until

LANE = AuditLane.parse("20%")
COLUMNS = LinkedColumns(("device_id", "ip"), LANE)


@pytest.fixture
def taken() -> list[pa.RecordBatch]:
    return []


@pytest.fixture
def running(served: Served, tmp_path: Path, taken: list[pa.RecordBatch]) -> Running:
    return Running(served, tmp_path, audit=LANE, linked=COLUMNS, deliveries={LINKED: taken.append})


def with_devices(served: Served) -> list[bytes]:
    """Records with a device, of which each fourth lacks it, and no address."""
    records = []
    for number, record in enumerate(served.records):
        values = msgspec.json.decode(record)
        if number % 4:
            values["device_id"] = f"device {number % 7}"
        records.append(msgspec.json.encode(values))
    return records


def expected(rows: pa.RecordBatch, records: list[bytes]) -> set[tuple[str, str, str]]:
    devices = {
        str(one["TRANSACTION_ID"]): one.get("device_id")
        for one in map(msgspec.json.decode, records)
    }
    seen = [*ids(LANE.audited(rows)), *ids(rows.filter(rows.column("flagged")))]
    return {(one, "device_id", name) for one in seen if (name := devices[one]) is not None}


def delivered(taken: list[pa.RecordBatch]) -> set[tuple[str, str, str]]:
    return {(r["transaction_id"], r["name"], r["value"]) for b in taken for r in b.to_pylist()}


def close(engine: Engine) -> None:
    engine.state.start()
    engine.state.close(10.0)


@pytest.mark.parametrize("keeps", [False, True])
def test_groups_and_single_records_have_their_values(
    running: Running, served: Served, taken: list[pa.RecordBatch], keeps: bool
) -> None:
    running.keep_features = keeps
    records = with_devices(served)
    engine = running.engine()
    group = engine.record(records[:300])
    few = [engine.record(records[place : place + 1]) for place in range(300, 400)]
    engine.state.commit()
    close(engine)
    rows = pa.concat_batches([group.new, *(one.new for one in few)])
    assert rows.schema.names == group.new.schema.names
    assert "linked" not in rows.schema.names
    wanted = expected(rows, records)
    assert len(wanted) > 20
    assert delivered(taken) == wanted


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_no_value_that_only_links_costs_an_answer(
    running: Running, served: Served, taken: list[pa.RecordBatch], at_once: int
) -> None:
    running.linked = LinkedColumns(("device_id",), AuditLane.parse("100%"))
    running.audit = running.linked.audit
    odd: list[object] = ["x" * 300, {"id": "d"}, ["d"], 3.5, "a\0b", 17, "y" * 65]
    records = []
    for number, record in enumerate(served.records[:100]):
        values = msgspec.json.decode(record) | {"device_id": odd[number % len(odd)]}
        records.append(msgspec.json.encode(values))
    engine = running.engine()
    rows = [engine.record(records[place : place + at_once]).new for place in range(0, 100, at_once)]
    engine.state.commit()
    close(engine)
    assert sum(map(len, rows)) == 100
    assert {value for _, _, value in delivered(taken)} == {"x" * 256, "17", "y" * 65}


def test_links_are_of_the_last_decision(
    running: Running, served: Served, taken: list[pa.RecordBatch]
) -> None:
    running.linked, running.audit = LinkedColumns(("device_id",)), None
    records = with_devices(served)[:300]
    engine = running.engine()
    # All were answered by the fallback, which flags by amount.
    rows = engine.record(records, late=np.ones(len(records), dtype=bool)).new
    engine.state.commit()
    close(engine)
    flagged = rows.filter(rows.column("flagged"))
    assert 5 < len(flagged) < 295
    devices = {str(one["TRANSACTION_ID"]): one for one in map(msgspec.json.decode, records)}
    wanted = {
        (one, "device_id", device)
        for one in ids(flagged)
        if (device := devices[one].get("device_id")) is not None
    }
    assert delivered(taken) == wanted


def test_what_a_killed_server_had_committed_is_delivered(
    running: Running, served: Served, taken: list[pa.RecordBatch]
) -> None:
    records = with_devices(served)
    engine = running.engine()
    rows = engine.record(records[:200]).new
    few = [engine.record(records[place : place + 1]).new for place in range(200, 300)]
    engine.state.commit()
    # Nothing is delivered before the kill.
    engine.state._checkpoint.close()
    again = running.engine()
    again.state.start()
    wanted = expected(pa.concat_batches([rows, *few]), records)
    wait_until(lambda: delivered(taken) == wanted)
    again.state.commit(fold=True)
    again.state.close(10.0)
    # What was delivered does not wait for ever.
    taken.clear()
    last = running.engine()
    close(last)
    assert taken == []
