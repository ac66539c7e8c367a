"""A broker that is silent for long is told of once, a slow one never."""

from __future__ import annotations

import logging

import pytest

from beam_fraud.kafka.settings import KafkaSettings
from beam_fraud.sinks import patience
from beam_fraud.sinks.patience import SILENT_SECONDS, Patience


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
    return clock


def test_silence_is_told_once_and_its_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    waiting = Patience(KafkaSettings("b:9092"))
    for _ in range(100):
        clock.now += 0.25
        waiting.goes_on(7)
    waiting.over()
    assert caplog.messages == [
        "Kafka b:9092: no answer; 7 messages wait for the broker",
        "Kafka b:9092: the broker has taken all messages",
    ]


def test_a_broker_that_takes_some_is_not_silent(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Patience(KafkaSettings("b:9092"))
    for left in range(100, 0, -1):
        clock.now += 0.9 * SILENT_SECONDS
        waiting.goes_on(left)
    waiting.over()
    assert caplog.messages == []
