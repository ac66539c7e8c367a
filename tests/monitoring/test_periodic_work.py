"""Periodic work goes on after failures, ends with the body, and is done once more then."""

from __future__ import annotations

import logging
import threading

import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.periodic_work import periodically
from tests.stream_process import wait_until


def test_a_failure_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    calls = list[int]()

    def work() -> None:
        calls.append(len(calls))
        if calls[-1] == 0:
            raise FraudError("its file is away", Code.INPUT_MISSING)
        if calls[-1] == 1:
            raise ValueError("card 4111")

    with caplog.at_level(logging.WARNING), periodically(work, 0.001, "the watch"):
        wait_until(lambda: len(calls) >= 4)
    assert f"the watch: its file is away [{Code.INPUT_MISSING}]" in caplog.text
    assert "the watch failed: ValueError" in caplog.text
    assert "4111" not in caplog.text


def test_the_last_call_is_after_the_body() -> None:
    calls = list[str]()
    with periodically(lambda: calls.append("call"), 3600.0, "the watch", at_once=False):
        calls.append("body")
    assert calls == ["body", "call"]


def test_a_call_that_hangs_has_no_last_one() -> None:
    begun, released, calls = threading.Event(), threading.Event(), list[int]()

    def work() -> None:
        calls.append(1)
        begun.set()
        released.wait()

    with periodically(work, 3600.0, "the watch", patience=0.01):
        assert begun.wait(60)
    assert len(calls) == 1
    released.set()
