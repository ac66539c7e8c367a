"""Calls run beside a process, which neither they nor their end can hurt."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from beam_fraud.cli.commands import side_process as module
from beam_fraud.cli.commands.side_process import SideProcess, side_process
from beam_fraud.errors import Code, FraudError
from tests.failing import fails
from tests.stream_process import wait_until

#: More bytes than travel with the other data.
LARGE = 100_000


class StrangeError(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def process() -> int:
    return os.getpid()


def parent() -> int:
    return os.getppid()


def arrays(fill: float) -> dict[str, np.ndarray]:
    return {"large": np.full(LARGE, fill), "small": np.full(3, fill)}


def refuse(code: Code) -> None:
    raise FraudError("it is damaged", code)


def be_strange() -> None:
    raise StrangeError(1, two=2)


def end(number: int) -> None:
    os.kill(os.getpid(), number)


def local() -> Callable[[], int]:
    return lambda: os.getpid()


def niceness_of_the_urgent(begun: str) -> int:
    """Return the niceness, once there is a share of the processors."""
    with Path(begun).open("a") as file:
        file.write("x")
    if os.sched_getscheduler(0) == os.SCHED_IDLE:
        time.sleep(600)
    return os.getpriority(os.PRIO_PROCESS, 0)


def niceness_after(begun: str, seconds: float) -> int:
    with Path(begun).open("a") as file:
        file.write("x")
    time.sleep(seconds)
    return os.getpriority(os.PRIO_PROCESS, 0)


def wait_long(begun: str) -> None:
    Path(begun).write_text(str(os.getpid()))
    time.sleep(600)


def end_the_parent(server: int, begun: str, seconds: float) -> np.ndarray:
    """Return more than fits into a connection; not in the server, kill the parent before."""
    if os.getpid() != server:
        Path(begun).write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(seconds)
    return np.full(LARGE * 10, 2.5)


def runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # An orphan that nobody waits for has ended, too.
    return status.rpartition(")")[2].split()[0] not in "ZX"


def test_a_call_runs_in_a_process_of_its_own_and_its_result_can_be_written_to() -> None:
    with side_process() as side:
        pids = {side.call(process) for _ in range(3)}
        assert len(pids | {os.getpid()}) == 4
        (forks,) = {side.call(parent) for _ in range(2)}
        assert forks != os.getpid()
        for name, array in side.call(arrays, fill=2.5).items():
            np.testing.assert_array_equal(array, 2.5)
            array[0] = 1
            assert array.sum() == {"large": LARGE, "small": 3}[name] * 2.5 - 1.5
    assert not runs(forks)


def test_errors_are_those_of_the_call_and_the_next_call_is_answered() -> None:
    with side_process() as side:
        with fails(Code.BUNDLE_DAMAGED, "it is damaged"):
            side.call(refuse, Code.BUNDLE_DAMAGED)
        with pytest.raises(RuntimeError, match="StrangeError: 1 and 2") as raised:
            side.call(be_strange)
        # Where it was raised, which pickle leaves out.
        (where,) = raised.value.__notes__
        assert where.startswith("StrangeError in ")
        assert where.endswith("(be_strange)")
        with fails(Code.WORKER_ENDED, "-9"):
            side.call(end, signal.SIGKILL)
        assert side.call(process) != os.getpid()
        # Pickle does not know it.
        assert side.call(local)() == os.getpid()


def test_without_the_other_process_calls_run_here(caplog: pytest.LogCaptureFixture) -> None:
    with side_process() as side, caplog.at_level(logging.WARNING):
        os.kill(side.call(parent), signal.SIGKILL)
        assert [side.call(process) for _ in range(2)] == [os.getpid()] * 2
        with fails(Code.BUNDLE_DAMAGED, "it is damaged"):
            side.call(refuse, Code.BUNDLE_DAMAGED)
    assert caplog.text.count("has ended") == 1


def test_after_an_error_within_a_result_calls_run_here(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, exactly = os.getpid(), module._exactly

    def refuse_large(
        connection: socket.socket, size: int, parent: socket.socket | None
    ) -> memoryview:
        if size > LARGE and os.getpid() == server:
            raise MemoryError
        return exactly(connection, size, parent)

    with side_process() as side, caplog.at_level(logging.WARNING):
        monkeypatch.setattr(module, "_exactly", refuse_large)
        assert side.call(arrays, fill=2.5)["large"].sum() == LARGE * 2.5
        assert [side.call(process) for _ in range(2)] == [os.getpid()] * 2
    assert caplog.text.count("has ended") == 1


def test_a_result_for_which_memory_is_lacking_is_an_error_of_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, exactly = os.getpid(), module._exactly

    def refuse_large(
        connection: socket.socket, size: int, parent: socket.socket | None
    ) -> memoryview:
        if size > LARGE and os.getpid() != server:
            raise MemoryError
        return exactly(connection, size, parent)

    monkeypatch.setattr(module, "_exactly", refuse_large)
    with side_process() as side:
        with pytest.raises(MemoryError):
            side.call(arrays, fill=2.5)
        assert side.call(process) != os.getpid()


@pytest.mark.parametrize("seconds", [0, 600])
def test_a_call_whose_process_is_killed_runs_here_and_none_stays_behind(
    tmp_path: Path, seconds: float
) -> None:
    begun, results = tmp_path / "begun", list[float]()

    def call(side: SideProcess) -> None:
        results.append(side.call(end_the_parent, os.getpid(), str(begun), seconds).sum())

    with side_process() as side:
        thread = threading.Thread(target=call, args=(side,))
        thread.start()
        thread.join(30)
        assert results == [LARGE * 25]
    wait_until(lambda: not runs(int(begun.read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such class")
def test_a_call_that_gets_no_time_begins_again_with_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SPARE", 0.5)
    begun = tmp_path / "begun"
    with side_process() as side:
        assert side.call(niceness_of_the_urgent, str(begun)) > 0
    assert len(begun.read_text()) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such class")
def test_a_call_runs_once_where_the_system_has_no_time_to_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "_SPARE", 0.5)
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    begun = tmp_path / "begun"
    with side_process() as side:
        assert side.call(niceness_after, str(begun), 0.7) > 0
    assert begun.read_text() == "x"


def test_the_end_ends_a_call_that_runs(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", list[BaseException]()

    def call(side: SideProcess) -> None:
        try:
            side.call(wait_long, str(begun))
        except (EOFError, OSError) as error:
            ended.append(error)

    with side_process() as side:
        thread = threading.Thread(target=call, args=(side,))
        thread.start()
        wait_until(lambda: begun.exists() and bool(begun.read_text()))
    thread.join(30)
    assert len(ended) == 1
    assert not runs(int(begun.read_text()))


def test_the_end_ends_a_result_that_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, server = tmp_path / "begun", os.getpid()
    send = module._send

    def begin(connection: socket.socket, frames: Sequence[bytes | memoryview]) -> None:
        if os.getpid() == server:
            send(connection, frames)
            return
        connection.sendall(module._NUMBER.pack(len(frames)))
        wait_long(str(begun))

    monkeypatch.setattr(module, "_send", begin)
    monkeypatch.setattr(module, "_PATIENCE", 30)

    def call(side: SideProcess) -> None:
        with suppress(EOFError, OSError):
            side.call(process)

    with side_process() as side:
        thread = threading.Thread(target=call, args=(side,))
        thread.start()
        wait_until(lambda: begun.exists() and bool(begun.read_text()))
        closed = time.monotonic()
    assert time.monotonic() - closed < 30
    thread.join()
    assert not runs(int(begun.read_text()))


def be_killed(connection: Connection) -> None:
    with side_process() as side:
        connection.send(side.call(parent))
        os.kill(os.getpid(), signal.SIGKILL)


def test_no_process_stays_behind_a_killed_one() -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    killed = context.Process(target=be_killed, args=(theirs,))
    killed.start()
    forks = ours.recv()
    killed.join()
    wait_until(lambda: not runs(forks))
