"""Labels from a topic change the known risk of later transactions, and are persisted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.cli.commands import score
from beam_fraud.cli.commands.stream import run
from beam_fraud.cli.options import ScoreOptions, StreamOptions
from beam_fraud.simulate.messages import handbook_messages
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce

#: Days of the month that are history.
DAYS = 22


def test_labels_of_a_topic_count_as_those_of_a_file(
    broker: Broker, topic: Callable[..., str], bundle: Path, month: pa.Table, tmp_path: Path
) -> None:
    first = pc.min(month["TX_DATETIME"]).as_py()
    later = pc.greater_equal(month["TX_DATETIME"], pa.scalar(first + timedelta(days=DAYS)))
    before, after = month.filter(pc.invert(later)), month.filter(later).combine_chunks()
    pq.write_table(before, tmp_path / "labelled.parquet")
    pq.write_table(before.drop_columns(["TX_FRAUD"]), tmp_path / "unlabelled.parquet")
    pq.write_table(after, tmp_path / "after.parquet")
    frauds = before.filter(pc.equal(before["TX_FRAUD"], 1)).to_pylist()
    assert len(frauds) > 50
    transactions, labels = topic(), topic()
    produce(broker, labels, [*map(label_of, frauds), b"rubbish", label_of(frauds[0])])
    out, database = tmp_path / "out", tmp_path / "flagged.db"
    options = StreamOptions(
        kafka=broker.bootstrap,
        topic=transactions,
        labels_topic=labels,
        start="earliest",
        model=str(bundle),
        out=str(out),
        sink=f"sqlite:///{database}",
        history=(str(tmp_path / "unlabelled.parquet"),),
        lateness="10d",
        until_idle=1.0,
    )
    # All labels first: they have to be known before what they change.
    summary = run(options)
    assert (summary["labels_in"], summary["labels_dead"]) == (len(frauds) + 2, 1)
    assert (summary["rows_in"], summary["rows_dead"]) == (0, 0)
    for block in handbook_messages(after):
        produce(broker, transactions, block.values, keys=[key.encode() for key in block.keys])
    assert run(options)["rows_scored"] == len(after)

    expected = tmp_path / "expected"
    score.run(
        ScoreOptions(
            files=(str(tmp_path / "after.parquet"),),
            history=(str(tmp_path / "labelled.parquet"),),
            model=str(bundle),
            out=str(expected),
        )
    )
    assert scores(out).equals(scores(expected))
    score.run(
        ScoreOptions(
            files=(str(tmp_path / "after.parquet"),),
            history=(str(tmp_path / "unlabelled.parquet"),),
            model=str(bundle),
            out=str(tmp_path / "unaware"),
        )
    )
    assert not scores(tmp_path / "unaware").equals(scores(expected)), "labels make a difference"

    with closing(sqlite3.connect(database)) as connection:
        stored = connection.execute("SELECT transaction_id, label FROM latest_labels").fetchall()
    assert sorted(stored) == sorted((str(fraud["TRANSACTION_ID"]), 1) for fraud in frauds)
    (dead,) = pq.read_table(out / "dead_letters").to_pylist()
    assert (dead["source"], dead["position"]) == (f"{labels}:0", len(frauds))
    assert dead["payload"] == b"rubbish"


def label_of(fraud: dict[str, object]) -> bytes:
    """Return the label of a fraud, known at its event time."""
    return json.dumps(
        {
            "transaction_id": fraud["TRANSACTION_ID"],
            "account_id": fraud["CUSTOMER_ID"],
            "merchant_id": fraud["TERMINAL_ID"],
            "event_time": str(fraud["TX_DATETIME"]),
            "label": 1,
            "labelled_at": str(fraud["TX_DATETIME"]),
            "labelled_by": "test",
        }
    ).encode()


def scores(out: Path) -> pa.Table:
    """Return the scores by id."""
    return pq.read_table(out / "scores").sort_by("transaction_id")
