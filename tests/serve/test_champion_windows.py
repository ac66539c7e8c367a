"""A server takes up a champion with other windows once they are full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beam_fraud.cli.commands import stream
from beam_fraud.cli.options import StreamOptions
from beam_fraud.models.registry.registry import open_registry, rollback
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place
from tests.models.registering import ANN
from tests.serving import Client, Serve
from tests.stream_process import wait_until
from tests.windowed import (
    LONG,
    SHORT,
    kept,
    put_windowed,
    record_of,
    windowed_bundle,
    write_rows,
)

#: Seconds between two looks here.
LOOK = 0.1
BEFORE = 72


class Sender:
    """Sends a transaction of each hour to a server, one by one or in an array."""

    def __init__(self, server: Serve, first: int = 0) -> None:
        self.server, self.number = server, first

    def send(self, rows: int = 1) -> str:
        """Send transactions; return the model that answered the last one."""
        records = [record_of(n) for n in range(self.number, self.number + rows)]
        body = json.dumps(records[0] if rows == 1 else records).encode()
        with Client(self.server.port) as client:
            status, answer, _ = client.post(body)
        assert status == 200, answer
        self.number += rows
        answers = [json.loads(answer)] if rows == 1 else json.loads(answer)
        models = {one["model_id"] for one in answers}
        assert len(models) == 1, "a group is answered by two models"
        return str(models.pop())

    def send_until(self, model: str, most: int = 80) -> None:
        for n in range(most):
            if self.send(1 + n % 2) == model:
                return
        raise AssertionError(f"{model} never answers: {self.server.said()}")

    def about(self) -> dict[str, Any]:
        with Client(self.server.port) as client:
            return json.loads(client.get("/model")[1])  # type: ignore[no-any-return]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A registry whose champion has short windows."""
    place = Place.at(tmp_path / "registry")
    put_windowed(place, tmp_path, 2, SHORT)
    return place


def alone(
    directory: Path, velocity: tuple[Velocity, ...], rows: range, history: tuple[str, ...] = ()
) -> dict[int, dict[str, Any]]:
    """Return the features of a stream that began with a model on all rows."""
    (directory / "inbox").mkdir(parents=True)
    write_rows(directory / "inbox" / "rows.csv", rows)
    options = StreamOptions(
        watch=str(directory / "inbox"),
        model=windowed_bundle(directory / "alone", 5, velocity),
        out=str(directory / "out"),
        history=history,
        until_idle=0.5,
        keep_features=True,
    )
    stream.run(options)
    return {n: features for n, (_, features) in kept(Path(options.out)).items()}


def test_windows_filled_from_history_are_those_of_a_stream_that_began_with_the_model(
    place: Place, tmp_path: Path
) -> None:
    history, first = tmp_path / "history.csv", open_registry(place).champion_id()
    write_rows(history, range(BEFORE))
    options = ("--history", str(history), "--keep-features")
    state = tmp_path / "state"
    server = Serve(Path(str(place)), state, *options, by="--registry", look=LOOK)
    with server:
        sender = Sender(server, BEFORE)
        sender.send_until(first)
        write_rows(history, range(sender.number))
        later = put_windowed(place, tmp_path, 8, LONG)
        wait_until(lambda: sender.about().get("awaited") == later)
        sender.send_until(later)
        sender.send(5)
        rollback(open_registry(place), ANN)
        wait_until(lambda: sender.send() == first)
        assert "awaited" not in sender.about()
        server.stop()
    rows = kept(state)
    assert sorted(rows) == list(range(BEFORE, sender.number))
    assert {by for by, _ in rows.values()} == {first, later}
    write_rows(history, range(BEFORE))
    every = range(BEFORE, sender.number)
    expected = {
        model: alone(tmp_path / f"of {model}", windows, every, (str(history),))
        for model, windows in ((first, SHORT), (later, LONG))
    }
    for n, (by, features) in rows.items():
        assert features == expected[by][n]
    without = alone(tmp_path / "without", LONG, every)
    decided = [n for n, (by, _) in rows.items() if by == later]
    assert rows[decided[0]][1] != without[decided[0]]


@pytest.mark.soak
def test_a_server_that_is_killed_in_the_warm_up_goes_on_where_it_stopped(
    place: Place, tmp_path: Path
) -> None:
    first, state = open_registry(place).champion_id(), tmp_path / "state"
    alerts = tmp_path / "alerts.jsonl"
    options = ("--keep-features", "--alert", f"file:{alerts}")
    server = Serve(Path(str(place)), state, *options, by="--registry", look=LOOK)
    with server:
        sender = Sender(server)
        sender.send_until(first)
        later = put_windowed(place, tmp_path, 8, LONG)
        wait_until(lambda: sender.about().get("awaited") == later)
        begun = sender.number
        for _ in range(10):
            assert sender.send(2) == first
        wait_until(lambda: "waits until its windows are full" in server.said())
        server.kill()
    with server:
        assert sender.send() == first
        wait_until(lambda: sender.about().get("awaited") == later)
        sender.send_until(later)
        sender.send(7)
        server.kill()
    # What was in force goes on after another kill, and so does a rollback.
    with server:
        wait_until(lambda: sender.send() == later)
        rollback(open_registry(place), ANN)
        wait_until(lambda: sender.send() == first)
        server.stop()
    rows = kept(state)
    assert sorted(rows) == list(range(sender.number))
    decided = [n for n, (by, _) in rows.items() if by == later]
    # Two days after the first rows that the set has, not after the kill.
    assert begun + 48 <= decided[0] <= begun + 48 + 4
    every = range(sender.number)
    expected = {
        model: alone(tmp_path / f"of {model}", windows, every)
        for model, windows in ((first, SHORT), (later, LONG))
    }
    for n, (by, features) in rows.items():
        assert features == expected[by][n]
    assert f"{later} waits" in alerts.read_text()
