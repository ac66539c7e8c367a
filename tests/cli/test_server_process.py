"""A server in a process of its own, and its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from beam_fraud.cli.commands import server_process as module
from beam_fraud.cli.commands.server_process import ServerProcess, start_all


def _with_a_fork(seconds: float, answering: Callable[[str], None]) -> dict[str, object]:
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(seconds,))
    fork.start()
    answering(f"{os.getpid()} {fork.pid}")
    time.sleep(seconds)
    return {}


def test_the_end_of_a_server_is_seen_while_a_fork_of_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_DRAIN", 20.0)
    process = ServerProcess("the server", _with_a_fork, 60.0)
    start_all([process], threading.Event())
    server, fork = map(int, process.url.split())
    try:
        os.kill(server, signal.SIGKILL)
        killed = time.monotonic()
        assert process.result() == {}
        assert time.monotonic() - killed < 20
    finally:
        os.kill(fork, signal.SIGKILL)
