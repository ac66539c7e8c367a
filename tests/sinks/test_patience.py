"""A silent broker is reported every 30 seconds; a slow one is not."""

from __future__ import annotations

import logging
from functools import partial

import pytest

from beam_fraud.monitoring.waiting import Wait
from beam_fraud.sinks import topic as patience
from beam_fraud.sinks.topic import SILENT_SECONDS, Patience
from beam_fraud.sources.kafka.settings import KafkaSettings


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO, patience.__name__)
    clock = Clock()
    monkeypatch.setattr(patience, "monotonic", clock)
    monkeypatch.setattr(patience, "Wait", partial(Wait, clock=clock))
    return clock


def test_silence_is_reported_every_30_seconds_and_at_its_end(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Patience(KafkaSettings("b:9092"))
    for _ in range(300):
        clock.now += 0.25
        waiting.goes_on(7)
    waiting.over()
    silent = "Kafka b:9092: no answer; 7 messages wait for the broker"
    assert caplog.messages == [
        silent,
        f"{silent}; waiting for 30 seconds by now",
        f"{silent}; waiting for 60 seconds by now",
        "Kafka b:9092: the broker has taken all messages after 70.0 seconds",
    ]


def test_a_broker_that_accepts_some_messages_is_not_silent(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Patience(KafkaSettings("b:9092"))
    for left in range(100, 0, -1):
        clock.now += 0.9 * SILENT_SECONDS
        waiting.goes_on(left)
    waiting.over()
    assert caplog.messages == []
