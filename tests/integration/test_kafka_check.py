"""A fault that keeps a stream from starting is one line with a fix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from beam_fraud.errors import FraudError, UsageError
from beam_fraud.sources.kafka.check import topic_ids, topic_partitions
from beam_fraud.sources.kafka.settings import KafkaSettings
from deploy.kafka.broker import Broker
from deploy.ports import free_port
from tests.requirements import need_kafka

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that requires a login."""
    need_kafka()
    with Broker(tmp_path_factory.mktemp("guarded"), sasl={"alice": "s3cret"}) as broker:
        broker.create_topic("t", 3)
        yield broker


def line(settings: KafkaSettings, topic: str = "t", seconds: float = 5.0) -> str:
    with pytest.raises(FraudError) as raised:
        topic_partitions(settings, topic, seconds)
    text = str(raised.value)
    assert "\n" not in text
    assert "s3cret" not in text
    return text


def test_partitions_are_listed(broker: Broker, topic: Callable[..., str]) -> None:
    name = topic(partitions=3)
    assert topic_partitions(KafkaSettings.of(broker.bootstrap), name) == [0, 1, 2]


def test_an_unknown_topic_is_reported_with_similar_names_and_not_created(
    broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    settings = KafkaSettings.of(broker.bootstrap)
    assert f"no topic '{name[:-1]}' (did you mean '{name}'" in line(settings, name[:-1])
    assert "no topic 'zz' (it has '" in line(settings, "zz")
    assert name[:-1] not in broker.topics()


def test_a_port_where_nothing_listens() -> None:
    port = free_port()
    began = time.monotonic()
    message = line(KafkaSettings.of(f"127.0.0.1:{port}"), seconds=1.0)
    assert time.monotonic() - began < 5
    assert f"Kafka 127.0.0.1:{port}: no broker answers" in message
    assert "is it running" in message


def test_a_topic_that_is_created_again_has_another_id(
    broker: Broker, topic: Callable[..., str]
) -> None:
    # Properties of consumers are for others than the administrator who asks.
    config = ["group.id=g", "isolation.level=read_uncommitted", "fetch.wait.max.ms=50"]
    settings = KafkaSettings.of(broker.bootstrap, config)
    one, two = topic(), topic()
    before = topic_ids(settings, [one, two])
    assert topic_ids(settings, [two, one]) == before
    assert len(set(before.values())) == 2
    admin = AdminClient(broker.client)
    admin.delete_topics([one])[one].result(30)
    with pytest.raises(FraudError, match=f"topic '{one}': it is not there, or no longer"):
        topic_ids(settings, [one])
    broker.create_topic(one)
    assert topic_ids(settings, [one])[one] not in before.values()
    with pytest.raises(FraudError, match="no broker answers"):
        topic_ids(KafkaSettings.of("127.0.0.1:9"), [one], seconds=1.0)


def test_a_host_without_a_name() -> None:
    message = line(KafkaSettings.of("no-such-host.invalid:9092"), seconds=1.0)
    assert "Failed to resolve 'no-such-host.invalid:9092'" in message


def test_a_login_is_accepted_or_refused_at_once(
    guarded: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login = ["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=alice"]
    monkeypatch.setenv("BROKER_PASSWORD", "s3cret")
    settings = KafkaSettings.of(guarded.bootstrap, [*login, "sasl.password=env:BROKER_PASSWORD"])
    assert topic_partitions(settings, "t") == [0, 1, 2]
    assert list(topic_ids(settings, ["t"])) == ["t"]
    file = tmp_path / "client.properties"
    file.write_text("\n".join([*login, "sasl.password=s3cret"]))
    assert topic_partitions(KafkaSettings.of(guarded.bootstrap, [], file), "t") == [0, 1, 2]
    monkeypatch.setenv("BROKER_PASSWORD", "s3cret-not")
    message = line(settings)
    assert "the login was refused" in message
    assert "sasl.password" in message
    assert "s3cret-not" not in message


def test_a_protocol_that_the_broker_does_not_speak(guarded: Broker, broker: Broker) -> None:
    message = line(KafkaSettings.of(guarded.bootstrap), seconds=1.0)
    assert "no broker answers" in message
    assert "security.protocol" in message
    message = line(KafkaSettings.of(broker.bootstrap, ["security.protocol=SSL"]))
    assert "no TLS connection" in message
    assert "ssl.ca.location" in message


def test_a_wrong_property_is_a_wrong_call() -> None:
    with pytest.raises(UsageError, match="No such configuration property"):
        topic_partitions(KafkaSettings.of("127.0.0.1:1", ["nonsense=1"]), "t")
