"""Progress: a bar on a terminal, lines otherwise, nothing on standard output."""

import io
import re
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from beam_fraud.cli import main
from beam_fraud.cli.terminal import command, log, progress
from beam_fraud.cli.terminal.progress import activities_shown, progress_of, status_line
from beam_fraud.monitoring.activity import doing


class Rows:
    """A counter that grows by ten at every read and signals the third read."""

    def __init__(self) -> None:
        self.rows = 0
        self.seen = threading.Event()

    def read(self) -> int:
        self.rows += 10
        if self.rows >= 30:
            self.seen.set()
        return self.rows


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_report_done_and_remaining_rows(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    rows = Rows()
    with activities_shown(line_every=0.001), progress_of(1000, rows.read, "scoring"):
        assert rows.seen.wait(10)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "info beam_fraud.cli.terminal.progress: scoring: 10 rows done, 990 left, " in printed.err


def test_a_short_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    with activities_shown(), progress_of(1000, Rows().read, "scoring"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_LOOK_EVERY", 0.01)
    rows = Rows()
    with activities_shown(), progress_of(1000, rows.read, "scoring"):
        print("a result")
        assert rows.seen.wait(10)
    assert capsys.readouterr().out == "a result\n"
    assert "scoring" in terminal.getvalue()
    assert "rows done" in terminal.getvalue()
    assert "a result" not in terminal.getvalue()


def test_progress_ends_with_the_body_that_fails() -> None:
    # Threads of other tests may end meanwhile.
    before = set(threading.enumerate())
    reading = progress_of(None, Rows().read, "scoring")
    with pytest.raises(ZeroDivisionError), activities_shown(), reading:
        raise ZeroDivisionError
    assert set(threading.enumerate()) <= before


def test_more_rows_than_expected_leave_none() -> None:
    assert status_line(12, 10, 2.0) == "12 rows done, 0 left, 6 rows/s, 0:00:00 to go"
    assert status_line(0, 10, 0.0) == "0 rows done, 10 left, 0 rows/s"


def test_a_long_step_is_reported_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    rows = Rows()
    with (
        activities_shown(line_every=0.001),
        doing("trial 1 of 3"),
        doing("fitting forest", lambda: f"{rows.read()} trees"),
    ):
        assert rows.seen.wait(10)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "trial 1 of 3, fitting forest: 10 trees, 0:00:00 so far" in printed.err


def test_a_terminal_shows_the_step_and_clears_it_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.Line, "after", 0.0)
    rows = Rows()
    with activities_shown():
        with doing("fitting forest", lambda: f"{rows.read()} trees"):
            assert rows.seen.wait(10)
        drawn = terminal.getvalue()
        print("a result")
    assert capsys.readouterr().out == "a result\n"
    assert "fitting forest: 10 trees" in drawn
    assert sys.stderr is terminal
    assert terminal.getvalue() == drawn, "drawn on after it was over"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with transactions and a model."""
    place = tmp_path_factory.mktemp("place")
    simulated = ["--days", "30", "--accounts", "200", "--merchants", "100", "--fraud-rate", "0.03"]
    assert main(["simulate", "--out", str(place / "tx.parquet"), *simulated]) == 0
    call = ["train", str(place / "tx.parquet"), "--schema", "handbook", "--model", "logistic"]
    assert main([*call, "--out", str(place / "model")]) == 0
    return place


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("simulate --days 60 --out {new}.csv", r"simulating 60 days of 1,000 accounts: "),
        (
            "train {tx} --schema handbook --model forest --set trees=20 --out {new}",
            r"fitting forest on [\d,]+ rows, fold 1 of 1: ",
        ),
        (
            "train {tx} --schema handbook --model logistic --tune 2 --out {new}",
            r"trial 1 of 2, fitting logistic on ",
        ),
        ("evaluate {tx} --model {model}", r"resampling: [\d,]+ of 1,000, "),
        ("explore {tx} --schema handbook --out {new}.html", r"drawing the page: "),
        ("score {tx} --model {model} --out {new}", r"scoring: [\d,]+ rows done, "),
        ("models export {model} --onnx {new}.onnx", r"converting model@\w+ and comparing"),
    ],
    ids=lambda value: value.partition(" {")[0] if "{" in value else "",
)
def test_a_command_reports_its_steps(
    call: str,
    said: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "activities_shown", partial(activities_shown, line_every=0.001))
    files = {"tx": place / "tx.parquet", "model": place / "model", "new": tmp_path / "new"}
    assert main(call.format(**files).split()) == 0
    told = capsys.readouterr().err
    assert re.search(said, told), told
    assert re.search(r": (.*, )?0:00:\d\d (so far|to go)", told), told


@pytest.mark.slow
def test_a_runner_that_tells_no_rows_is_said_to_work(
    prism: tuple[str, ...],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "activities_shown", partial(activities_shown, line_every=0.05))
    call = ["score", str(place / "tx.parquet"), "--model", str(place / "model")]
    assert main([*call, "--limit", "100", "--out", str(tmp_path / "out"), *prism]) == 0
    assert re.search(r"scoring on PrismRunner: 0:00:\d\d so far", capsys.readouterr().err)
