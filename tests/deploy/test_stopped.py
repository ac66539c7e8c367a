"""A server of `deploy` ends cleanly after any number of signals."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SERVER = """
import time
from contextlib import contextmanager
from deploy.stopped import until_stopped

@contextmanager
def parts():
    try:
        yield
    finally:
        print("ending", flush=True)
        time.sleep(0.5)
        print("ended", flush=True)

def serve():
    with parts():
        print("runs", flush=True)
        time.sleep(60)

raise SystemExit(until_stopped(serve))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_end_it_sooner(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert server.stdout.readline() == "runs\n"
        server.send_signal(number)
        assert server.stdout.readline() == "ending\n"
        server.send_signal(number)
        assert server.stdout.readline() == "ended\n"
        assert server.wait(10) == 0
        assert server.stderr.read() == ""
