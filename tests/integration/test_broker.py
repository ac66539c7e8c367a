"""The Kafka broker for trials and tests."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer

from beam_fraud.errors import FraudError
from deploy.kafka.broker import HERE, Broker
from deploy.ports import free_port, listens
from tests.integration.kafka import produce, read_all
from tests.requirements import need_kafka

pytestmark = pytest.mark.slow

ROOT = HERE.parent.parent


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may stop and kill."""
    need_kafka()
    with Broker(tmp_path / "kafka") as broker:
        yield broker


def test_messages_are_read_as_they_were_written(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=3)
    values = [f"value {number}".encode() for number in range(120_000)]
    keys = [f"key {number % 100}".encode() for number in range(120_000)]
    assert produce(broker, name, values, keys=keys) == len(values)
    result = read_all(broker, name)
    assert sorted((m.key(), m.value()) for m in result) == sorted(zip(keys, values, strict=True))
    assert {message.partition() for message in result} == {0, 1, 2}
    of_partition = {(message.key(), message.partition()) for message in result}
    assert len(of_partition) == 100, "a key has one partition"


def test_old_and_large_messages_are_stored(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=2)
    produce(broker, name, [b"x" * 19_000_000], timestamps=[1_000_000_000_000], partition=1)
    (message,) = read_all(broker, name)
    assert len(message.value()) == 19_000_000
    assert message.timestamp()[1] == 1_000_000_000_000
    assert message.partition() == 1


@pytest.mark.soak
def test_messages_outlive_a_stop_and_a_crash(own_broker: Broker) -> None:
    own_broker.create_topic("kept", partitions=2)
    values = [b"%d" % number for number in range(1000)]
    for end in (own_broker.stop, own_broker.kill):
        produce(own_broker, "kept", values)
        address = own_broker.bootstrap
        end()
        assert not listens(own_broker.bootstrap)
        own_broker.start()
        assert own_broker.bootstrap == address
    assert own_broker.topics()["kept"] == 2
    result = [message.value() for message in read_all(own_broker, "kept")]
    assert sorted(result) == sorted(2 * values)


def test_a_wrong_login_is_refused(tmp_path: Path) -> None:
    need_kafka()
    with Broker(tmp_path / "kafka", sasl={"alice": "s3cret", "bob": "other"}) as broker:
        broker.create_topic("guarded")
        assert produce(broker, "guarded", [b"by alice"]) == 1
        refused: list[KafkaError] = []
        wrong = {**broker.client, "sasl.password": "guess", "error_cb": refused.append}
        with_wrong = Producer({**wrong, "log_level": 0})
        deadline = time.monotonic() + 60
        while not refused and time.monotonic() < deadline:
            with_wrong.poll(0.1)
        assert refused[0].code() == KafkaError._AUTHENTICATION
        bob = Producer({**broker.client, "sasl.username": "bob", "sasl.password": "other"})
        assert "guarded" in bob.list_topics(timeout=30).topics
        assert "s3cret" not in broker.log.read_text()
        settings = tmp_path / "kafka/server.properties"
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600


def test_failures_are_one_line(broker: Broker, topic: Callable[..., str], tmp_path: Path) -> None:
    name = topic()
    with pytest.raises(FraudError, match=f"{broker.bootstrap}: topic '{name}'.*exists"):
        broker.create_topic(name)
    with pytest.raises(FraudError, match="nonsense"):
        topic(config={"nonsense": "1"})
    port = int(broker.bootstrap.rpartition(":")[2])
    with pytest.raises(FraudError, match=f"127.0.0.1:{port}: something listens there"):
        Broker(tmp_path / "second", port).start()
    assert not (tmp_path / "second").exists()


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FraudError, match="java is not on PATH: install Java"):
        Broker(tmp_path / "kafka").start()


def test_a_broker_that_cannot_start_names_its_log(tmp_path: Path) -> None:
    need_kafka()
    (tmp_path / "logs").write_text("no directory")
    broker = Broker(tmp_path)
    with pytest.raises(FraudError, match=r"ended with code 1: see .*broker\.log"):
        broker.start()
    assert broker.log.read_text()


def test_the_commands_of_the_readme_work(tmp_path: Path) -> None:
    need_kafka()
    readme = (HERE / "README.md").read_text("utf-8")
    (start,) = re.findall(r"```sh\n(.*?)\n```", readme, re.DOTALL)
    (send,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    port = free_port()
    command = start.replace("/tmp/kafka", str(tmp_path / "kafka")).split()
    running = subprocess.Popen(
        [sys.executable, *command[1:], "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        output = running.stderr.readline()
        assert f"Kafka answers at 127.0.0.1:{port}" in output, output
        exec_python(send.replace("9092", str(port)))
        broker = Broker(tmp_path / "kafka", port)
        assert broker.topics()["transactions"] == 4
        (message,) = read_all(broker, "transactions")
        assert message.value() == b'{"TRANSACTION_ID": 1}'
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        assert not listens(broker.bootstrap)
    finally:
        running.terminate()
        running.wait()


def exec_python(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
