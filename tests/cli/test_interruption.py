"""SIGINT and SIGTERM of a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import demo
from beam_fraud.cli.terminal import interruption
from beam_fraud.cli.terminal.interruption import descendants, stopped, stopped_by_signals
from beam_fraud.simulate.files import whole_file, write_transactions
from beam_fraud.simulate.simulation import Simulation, simulate
from tests.stream_process import wait_until


@pytest.fixture(autouse=True)
def _nothing_has_been_stopped() -> Iterator[None]:
    """Reset the state of signals after each test: the test process continues."""
    yield
    with stopped_by_signals():
        pass


@pytest.mark.parametrize(
    ("number", "line", "code"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
)
def test_a_signal_ends_a_command_with_one_line_on_any_runner(
    number: signal.Signals,
    line: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(options: object) -> dict[str, object]:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt as error:
            raise RuntimeError("KeyboardInterrupt [while running 'Read']") from error
        return {}

    monkeypatch.setattr(demo, "run", run)
    before = signal.getsignal(number)
    assert main(["demo"]) == code
    assert capsys.readouterr().err == f"beam-fraud: {line}\n"
    assert signal.getsignal(number) is before


def test_a_process_of_the_caller_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: object) -> dict[str, object]:
        started.append(subprocess.Popen(["sleep", "60"]))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return {}

    started = [subprocess.Popen(["sleep", "60"])]
    monkeypatch.setattr(demo, "run", run)
    try:
        assert main(["demo"]) == 143
        assert started[1].wait(10) == -signal.SIGKILL
        assert started[0].poll() is None
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            os.kill(os.getpid(), signal.SIGINT)
            assert stopped() is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_ends_the_processes_of_the_command() -> None:
    shells: list[subprocess.Popen[bytes]] = []

    def command() -> None:
        before = set(descendants(os.getpid()))
        with stopped_by_signals():
            shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE)
            shells.append(shell)
            assert shell.stdout
            shell.stdout.readline()
            started = set(descendants(os.getpid())) - before
            assert shell.pid in started
            assert len(started) >= 2
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        command()
    with shells[0] as shell:
        assert shell.stdout
        # It would end only when the sleeping one lets go of its output.
        assert shell.stdout.read() == b""
        assert shell.wait(5) == -signal.SIGKILL


class Late:
    """Interrupts during garbage collection, which drops the exception."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_interruption_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_AGAIN", 0.2)
    started = list[subprocess.Popen[bytes]]()
    tidied = []

    def command() -> None:
        with stopped_by_signals():
            try:
                Late()
                # As a thread does that was just about to when the signal came.
                started.append(subprocess.Popen(["sleep", "60"]))
                time.sleep(30)
            finally:
                # Whoever cleans up is left in peace, also by what goes wrong meanwhile.
                try:
                    raise OSError
                except OSError:
                    time.sleep(0.5)
                tidied.append(True)

    with pytest.raises(KeyboardInterrupt):
        command()
    assert tidied
    assert started[0].wait(10) == -signal.SIGKILL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_interrupted_run_with_workers_prints_one_line(tmp_path: Path) -> None:
    path = tmp_path / "month.parquet"
    table = simulate(Simulation(days=20, accounts=5_000, merchants=300))
    with whole_file(path) as file:
        write_transactions(table, path, file)
    command = [sys.executable, "-m", "beam_fraud", "features", str(path), "--schema", "handbook"]
    command += ["--out", str(tmp_path / "out"), "--workers", "2", "--block-rows", "50"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(descendants(process.pid)) >= 2)
        # The workers are at work.
        time.sleep(1.0)
        workers = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    warning, *message = printed.splitlines()
    assert "velocity features look back 37 days" in warning
    assert (process.returncode, message) == (130, ["beam-fraud: interrupted"])
    assert list((tmp_path / "out").iterdir()) == []
    wait_until(lambda: not any(map(runs, workers)))


def runs(pid: int) -> bool:
    """Return whether a process runs; always false where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
