"""The status line: redrawn on a terminal, logged otherwise, nothing on standard output."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from beam_fraud.alerts.channels.console import ConsoleChannel
from beam_fraud.alerts.outbox import Counts
from beam_fraud.cli.terminal import log
from beam_fraud.cli.terminal.progress import AboveLine
from beam_fraud.cli.terminal.stream_line import live_line
from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.snapshot import Snapshot
from tests.flagged import alerts_of, flagged_batch, message_of


class Stream:
    """Scores ten more rows at every read and signals the third read."""

    def __init__(self) -> None:
        self.rows = 0
        self.seen = threading.Event()

    def read(self) -> Snapshot:
        self.rows += 10
        if self.rows >= 30:
            self.seen.set()
        return Snapshot({"rows_scored": self.rows, "rows_flagged": self.rows})


def test_without_a_terminal_there_are_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    stream = Stream()
    with live_line(stream.read, lambda: {"console": Counts(1, 2)}, line_every=0.001):
        assert stream.seen.wait(10)
    printed = capsys.readouterr()
    assert printed.out == ""
    first = printed.err.splitlines()[0].partition("info ")[2]
    assert first == (
        "beam_fraud.cli.terminal.progress: streaming: 0 tx/s, 10 flagged, alerts 2 sent 1 waiting"
    )


def test_a_stream_that_does_not_read_yet_reports_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure()
    stream = Stream()
    with live_line(stream.read, phase=lambda: "Flink restores file:/x", line_every=0.001):
        assert stream.seen.wait(10)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.endswith("streaming: Flink restores file:/x")


def test_a_short_stream_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    with live_line(Stream().read):
        pass
    assert capsys.readouterr() == ("", "")


def test_uncountable_alerts_do_not_end_the_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unreachable() -> dict[str, Counts]:
        raise FraudError("outbox.db: locked", Code.DATABASE_LOCKED)

    log.configure()
    stream = Stream()
    with live_line(stream.read, unreachable, line_every=0.001):
        assert stream.seen.wait(10)
    assert "10 flagged\n" in capsys.readouterr().err


def test_the_line_ends_with_the_body_that_fails() -> None:
    # Threads of other tests may end meanwhile.
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), live_line(Stream().read):
        raise ZeroDivisionError
    assert set(threading.enumerate()) <= before


def test_without_redrawing_text_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    above = AboveLine()
    assert above.encoding.lower() == "utf-8"
    ConsoleChannel(above).send(message_of(alerts_of(flagged_batch(["t0", "t1"]), ["console"])))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.split()[0] for line in printed.err.splitlines()] == ["ALERT", "ALERT"]


SCRIPT = """
import logging
from beam_fraud.cli.terminal import log
from beam_fraud.cli.terminal.progress import AboveLine
from beam_fraud.cli.terminal.stream_line import live_line
from tests.cli.test_stream_line import Stream

log.configure()
stream = Stream()
alerts = AboveLine()
with live_line(stream.read):
    assert stream.seen.wait(30)
    alerts.write("an alert\\n" + "a long one " * 20 + "\\n")
    alerts.flush()
    logging.getLogger("beam_fraud.x").warning("a message")
    print("a result")
"""


def test_a_terminal_gets_one_line_that_changes(tmp_path: Path) -> None:
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 100))
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=inside,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root, "TERM": "xterm"},
        cwd=tmp_path,
    )
    os.close(inside)
    drawn = _all_of(terminal)
    assert process.communicate(timeout=30)[0] == b"a result\n"
    assert process.returncode == 0
    # A message has the line drawn again below it.
    rows = re.findall(r"tx/s, (\d+) flagged", drawn)
    assert list(dict.fromkeys(rows))[:3] == ["10", "20", "30"]
    # The line is cleared before the next one, and in the end; a message has a line of its own.
    assert drawn.count("\x1b[2K") >= len(rows)
    assert re.search(r"\x1b\[2K\d\d:\d\d:\d\d warning beam_fraud\.x: a message *\r\n", drawn)
    assert re.search(r"\x1b\[2Kan alert *\r\n", drawn)
    assert "a long one " * 20 in drawn, "what is longer than the terminal stays one line"
    assert drawn.rstrip().endswith("\x1b[2K")
    assert "a result" not in drawn


def _all_of(terminal: int) -> str:
    """Return all output to a terminal until its last writer closes it."""
    message = b""
    try:
        while more := os.read(terminal, 65_536):
            message += more
    except OSError:
        # How Linux says that the other side was closed.
        pass
    os.close(terminal)
    return message.decode()
