"""Lists from topics of a real broker."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from beam_fraud.decisions.lists.live_list import LiveList
from beam_fraud.errors import Code
from deploy.kafka.broker import Broker
from tests.decisions.list_contract import ListContract, Origin, among, look_often, refused, soon
from tests.integration.kafka import produce
from tests.requirements import need_kafka

COMPACTED = {"cleanup.policy": "compact"}


class TopicOrigin(Origin):
    def __init__(self, directory: Path, broker: Broker, topic: str) -> None:
        super().__init__(directory)
        self.broker, self.topic = broker, topic
        (directory / "blocked.toml").write_text(
            f"[topic]\nkafka = '{broker.bootstrap}'\nname = '{topic}'\n"
        )

    def send(self, values: Iterable[str], message: bytes | None) -> None:
        keys = [value.encode() for value in values]
        produce(self.broker, self.topic, [message] * len(keys), keys=keys)  # type: ignore[list-item]

    def add(self, *values: str, until: datetime | None = None) -> None:
        entry = {"reason": "a test", "who": "ann"}
        if until is not None:
            entry["until"] = until.isoformat()
        self.send(values, json.dumps(entry).encode())

    def remove(self, *values: str) -> None:
        self.send(values, None)

    def fill(self, values: list[str]) -> None:
        self.send(values, b"{}")

    def break_down(self) -> None:
        self.broker.kill()

    def mend(self) -> None:
        self.broker.start()


class TestTopics(ListContract):
    @pytest.fixture
    def origin(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        broker: Broker,
        topic: Callable[..., str],
    ) -> Iterable[Origin]:
        if "away" not in request.node.name:
            yield TopicOrigin(tmp_path / "lists", broker, topic(3, COMPACTED))
            return
        need_kafka()
        with Broker(tmp_path / "kafka") as own:
            own.create_topic("blocked", 3, COMPACTED)
            yield TopicOrigin(tmp_path / "lists", own, "blocked")


@pytest.fixture
def origin(tmp_path: Path, broker: Broker, topic: Callable[..., str]) -> TopicOrigin:
    return TopicOrigin(tmp_path / "lists", broker, topic(1, COMPACTED))


def test_a_message_that_cannot_be_read_costs_only_itself(
    origin: TopicOrigin, caplog: pytest.LogCaptureFixture
) -> None:
    origin.add("a", "b")
    for key, message in ((b"a", b"no json"), (b"a", b'{"until": 7}'), (b"\xff", b"{}")):
        produce(origin.broker, origin.topic, [message], keys=[key])
    produce(origin.broker, origin.topic, [b'{"until": "2030-01-01T00:00:00", "x": 1}'], keys=[b"c"])
    with caplog.at_level(logging.ERROR):
        live = LiveList(origin.directory, "blocked")
    assert among(live, "a", "b", "c") == [True, True, True]
    assert among(live, "a", "c", at=2 * 10**15) == [True, False]
    assert "3 messages" in caplog.text
    assert f"{origin.topic}:0:2" in caplog.text


def test_an_empty_topic_is_an_empty_list(origin: TopicOrigin) -> None:
    assert among(LiveList(origin.directory, "blocked"), "a") == [False]


def test_a_topic_that_is_not_there_is_refused(origin: TopicOrigin) -> None:
    text = (origin.directory / "blocked.toml").read_text()
    (origin.directory / "blocked.toml").write_text(text.replace("topic-", "tipoc-"))
    error = refused(origin.directory)
    assert error.code == Code.TOPIC_MISSING
    assert "list blocked" in str(error)


def test_a_topic_that_was_made_anew_replaces_the_entries(
    origin: TopicOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_often(monkeypatch)
    origin.add("a", "b", "c")
    live = LiveList(origin.directory, "blocked")
    assert among(live, "a", "d") == [True, False]
    admin = AdminClient(origin.broker.client)
    admin.delete_topics([origin.topic])[origin.topic].result(30)
    soon(lambda: origin.topic not in origin.broker.topics())
    origin.broker.create_topic(origin.topic, 1, COMPACTED)
    origin.add("d")
    soon(lambda: among(live, "a", "d") == [False, True], 30)
