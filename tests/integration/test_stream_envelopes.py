"""Topics as other programs fill them: the scores of the plain topic, and each message counted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from beam_fraud.cli.commands.replay import run as replay
from beam_fraud.cli.commands.stream import run
from beam_fraud.cli.options import ReplayOptions, StreamOptions
from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.sources.kafka.registry import registry_of
from deploy.kafka.broker import Broker
from deploy.kafka.registry import schema_registry
from tests.integration.kafka import produce, read_all

SCHEMA = """
[roles]
transaction_id = "TRANSACTION_ID"
event_time = "TX_DATETIME"
account_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
amount = "TX_AMOUNT"
label = "TX_FRAUD"
[[velocity]]
key = "account_id"
windows = ["1d", "7d", "30d"]
aggregates = ["count", "mean"]
[[velocity]]
key = "merchant_id"
windows = ["1d", "7d", "30d"]
aggregates = ["count", "risk"]
delay = "7d"
"""
#: Transactions of the topics.
ROWS = 60

Send = Callable[[Iterable[bytes | None]], str]
Score = Callable[[str, str], tuple[pa.Table, dict]]


@pytest.fixture
def rows(month: pa.Table) -> list[bytes]:
    return [row for block in handbook_messages(month[:ROWS]) for row in block.values]


@pytest.fixture
def send(broker: Broker, topic: Callable[..., str]) -> Send:
    def sent(values: Iterable[bytes | None]) -> str:
        name = topic()
        produce(broker, name, values, partition=0)  # type: ignore[arg-type]
        return name

    return sent


@pytest.fixture
def score(broker: Broker, bundle: Path, tmp_path: Path) -> Score:
    def scored(topic: str, unwrap: str = "") -> tuple[pa.Table, dict]:
        schema, out = tmp_path / f"{topic}.toml", tmp_path / topic
        schema.write_text(SCHEMA + (f'[source]\nunwrap = "{unwrap}"\n' if unwrap else ""))
        options = StreamOptions(
            kafka=broker.bootstrap,
            topic=topic,
            start="earliest",
            model=str(bundle),
            schema=str(schema),
            out=str(out),
            until_idle=0.5,
            max_dead=1.0,
        )
        summary = run(options)
        outcomes = ("scored", "dead", "duplicate", "tombstone", "correction")
        assert summary["rows_in"] == sum(int(str(summary[f"rows_{name}"])) for name in outcomes)
        scores = pq.read_table(out / "scores")
        return scores.drop_columns(["model_id"]).sort_by("transaction_id"), summary

    return scored


def change(row: bytes, op: str) -> bytes:
    after = b"null" if op == "d" else row
    return b'{"schema": {}, "payload": {"op": "%s", "after": %s}}' % (op.encode(), after)


def test_changes_deletions_and_tombstones_are_counted(
    rows: list[bytes], send: Send, score: Score
) -> None:
    clean, _ = score(send(rows), "")
    values: list[bytes | None] = []
    for place, row in enumerate(rows):
        values.append(change(row, "r" if place % 2 else "c"))
        if place % 5 == 0:
            # A row that is changed, then deleted: the connector sends a tombstone after it.
            values += [change(row, "u"), change(row, "d"), None]
    scores, summary = score(send(values), "debezium")
    assert scores.equals(clean)
    assert (summary["rows_scored"], summary["rows_dead"]) == (ROWS, 0)
    assert (summary["rows_correction"], summary["rows_tombstone"]) == (ROWS // 5, 2 * ROWS // 5)


def test_events_arrays_and_numbers_that_nobody_reads(
    rows: list[bytes], send: Send, score: Score
) -> None:
    clean, _ = score(send(rows), "")
    events = [b'{"specversion": "1.0", "id": "1", "data": %s}' % row for row in rows[:20]]
    array = b"[" + b", ".join(rows[20:40]) + b"]"
    others = [row[:-1] + b', "distance": NaN}' for row in rows[40:]]
    scores, summary = score(send([*events, array, *others]), "cloudevents")
    assert scores.equals(clean)
    assert (summary["rows_in"], summary["rows_dead"]) == (ROWS, 0)


def test_envelopes_and_framing_are_named_where_the_schema_does_not_name_them(
    rows: list[bytes], send: Send, score: Score
) -> None:
    framed = [b"\0\0\0\0\x0c" + row for row in rows[:2]]
    twice = [json.dumps(row.decode()).encode() for row in rows[2:4]]
    values = [rows[0], *(change(row, "c") for row in rows[4:6]), *framed, *twice, None]
    _, summary = score(send(values), "")
    assert summary["rows_tombstone"] == 1
    assert summary["dead_reasons"] == {"enveloped": 2, "framed": 2, "wrong_type": 2}


AVRO = {
    "type": "record",
    "name": "Transaction",
    "fields": [
        {"name": "TRANSACTION_ID", "type": "long"},
        {"name": "TX_DATETIME", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "CUSTOMER_ID", "type": "long"},
        {"name": "TERMINAL_ID", "type": "long"},
        {"name": "TX_AMOUNT", "type": "double"},
    ],
}


def avro(row: bytes, number: int) -> bytes:
    values = json.loads(row)
    moment = datetime.fromisoformat(values["TX_DATETIME"])
    message = io.BytesIO()
    message.write(b"\0" + number.to_bytes(4, "big"))
    fastavro.schemaless_writer(message, AVRO, {**values, "TX_DATETIME": moment})
    return message.getvalue()


def test_a_topic_of_avro_has_the_scores_of_json_and_writes_them_as_avro(
    rows: list[bytes],
    send: Send,
    score: Score,
    broker: Broker,
    topic: Callable[..., str],
    bundle: Path,
    tmp_path: Path,
) -> None:
    clean, _ = score(send(rows), "")
    scores_topic, out = topic(), tmp_path / "avro"
    with schema_registry() as registry:
        number = registry.add(json.dumps(AVRO))
        # The last one has a number that the registry does not have yet.
        values = [*(avro(row, number) for row in rows[:-1]), avro(rows[-1], number + 2)]
        options = StreamOptions(
            kafka=broker.bootstrap,
            topic=send(values),
            start="earliest",
            model=str(bundle),
            out=str(out),
            out_topic=scores_topic,
            out_format="avro",
            schema_registry=registry.url,
            until_idle=0.5,
        )
        summary = run(options)
        assert (summary["rows_scored"], summary["rows_dead"]) == (ROWS - 1, 1)
        scores = pq.read_table(out / "scores").sort_by("transaction_id")
        lost = str(json.loads(rows[-1])["TRANSACTION_ID"])
        expected = clean.filter(pc.not_equal(clean["transaction_id"], lost))
        assert scores.drop_columns(["model_id"]).equals(expected)

        assert list(registry.subjects) == [f"{scores_topic}-value"]
        read = AvroDeserializer(SchemaRegistryClient({"url": registry.url}))
        about = SerializationContext(scores_topic, MessageField.VALUE)
        sent = [read(message.value(), about) for message in read_all(broker, scores_topic)]
        by_id = sorted(sent, key=lambda row: row["transaction_id"])  # type: ignore[index]
        lists = {"rules": [], "reasons": []}
        assert by_id == [
            {**row, **{name: row[name] or empty for name, empty in lists.items()}}
            for row in scores.to_pylist()
        ]

        assert registry.add(json.dumps(AVRO)) == number + 2
        registry_of.cache_clear()
        again = ReplayOptions(
            out=str(out),
            model=str(bundle),
            results=str(tmp_path / "replayed"),
            schema_registry=registry.url,
        )
        replayed = replay(again)
        assert (replayed["rows_scored"], replayed["rows_dead"]) == (1, 0)
