"""On other runners, too, a champion with other windows decides once they are full."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_fraud.cli.commands import stream
from beam_fraud.cli.options import StreamOptions
from beam_fraud.models.registry.registry import open_registry, rollback
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.urls import Place
from tests.integration.test_every_runner import options_of
from tests.models.registering import ANN
from tests.stream_process import Stream
from tests.windowed import SHORT, kept, put_windowed, windowed_bundle, write_rows

#: Windows of the keys that the stream has, longer than its own.
LONGER = (Velocity(("account_id",), ("1d", "2d"), ("count", "std", "max", "seconds_since_last")),)
FILE = 12


@pytest.mark.soak
@pytest.mark.parametrize("name", ["prism", "embedded"])
def test_a_champion_waits_for_its_windows_and_a_rollback_finds_those_of_before(
    name: str, inbox: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place, out = Place.at(tmp_path / "registry"), tmp_path / "out"
    first = put_windowed(place, tmp_path, 2, SHORT)
    command = ["stream", "--watch", str(inbox)]
    command += ["--registry", str(place), "--out", str(out), "--roll-rows", "1"]
    command += ["--keep-features", "--shards=3", *options_of(name, request)]
    running = Stream(command, out)
    number = 0

    def deliver() -> str:
        nonlocal number
        begin, number = number, number + FILE
        write_rows(inbox / f"{begin:06}.csv", range(begin, number))
        assert running.wait_until(lambda: number <= len(kept(out))), running.said()
        return kept(out)[number - 1][0]

    def deliver_until(model: str) -> None:
        for _ in range(40):
            if deliver() == model:
                return
        raise AssertionError(f"{model} never decides: {running.said()}")

    running.start()
    try:
        deliver_until(first)
        later = put_windowed(place, tmp_path, 8, LONGER)
        deliver_until(later)
        deliver()
        deliver()
        rollback(open_registry(place), ANN)
        deliver_until(first)
        running.stop()
        running.wait_for_end()
    finally:
        running.kill()
    rows = kept(out)
    assert sorted(rows) == list(range(number))
    decided = [n for n, (by, _) in rows.items() if by == later]
    # The rows of one account after the other: each is in the shard of its account.
    assert min(decided) >= FILE + 48
    expected = {
        model: alone(inbox, tmp_path / model, windows)
        for model, windows in ((first, SHORT), (later, LONGER))
    }
    for n, (by, features) in rows.items():
        assert features == expected[by][n]


def alone(inbox: Path, directory: Path, velocity: tuple[Velocity, ...]) -> dict[int, object]:
    """Return the features of a stream here that began with a model on all rows."""
    options = StreamOptions(
        watch=str(inbox),
        model=windowed_bundle(directory / "alone", 5, velocity),
        out=str(directory / "out"),
        until_idle=0.5,
        keep_features=True,
    )
    stream.run(options)
    return {n: features for n, (_, features) in kept(Path(options.out)).items()}
