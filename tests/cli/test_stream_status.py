"""The content and width of a stream's status line."""

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
from beam_fraud.cli.terminal.stream_status import Trend, live_line, stream_status
from beam_fraud.errors import Code, FraudError
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.snapshot import Position, Snapshot
from tests.flagged import alerts_of, flagged_batch, message_of

NONE = LatencyHistogram()


def behind(**lags: int) -> Snapshot:
    return Snapshot(
        positions={f"tx:{name[1:]}": Position(100, 100 + lag, 0.0) for name, lag in lags.items()}
    )


def latency(*rows: tuple[float, int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for seconds, count in rows:
        histogram.add(seconds, count)
    return histogram


def test_a_stream_that_has_not_begun_has_a_short_line() -> None:
    assert stream_status(Snapshot(), 0.0, NONE) == "0 tx/s, 0 flagged"


def test_few_partitions_are_listed_and_of_many_the_worst() -> None:
    few = behind(p2=7, p10=0, p1=30)
    assert stream_status(few, 1.0, NONE) == "1 tx/s, lag 37 (1: 30, 2: 7, 10: 0), 0 flagged"
    many = behind(p0=1, p1=2, p2=900, p3=4, p4=5)
    assert stream_status(many, 1.0, NONE) == "1 tx/s, lag 912 (2: 900), 0 flagged"


def test_one_partition_or_no_lag_shows_the_total_alone() -> None:
    assert "lag 7, " in stream_status(behind(p0=7), 1.0, NONE)
    assert "lag 0, " in stream_status(behind(p0=0, p1=0), 1.0, NONE)


def test_partitions_of_several_topics_have_the_topic_with_them() -> None:
    two = Snapshot(positions={"tx:0": Position(0, 5, 0.0), "labels:0": Position(0, 1, 0.0)})
    assert "lag 6 (labels:0: 1, tx:0: 5)" in stream_status(two, 1.0, NONE)


def test_every_count_is_on_the_line() -> None:
    counters = {"rows_scored": 990, "rows_flagged": 12, "rows_dead": 3, "rows_duplicate": 7}
    alerts = {"console": Counts(pending=0, sent=12), "file:a": Counts(pending=5, sent=7)}
    assert stream_status(Snapshot(counters), 99.6, latency((0.011, 98), (3.0, 2)), alerts) == (
        "100 tx/s, p50 12 ms, p99 2.7 s, 12 flagged, 3 dead, 7 duplicate, alerts 19 sent 5 waiting"
    )
    assert stream_status(Snapshot(), 0, NONE, {"console": Counts(sent=2)}).endswith("alerts 2 sent")


@pytest.mark.parametrize("partitions", [0, 1, 2, 4, 64])
@pytest.mark.parametrize("rows", [0, 9, 999, 99_999, 99_999_999, 9_999_999_999])
def test_a_hundred_columns_are_enough(partitions: int, rows: int) -> None:
    counters = dict.fromkeys(["rows_scored", "rows_flagged", "rows_dead", "rows_duplicate"], rows)
    positions = {f"a_topic:{number}": Position(0, rows, 0.0) for number in range(partitions)}
    alerts = {"console": Counts(pending=rows, sent=rows)}
    line = stream_status(
        Snapshot(counters, positions), rows, latency((0.011, 1), (1e6, 1)), alerts, width=100
    )
    assert len(line) <= 100
    assert " tx/s, " in line
    assert ", p99 >12 min, " in line
    assert (" dead, " in line) is (rows > 0)
    assert "waiting" in line or rows == 0


def snapshot(scored: int, latency: LatencyHistogram | None = None) -> Snapshot:
    return Snapshot({"rows_scored": scored}, latency=latency or LatencyHistogram())


def test_one_sample_gives_no_rate() -> None:
    trend = Trend()
    trend.add(100.0, snapshot(1_000))
    assert trend.rate == 0.0
    assert trend.latency.rows == 0


def test_the_rate_covers_all_samples_before_five_seconds() -> None:
    trend = Trend()
    trend.add(0.0, snapshot(0))
    trend.add(2.0, snapshot(100))
    assert trend.rate == 50.0


def test_a_stopped_stream_has_no_rate_and_no_latency() -> None:
    latency = LatencyHistogram()
    latency.add(0.5, 1_000)
    trend = Trend()
    trend.add(0.0, snapshot(0))
    for quarter in range(1, 45):
        trend.add(quarter / 4, snapshot(1_000, latency))
        if quarter == 19:
            assert trend.rate == 1_000 / 4.75
        if quarter == 21:
            assert trend.rate == 0.0
            assert trend.latency.rows == 1_000
    assert trend.latency.rows == 0


def test_a_late_sample_compares_with_the_last_one() -> None:
    trend = Trend()
    trend.add(0.0, snapshot(0))
    trend.add(60.0, snapshot(600))
    assert trend.rate == 10.0


def test_a_dead_worker_makes_no_negative_rate() -> None:
    trend = Trend()
    trend.add(0.0, snapshot(1_000))
    trend.add(1.0, snapshot(10))
    assert trend.rate == 0.0


def test_memory_does_not_grow() -> None:
    trend = Trend()
    for quarter in range(10_000):
        trend.add(quarter / 4, snapshot(quarter))
    assert len(trend._seen) <= 42


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
from beam_fraud.cli.terminal.stream_status import live_line
from tests.cli.test_stream_status import Stream

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
