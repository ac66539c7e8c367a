"""Starts, marks and positions of topics, without a broker."""

import pickle
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Message

from beam_fraud.errors import Code, UsageError
from beam_fraud.records.json_records import NewestEvent
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate, validate_arrivals
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.sources.kafka import batches
from beam_fraud.sources.kafka.batches import chunks_of, joined
from beam_fraud.sources.kafka.position import KafkaMark, KafkaMarkCoder, Reading
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.kafka.source import KafkaSource
from beam_fraud.sources.kafka.topic import EARLIEST, Content, KafkaTopic, Start
from beam_fraud.sources.raw import APPENDED, PAYLOAD, POSITION, origin_of, sources_of
from beam_fraud.storage.checkpoint import LocalCheckpoint
from benchmarks.hostile import hostile_messages
from tests.failing import fails

OF_TX: dict[str, Content] = {"tx": "transactions"}
SETTINGS = KafkaSettings.of("127.0.0.1:1")
#: A time of a message, milliseconds.
AT = 1_700_000_000_000


def message(topic: str, partition: int, offset: int, value: bytes | None, at: int = 0) -> Message:
    when = (1, at) if at else (0, -1)
    return Message(topic=topic, partition=partition, offset=offset, value=value, timestamp=when)


@pytest.mark.parametrize("kind", ["earliest", "latest", "committed"])
def test_a_start_has_a_name(kind: str) -> None:
    assert Start.parse(kind).kind == kind


def test_a_start_is_a_time() -> None:
    assert Start.parse("2024-05-01T14:00:00+02:00").at == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert Start.parse("2024-05-01T12:00:00").at == datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "newest", "2024-13-01", "0001-01-01T00:00:00+23:00"])
def test_an_invalid_start_is_one_line(text: str) -> None:
    with fails(Code.OPTION_VALUE, re.escape(f"--start {text}: "), kind=UsageError):
        Start.parse(text)


def test_equal_marks_have_equal_bytes() -> None:
    coder = KafkaMarkCoder()
    one, other = KafkaMark({"t:0": 5, "t:10": 7}), KafkaMark({"t:10": 7, "t:0": 5})
    assert one == other
    assert coder.encode(one) == coder.encode(other)
    assert coder.decode(coder.encode(one)) == one
    assert coder.is_deterministic()


def test_a_mark_is_finalised_once() -> None:
    calls: list[int] = []
    mark = KafkaMark({}, lambda: calls.append(1))
    mark.finalize_checkpoint()
    mark.finalize_checkpoint()
    assert calls == [1]


def test_a_source_is_pickled_to_the_same_bytes_again() -> None:
    source = KafkaSource(
        SETTINGS,
        (KafkaTopic("payments"), KafkaTopic("labels", "labels")),
        positions={"payments:1": 4, "payments:0": 3},
        newest_event=NewestEvent("at"),
        checkpoint=Path("/x/state.db"),
    )
    once = pickle.dumps(source)
    assert pickle.dumps(pickle.loads(once)) == once, "parked readers are found by these bytes"
    assert len(once) < 2_000


def test_sub_sources_partition_the_partitions() -> None:
    source = KafkaSource(SETTINGS, (KafkaTopic("t"),), splits=3)
    parts = source.split(20)
    assert [part.index for part in parts] == [0, 1, 2]
    assert [part.split(20) for part in parts] == [[part] for part in parts]
    readings = [Reading(SETTINGS, (), "g", EARLIEST, 1, 1.0, 3, part.index) for part in parts]
    for number in range(10):
        assert sum(reading.owns(("t", number)) for reading in readings) == 1


def test_messages_become_a_batch_for_each_partition() -> None:
    messages = [
        message("t", 0, 5, b"a", AT + 3_000),
        message("t", 1, 0, None, AT + 7_000),
        message("t", 0, 9, b"\x00\xff", AT + 2_000),
        message("u", 0, 1, b"label", AT + 9_000),
    ]
    first, second, third = chunks_of(
        [messages[:2], messages[2:]], {"t": "transactions", "u": "labels"}
    )
    assert first.next_offsets == {("t", 0): 10}
    assert first.batch.column(POSITION).to_pylist() == [5, 9]
    assert first.batch.column(PAYLOAD).to_pylist() == [b"a", b"\x00\xff"]
    origin = origin_of(first.batch)
    assert (origin.source, origin.format, origin.appended) == ("t:0", "jsonl", AT + 2_000)
    assert first.batch.column(APPENDED).to_pylist() == [AT + 3_000, AT + 2_000]
    assert second.batch.column(PAYLOAD).to_pylist() == [None]
    assert (origin_of(third.batch).source, origin_of(third.batch).content) == ("u:0", "labels")


def test_without_a_time_of_the_broker_the_present_counts() -> None:
    before = datetime.now(UTC).timestamp() * 1000
    (chunk,) = chunks_of([[message("t", 0, 0, b"a")]], {"t": "transactions"})
    appended = origin_of(chunk.batch).appended
    assert appended is not None
    assert before - 1 <= appended <= datetime.now(UTC).timestamp() * 1000
    assert chunk.batch.column(APPENDED).to_pylist() == [appended]


def test_large_messages_are_cut_into_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "LARGE", 10)
    messages = [message("t", 0, number, b"x" * 6) for number in range(5)]
    chunks = chunks_of([messages, [message("t", 0, 5, b"y" * 50)]], {"t": "transactions"})
    assert [len(chunk.batch) for chunk in chunks] == [1] * 6
    assert [chunk.next_offsets["t", 0] for chunk in chunks] == [1, 2, 3, 4, 5, 6]


def test_batches_of_partitions_are_joined_and_every_row_knows_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contents: dict[str, Content] = {"t": "transactions", "u": "labels"}
    messages = [
        message("t", 1, 4, b"rubbish", AT + 7_000),
        message("t", 0, 9, b"{", AT + 2_000),
        message("u", 0, 1, b"label", AT + 9_000),
    ]
    transactions, labels = joined(chunks_of([messages], contents))
    assert transactions.next_offsets == {("t", 1): 5, ("t", 0): 10}
    assert origin_of(transactions.batch).appended == AT + 2_000
    assert sources_of(transactions.batch).to_pylist() == ["t:1", "t:0"]
    assert transactions.batch.column(APPENDED).to_pylist() == [AT + 7_000, AT + 2_000]
    parsed = parse(transactions.batch, HANDBOOK, labels="ignored")
    _, dead = validate(parsed, HANDBOOK, labels="ignored")
    assert dead.column("source").to_pylist() == ["t:1", "t:0"]
    assert dead.column("position").to_pylist() == [4, 9]
    assert labels.content == "labels"
    monkeypatch.setattr(batches, "LARGE", 10)
    assert len(joined(chunks_of([messages], contents))) == 3


def test_unreadable_event_times_are_skipped() -> None:
    newest = NewestEvent("at")
    assert newest([b'{"at": "2024-01-01T00:00:00Z"}', b'{"at": null}']) == 1_704_067_200_000_000
    for rubbish in (b"", b"\xff", b'{"at": "soon"}', b'{"at": [1]}', b"{}", b"[" * 100_000):
        assert newest([rubbish]) is None


def test_an_idle_stream_commits_nothing(tmp_path: Path) -> None:
    checkpoint = LocalCheckpoint(tmp_path / "state.db")
    checkpoint.commit({"t:0": "1"})
    before = (tmp_path / "state.db-wal").stat().st_mtime_ns, checkpoint.positions()
    checkpoint.commit({})
    assert ((tmp_path / "state.db-wal").stat().st_mtime_ns, checkpoint.positions()) == before
    # What a step has kept when time passed is committed though nothing came.
    checkpoint.keep("step", 0, [(b"kept", 1)])
    checkpoint.commit({})
    checkpoint.close()
    again = LocalCheckpoint(tmp_path / "state.db")
    assert again.deltas("step", 0) == [b"kept"]
    again.close()


def test_a_message_without_a_value_has_none() -> None:
    (chunk,) = chunks_of(
        [[message("tx", 0, 0, None), message("tx", 0, 1, b"")]], {"tx": "transactions"}
    )
    assert chunk.batch.column(PAYLOAD).to_pylist() == [None, b""]


def test_a_message_that_is_an_array_is_its_records() -> None:
    values = [b'{"a": 1}', b'[{"a": 2}, {"a": 3}, 4]', b"[]", b"[1, ", None, b'[{"a": NaN}]']
    messages = [message("tx", 3, 7 + place, value) for place, value in enumerate(values)]
    (chunk,) = chunks_of([messages], {"tx": "transactions"})
    rows = zip(
        *(sources_of(chunk.batch).to_pylist(), chunk.batch.column(POSITION).to_pylist()),
        chunk.batch.column(PAYLOAD).to_pylist(),
        strict=True,
    )
    assert list(rows) == [
        ("tx:3", 7, b'{"a": 1}'),
        ("tx:3:8", 0, b'{"a": 2}'),
        ("tx:3:8", 1, b'{"a": 3}'),
        ("tx:3:8", 2, b"4"),
        ("tx:3", 9, b"[]"),
        ("tx:3", 10, b"[1, "),
        ("tx:3", 11, None),
        ("tx:3:12", 0, b'{"a": NaN}'),
    ]
    assert chunk.next_offsets == {("tx", 3): 13}
    other = chunks_of([[message("tx", 0, 1, b"{}")]], {"tx": "transactions"})
    both = joined([chunk, *other])
    assert len(both[0].batch) == 9


@pytest.mark.parametrize(
    "value", [b"[" * 100_000, b"[" * 100_000 + b"NaN", b'["\xff"]', b"[{}, [[", b"[" + b"1," * 9]
)
def test_a_hostile_array_is_one_message(value: bytes) -> None:
    (chunk,) = chunks_of([[message("tx", 0, 0, value)]], {"tx": "transactions"})
    parsed = parse(chunk.batch, HANDBOOK, labels="ignored")
    valid, dead = validate(parsed, HANDBOOK, labels="ignored")
    assert (len(valid), len(dead)) == (0, 1)


def test_hostile_messages_are_dead_letters_each() -> None:
    hostile = hostile_messages(2_000, seed=3)
    payloads = [one.payload for one in hostile]
    chunks = chunks_of([[message("tx", 0, at, value) for at, value in enumerate(payloads)]], OF_TX)
    rows = sum(len(chunk.batch) for chunk in chunks)
    valid = dead = 0
    for chunk in chunks:
        parsed = parse(chunk.batch, HANDBOOK, labels="ignored")
        checked = validate_arrivals(parsed, HANDBOOK, labels="ignored", ahead=None, now=None)
        valid += len(checked.transactions)
        dead += len(checked.dead) + checked.skipped.total()
    assert (valid, dead) == (0, rows)
    assert rows >= len(payloads)


def test_a_time_in_seconds_is_named_and_counts_as_now(caplog: pytest.LogCaptureFixture) -> None:
    topic = "times-in-seconds"
    times = (1_707_372_016, 1_707_372_016_000)
    sent = [message(topic, 0, place, b"{}", at) for place, at in enumerate(times)]
    before = time.time()
    (chunk,) = chunks_of([sent], {topic: "transactions"})
    chunks_of([sent], {topic: "transactions"})
    first, second = chunk.batch.column(APPENDED).to_pylist()
    assert before * 1000 - 1 <= first <= time.time() * 1000
    assert second == 1_707_372_016_000
    (record,) = caplog.records
    assert topic in record.message
    assert "seconds" in record.message
