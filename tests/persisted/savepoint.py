"""A stream on a Flink cluster that stopped with a savepoint, and its continuation.

The sources in a savepoint are pickled, with the address of the broker and the topic's name: who
goes on needs a broker at that port. They are also keys, which Flink finds by their hash, so a
savepoint is never rewritten. What is beside it is, for another directory, which must be as long.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pyarrow.parquet as pq
from confluent_kafka import Producer

from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.sources.kafka.check import topic_ids
from beam_fraud.sources.kafka.settings import KafkaSettings
from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker
from tests.stream_process import UNTIL_IDLE, Stream, archived, stream_command

#: Characters of the directory that a stream runs in, here and there.
LENGTH = 200
Message = tuple[str, bytes]


def long_directory(directory: Path) -> Path:
    """A new directory under this one whose path has `LENGTH` characters."""
    rest = LENGTH - len(str(directory)) - 1
    assert 0 < rest < 200, f"{directory} is too long"
    long = directory / ("x" * rest)
    long.mkdir()
    return long


def about_broker(broker: Broker, topic: str) -> dict[str, str]:
    """Return the broker's address as the stream stores it."""
    (identity,) = topic_ids(KafkaSettings(broker.bootstrap), [topic]).values()
    return {"broker": broker.bootstrap, "topic id": identity}


def send(broker: Broker, topic: str, messages: Iterable[Message]) -> None:
    """Send messages in order, and wait until the broker has them."""
    producer = Producer(broker.client)
    for key, value in messages:
        producer.produce(topic, value, key, 0)
    assert producer.flush(60) == 0


def read_messages(root: Path) -> tuple[list[Message], list[Message]]:
    """The messages that were sent before the savepoint, and those to send after it."""
    before, after = (
        [(key, base64.b64decode(value)) for key, value in part]
        for part in json.loads((root / "messages.json").read_text())
    )
    return before, after


def rewrite(root: Path, now: dict[str, str]) -> dict[str, str]:
    """Replace directory and topic in the files beside the savepoint; return the old values."""
    created: dict[str, str] = json.loads((root / "made.json").read_text())
    for name, value in now.items():
        assert len(value) == len(created[name]), (
            f"{name}: {value} is not as long as {created[name]}"
        )
        for path in root.rglob("*"):
            inside = (root / "savepoint") in path.parents
            if path.is_file() and path.suffix != ".parquet" and not inside:
                data = path.read_bytes()
                path.write_bytes(data.replace(created[name].encode(), value.encode()))
    return created


def stream(root: Path, broker: Broker, topic: str, out: str, *options: str) -> Stream:
    """Return a stream of the topic that writes under `root / out`."""
    places = ("--sink", f"sqlite:///{root / out}.db", "--roll-seconds=1", "--lateness", "1d")
    places += ("--reasons", "10", "--alert", f"file:{root / 'alerts.jsonl'}")
    command = stream_command(broker, topic, root / "model", root / out, *places)
    return Stream([*command, *options], root / out)


def on_flink(cluster: FlinkCluster) -> tuple[str, ...]:
    """Return the options of a stream on Flink."""
    return (*cluster.beam_options, "--parallelism=1", "--checkpointing_interval=1000", "--shards=2")


def make_savepoint(root: Path) -> None:
    """Score some messages on a cluster, stop with a savepoint, and score all of them on none.

    Args:
      root: holds `model`; its path has `LENGTH` characters.
    """
    table = simulate(Simulation(days=20, accounts=20, merchants=20, seed=5, fraud_rate=0.05))
    (sent,) = handbook_messages(table.slice(300, 240).combine_chunks(), 240)
    messages = list(zip(sent.keys, sent.values, strict=True))
    # Both parts hold rows of the other's, and one message that is none.
    bad = [("", b"{")]
    parts = (messages[:150] + bad, messages[120:] + bad)
    stored = [[(key, base64.b64encode(value).decode()) for key, value in part] for part in parts]
    (root / "messages.json").write_text(json.dumps(stored))
    topic = f"persisted-{uuid4().hex}"
    with (
        TemporaryDirectory() as elsewhere,
        Broker(Path(elsewhere) / "kafka") as broker,
        FlinkCluster(Path(elsewhere) / "flink") as cluster,
    ):
        broker.create_topic(topic)
        first = stream(root, broker, topic, "out", *on_flink(cluster))
        first.start()
        send(broker, topic, parts[0])
        assert first.wait_until(lambda: archived(root / "out") >= 151), first.said()
        (job,) = cluster.jobs("RUNNING")
        savepoint = cluster.stop_with_savepoint(job)
        first.wait_for_end()
        shutil.copytree(savepoint.removeprefix("file:"), root / "savepoint")
        send(broker, topic, parts[1])
        whole = stream(root, broker, topic, "whole", *UNTIL_IDLE)
        whole.start()
        whole.wait_for_end()
        about = {"root": str(root), "topic": topic, **about_broker(broker, topic)}
        (root / "made.json").write_text(json.dumps(about, indent=1))
    for name, by in (("scores", "transaction_id"), ("dead_letters", "position")):
        expected = pq.read_table(root / "whole" / name).sort_by(by)
        pq.write_table(expected, root / f"expected-{name}.parquet", compression="none")
    (root / "whole.db").rename(root / "expected.db")
    shutil.rmtree(root / "whole")
    for log in root.glob("*.log"):
        log.unlink()
