"""Waits are logged when they begin, every 30 seconds, and when they end."""

from __future__ import annotations

import logging

import pytest

from beam_fraud.monitoring.waiting import Wait, safe_meanwhile

LOG = logging.getLogger("beam_fraud.test")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_at_the_beginning_every_30_seconds_and_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    wait = Wait(LOG, clock)
    stored = 12_400
    with safe_meanwhile(lambda: f"{stored:,} rows are stored"):
        for _ in range(130):
            wait.goes_on("database db: down")
            clock.now += 0.5
        stored = 12_500
    wait.over("database db: back")
    wait.over("database db: back")
    assert caplog.messages == [
        "database db: down; 12,400 rows are stored",
        "database db: down; waiting for 30 seconds by now; 12,400 rows are stored",
        "database db: down; waiting for 60 seconds by now; 12,400 rows are stored",
        "database db: back after 65.0 seconds",
    ]


def test_no_wait_is_no_message(caplog: pytest.LogCaptureFixture) -> None:
    Wait(LOG).over("database db: back")
    assert caplog.messages == []
