"""A stream takes up a champion with other windows once they are full."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.cli.commands import stream
from beam_fraud.cli.options import StreamOptions
from beam_fraud.errors import Code, UsageError
from beam_fraud.models.registry import champion_watch
from beam_fraud.models.registry.registry import open_registry, rollback
from beam_fraud.monitoring.recorder import read_board
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.models.registering import ANN
from tests.stream_process import UNTIL_IDLE, Stream, wait_until
from tests.windowed import (
    LONG,
    PART,
    SHORT,
    kept,
    put_windowed,
    windowed_bundle,
    write_rows,
)

#: Rows of a file, and rows that precede the stream, in hours.
FILE, BEFORE = 6, 72


class Running:
    """A stream in a thread, over a directory to which files are added."""

    def __init__(self, inbox: Path, options: StreamOptions, first: int = 0) -> None:
        self.inbox, self.options, self.number = inbox, options, first
        self.result: dict[str, Any] = {}
        self.failure: BaseException | None = None

    @property
    def out(self) -> Path:
        return Path(self.options.out)

    def deliver(self) -> None:
        """Add a file, and wait until its rows are visible."""
        first, self.number = self.number, self.number + FILE
        write_rows(self.inbox / f"{first:06}.csv", range(first, self.number))
        wait_until(lambda: self.failure is not None or self.number - 1 in kept(self.out))

    def deliver_until(self, model: str, most: int = 60) -> None:
        """Add files until a model decides."""
        for _ in range(most):
            self.deliver()
            if self.failure is not None or kept(self.out)[self.number - 1][0] == model:
                return
        raise AssertionError(f"{model} never decides")

    def decided_by(self, model: str) -> list[int]:
        return sorted(n for n, (by, _) in kept(self.out).items() if by == model)

    @contextmanager
    def running(self) -> Iterator[None]:
        def run() -> None:
            try:
                self.result = stream.run(self.options)
            except BaseException as error:
                self.failure = error

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A registry whose champion has short windows."""
    place = Place.at(tmp_path / "registry")
    put_windowed(place, tmp_path, 2, SHORT)
    return place


@pytest.fixture
def start(
    place: Place, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Running]:
    monkeypatch.setattr(champion_watch, "LOOK_SECONDS", 0.1)

    def start(first: int = 0, **options: Any) -> Running:
        chosen = StreamOptions(
            watch=str(inbox),
            registry=str(place),
            out=str(tmp_path / "out"),
            until_idle=2.0,
            roll_rows=1,
            keep_features=True,
        )
        return Running(inbox, replace(chosen, **options), first)

    return start


def alone(
    running: Running, directory: Path, velocity: tuple[Velocity, ...], history: tuple[str, ...] = ()
) -> dict[int, dict[str, Any]]:
    """Return the features of a stream that began with a model on all rows."""
    options = StreamOptions(
        watch=str(running.inbox),
        model=windowed_bundle(directory / "alone", 5, velocity),
        out=str(directory / "out of alone"),
        history=history,
        until_idle=0.5,
        keep_features=True,
    )
    stream.run(options)
    return {n: features for n, (_, features) in kept(Path(options.out)).items()}


@pytest.fixture
def history(tmp_path: Path) -> str:
    """Transactions of three days before the stream."""
    file = tmp_path / "history.csv"
    write_rows(file, range(BEFORE))
    return str(file)


def test_windows_filled_from_history_are_those_of_a_stream_that_began_with_the_model(
    place: Place, start: Callable[..., Running], tmp_path: Path, history: str
) -> None:
    running = start(BEFORE, history=(history,))
    first = open_registry(place).champion_id()
    with running.running():
        running.deliver_until(first)
        # The history has what came meanwhile, as an export of every day does.
        write_rows(tmp_path / "history.csv", range(running.number))
        later = put_windowed(place, tmp_path, 8, LONG)
        running.deliver_until(later)
        running.deliver()
        swapped = running.decided_by(later)
        rollback(open_registry(place), ANN)
        running.deliver_until(first)
    rows = kept(running.out)
    assert sorted(rows) == list(range(BEFORE, running.number))
    assert {by for by, _ in rows.values()} == {first, later}
    assert len(swapped) >= 2 * FILE
    write_rows(tmp_path / "history.csv", range(BEFORE))
    of_later = alone(running, tmp_path, LONG, (history,))
    of_first = alone(running, tmp_path / "first", SHORT, (history,))
    for n, (by, features) in rows.items():
        assert features == (of_later if by == later else of_first)[n]
    assert running.result["rows_scored"] == len(rows)
    # The windows reach behind the swap, however long the stream took to come to it: windows that
    # begin there would hold these rows alone.
    assert min(rows[n][1]["account_count_2d"] for n in swapped[:FILE]) > FILE


@pytest.mark.soak
def test_without_history_the_champion_waits_until_its_windows_are_full(
    place: Place, start: Callable[..., Running], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = tmp_path / "alerts.jsonl"
    running = start(alerts=(f"file:{alerts}",))
    first = open_registry(place).champion_id()
    with caplog.at_level(logging.INFO), running.running():
        running.deliver_until(first)
        later, begun = put_windowed(place, tmp_path, 8, LONG), running.number
        live = running.out / "stream" / "live"
        wait_until(lambda: read_board(live).awaited == later)
        running.deliver()
        wait_until(lambda: f"{later} waits until its windows are full" in caplog.text)
    stopped = running.number
    # A stream that starts again in the warm-up goes on where it stopped.
    with caplog.at_level(logging.INFO), running.running():
        running.deliver()
        running.deliver_until(later)
        rollback(open_registry(place), ANN)
        running.deliver_until(first)
    assert all(by == first for n, (by, _) in kept(running.out).items() if n < stopped + FILE)
    swapped = running.decided_by(later)
    # Two days after the newest row of the file that came after the promotion.
    assert swapped[0] == begun + FILE - 1 + 48 + 1
    assert swapped == list(range(swapped[0], swapped[0] + len(swapped)))
    rows = kept(running.out)
    assert sorted(rows) == list(range(running.number))
    of_later, of_first = alone(running, tmp_path, LONG), alone(running, tmp_path / "first", SHORT)
    for n, (by, features) in rows.items():
        assert features == (of_later if by == later else of_first)[n]
    assert f"{later} waits" in alerts.read_text()
    assert caplog.text.count("waits until its windows are full") == 2
    assert read_board(live).awaited == ""


def test_a_warm_up_shortens_the_wait_and_a_part_of_the_windows_needs_none(
    place: Place, start: Callable[..., Running], tmp_path: Path
) -> None:
    running = start(warm_up="6h")
    first = open_registry(place).champion_id()
    with running.running():
        running.deliver_until(first)
        later = put_windowed(place, tmp_path, 8, LONG)
        running.deliver_until(later)
        part = put_windowed(place, tmp_path, 4, PART)
        running.deliver_until(part)
    rows = kept(running.out)
    assert sorted(rows) == list(range(running.number))
    assert running.decided_by(later)
    of_part, of_later = alone(running, tmp_path, PART), alone(running, tmp_path / "x", LONG)
    assert all(rows[n][1] == of_part[n] for n in running.decided_by(part))
    assert rows[running.decided_by(later)[0]][1] != of_later[running.decided_by(later)[0]]


def awaited(out: Path) -> str:
    """Return the model that waits for its windows in a stream."""
    return read_board(out / "stream" / "live").awaited


@pytest.mark.soak
def test_a_stream_that_is_killed_in_the_warm_up_goes_on_where_it_stopped(
    place: Place, start: Callable[..., Running], inbox: Path, tmp_path: Path
) -> None:
    first, out = open_registry(place).champion_id(), tmp_path / "out"
    command = ["stream", "--watch", str(inbox)]
    command += ["--registry", str(place), "--out", str(out), "--roll-rows", "1"]
    process = Stream([*command, "--keep-features"], out)
    process.start()
    try:
        write_rows(inbox / "000.csv", range(6))
        process.wait_until(lambda: 5 in kept(out))
        later = put_windowed(place, tmp_path, 8, LONG)
        process.wait_until(lambda: awaited(out) == later)
        write_rows(inbox / "001.csv", range(6, 30))
        process.wait_until(lambda: 29 in kept(out))
        process.wait_until(lambda: "waits until its windows are full" in process.said())
        process.kill()
        assert "are filled with every row" in process.said()
        write_rows(inbox / "002.csv", range(30, 60))
        process.start()
        process.wait_until(lambda: 59 in kept(out))
        process.wait_until(lambda: awaited(out) == later)
        for number in range(60, 120, 6):
            write_rows(inbox / f"{number:03}.csv", range(number, number + 6))
            last = number + 5
            process.wait_until(lambda last=last: last in kept(out))
        process.kill()
        # What was in force goes on, whatever the stream was made for.
        process.start(*UNTIL_IDLE)
        write_rows(inbox / "200.csv", range(120, 126))
        process.wait_for_end()
    finally:
        process.kill()
    rows = kept(out)
    assert sorted(rows) == list(range(126))
    decided = [n for n, (by, _) in rows.items() if by == later]
    # The set began with the rows from 6 to 29, not after the kill.
    assert min(decided) == 29 + 48 + 1
    assert decided == list(range(78, 126))
    assert {by for by, _ in rows.values()} == {first, later}
    of_later = alone(start(), tmp_path, LONG)
    assert all(rows[n][1] == of_later[n] for n in decided)


def test_a_warm_up_needs_a_registry(tmp_path: Path, inbox: Path) -> None:
    options = StreamOptions(
        watch=str(inbox),
        model=windowed_bundle(tmp_path / "m", 2, SHORT),
        out=str(tmp_path / "out"),
        warm_up="1d",
    )
    with fails(Code.OPTION_CONFLICT, "--warm-up", UsageError):
        stream.run(options)
