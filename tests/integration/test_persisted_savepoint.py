"""A stream on a Flink cluster resumes from a savepoint of an earlier version."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.schema.stages import LATER_COLUMNS
from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker
from tests.persisted.savepoint import (
    about_broker,
    long_directory,
    on_flink,
    read_messages,
    rewrite,
    send,
    stream,
)
from tests.persisted.sets import SETS, unpack
from tests.stream_process import archived

PART = "flink.tar.xz"
#: What a stream leaves, and by which column it is sorted.
RESULTS = {"scores": "transaction_id", "dead_letters": "position"}


def flagged(database: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT * FROM flagged_transactions ORDER BY transaction_id")
        # The expected rows are of a version that had no others.
        names = [column[0] for column in rows.description]
        kept = [at for at, name in enumerate(names) if name not in LATER_COLUMNS]
        return [tuple(row[at] for at in kept) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stored", [pytest.param(s / PART, id=s.name) for s in SETS if (s / PART).exists()]
)
def test_a_savepoint_of_an_earlier_version_resumes(
    stored: Path, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    root = unpack(stored, long_directory(tmp_path))
    created = json.loads((root / "made.json").read_text())
    # The sources in the savepoint read from there.
    port = int(created["broker"].rpartition(":")[2])
    with Broker(tmp_path / "kafka", port) as broker:
        go_on(root, broker, created["topic"], flink_cluster)
    for name, by in RESULTS.items():
        result = pq.read_table(root / "out" / name).sort_by(by)
        assert result.equals(pq.read_table(root / f"expected-{name}.parquet"))
    # Of each row the reasons hold the values of its features.
    assert flagged(root / "out.db") == flagged(root / "expected.db")


def go_on(root: Path, broker: Broker, topic: str, cluster: FlinkCluster) -> None:
    """Score the messages after the savepoint."""
    broker.create_topic(topic)
    rewrite(root, {"root": str(root), **about_broker(broker, topic)})
    before, after = read_messages(root)
    send(broker, topic, [*before, *after])
    rows = sum(pq.read_metadata(root / f"expected-{name}.parquet").num_rows for name in RESULTS)
    assert archived(root / "out") < rows
    options = (*on_flink(cluster), f"--savepoint_path={(root / 'savepoint').as_uri()}")
    second = stream(root, broker, topic, "out", *options)
    try:
        second.start()
        assert second.wait_until(lambda: archived(root / "out") >= rows)
        assert second.runs, second.said()
        # What the sources in the savepoint would stop by is a file elsewhere.
        (job,) = cluster.jobs("RUNNING")
        cluster.stop_with_savepoint(job)
        second.wait_for_end()
    finally:
        second.kill()
