"""Labels from a topic change the known risk of later transactions, and are persisted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.cli.commands import labels, score
from beam_fraud.cli.commands.stream import run
from beam_fraud.cli.options import (
    ExportLabelsOptions,
    ImportLabelsOptions,
    ScoreOptions,
    StreamOptions,
)
from beam_fraud.features.dataset import load_dataset
from beam_fraud.models.bundle import open_bundle
from beam_fraud.records.label_file import read_label_file
from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.storage.urls import Place
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
    transactions, topic_of_labels = topic(), topic()
    produce(broker, topic_of_labels, [*map(label_of, frauds), b"rubbish", label_of(frauds[0])])
    out, database = tmp_path / "out", tmp_path / "flagged.db"
    options = StreamOptions(
        kafka=broker.bootstrap,
        topic=transactions,
        labels_topic=topic_of_labels,
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
    assert (dead["source"], dead["position"]) == (f"{topic_of_labels}:0", len(frauds))
    assert dead["payload"] == b"rubbish"


def test_imported_labels_reach_a_stream_and_training_at_the_same_time(
    broker: Broker, topic: Callable[..., str], bundle: Path, month: pa.Table, tmp_path: Path
) -> None:
    first = pc.min(month["TX_DATETIME"]).as_py()
    later = pc.greater_equal(month["TX_DATETIME"], pa.scalar(first + timedelta(days=DAYS)))
    before, after = month.filter(pc.invert(later)), month.filter(later).combine_chunks()
    # Their own labels say nothing of fraud.
    place = after.schema.get_field_index("TX_FRAUD")
    none = pa.array(np.zeros(len(after)), after["TX_FRAUD"].type)
    after = after.set_column(place, "TX_FRAUD", none)
    unlabelled = tmp_path / "unlabelled.parquet"
    pq.write_table(month.drop_columns(["TX_FRAUD"]), unlabelled)
    pq.write_table(before.drop_columns(["TX_FRAUD"]), tmp_path / "before.parquet")
    frauds = before.filter(pc.equal(before["TX_FRAUD"], 1)).to_pylist()
    # Some are known at once, some in the days of the stream, some never in its time.
    delayed = [
        {**json.loads(label_of(fraud)), "labelled_at": str(at + timedelta(days=3 * (row % 8)))}
        for row, fraud in enumerate(frauds)
        for at in [fraud["TX_DATETIME"]]
    ]
    (tmp_path / "labels.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in delayed))
    transactions, topic_of_labels = topic(), topic()
    database = f"sqlite:///{tmp_path}/flagged.db"
    imported = labels.run_import(
        ImportLabelsOptions(
            files=(str(tmp_path / "labels.jsonl"),),
            database=database,
            kafka=broker.bootstrap,
            labels_topic=topic_of_labels,
        )
    )
    assert imported["labels_sent"] == imported["labels_new"] == len(frauds)
    out = tmp_path / "out"
    options = StreamOptions(
        kafka=broker.bootstrap,
        topic=transactions,
        labels_topic=topic_of_labels,
        start="earliest",
        model=str(bundle),
        out=str(out),
        sink=database,
        history=(str(tmp_path / "before.parquet"),),
        lateness="10d",
        keep_features=True,
        until_idle=1.0,
    )
    summary = run(options)
    assert (summary["labels_in"], summary["labels_dead"]) == (len(frauds), 0)
    for block in handbook_messages(after):
        produce(broker, transactions, block.values, keys=[key.encode() for key in block.keys])
    assert run(options)["rows_scored"] == len(after)

    exported = tmp_path / "exported.parquet"
    assert labels.run_export(ExportLabelsOptions(database=database, out=str(exported)))[
        "labels"
    ] == len(frauds)
    schema = open_bundle(str(bundle)).schema
    read = load_dataset(
        Place.parse_all([str(unlabelled)]), schema, labels=read_label_file(exported)
    ).transactions
    expected = read.filter(
        pc.is_in(read["transaction_id"], value_set=scores(out)["transaction_id"])
    )
    expected = expected.sort_by("transaction_id")
    kept = scores(out)["features"].combine_chunks()
    risks = [name for name in kept.type.names if "_risk_" in name]
    assert risks
    for name in risks:
        in_stream = kept.field(name).to_numpy(zero_copy_only=False)
        in_training = expected[name].to_numpy()
        assert np.array_equal(in_stream, in_training, equal_nan=True), name
        assert np.nanmax(in_training) > 0
    assert pc.sum(read["label"]).as_py() == len(frauds)


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
