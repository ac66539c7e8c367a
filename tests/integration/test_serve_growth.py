"""A server needs no more memory and files after half an hour than after its first minutes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.simulate.simulation import Simulation, simulate
from tests.open_load import SCORED, open_load, write_bodies
from tests.serving import Serve

pytestmark = pytest.mark.slow

#: Days of so many transactions each: windows have been full and have turned over before a server
#: remembers all the answers that it keeps for repeats.
_A_DAY = 2_000


@dataclass(frozen=True)
class Watch:
    """A load, and what is looked at during it."""

    #: Requests a second.
    rate: float
    #: Seconds before anybody looks, of looking, and between two looks.
    warm_up: float
    seconds: float
    pause: float
    #: Most memory at the end, as a multiple of that at the start; None where it is still filled.
    growth: float | None


@dataclass(frozen=True)
class Look:
    """A server at one moment."""

    #: Rows that it has scored.
    rows: float
    resident_bytes: float
    descriptors: float
    #: Of its state on disk, with what is not yet folded in.
    state_bytes: int


@pytest.mark.parametrize(
    "watch",
    [
        Watch(rate=150, warm_up=1, seconds=3, pause=0.3, growth=None),
        pytest.param(
            Watch(rate=500, warm_up=450, seconds=1_350, pause=10, growth=1.05),
            marks=pytest.mark.soak,
        ),
    ],
    ids=["seconds", "half an hour"],
)
def test_usage_after_half_an_hour_is_that_after_minutes(
    bundle: Path, tmp_path: Path, watch: Watch
) -> None:
    seconds = watch.warm_up + watch.seconds + 60
    days = round(watch.rate * seconds) // _A_DAY + 2
    table = simulate(Simulation(days, 1_100, 1_000, seed=9))
    messages = handbook_messages(table)
    bodies = write_bodies(tmp_path / "bodies", (one for some in messages for one in some.values))
    state = tmp_path / "state"
    looks = list[Look]()
    with Serve(bundle, state) as server:
        with open_load(server, bodies, watch.rate, seconds) as load:
            time.sleep(watch.warm_up)
            end = time.monotonic() + watch.seconds
            while time.monotonic() < end:
                looks.append(look(server))
                tell(looks[-1])
                time.sleep(watch.pause)
                assert load.poll() is None
        scored = server.figure(SCORED)
        server.stop()
    assert scored > 0.9 * watch.rate * (watch.warm_up + watch.seconds)
    archived = sum(pq.read_metadata(part).num_rows for part in (state / "scores").glob("part-*"))
    assert archived == scored
    third = len(looks) // 3
    early, late = looks[:third], looks[-third:]
    # A part of the archive, or a delta of the state, may be written at any moment.
    assert max(one.descriptors for one in late) <= max(one.descriptors for one in early) + 2
    if watch.growth is not None:
        assert mean(late, "resident_bytes") <= watch.growth * mean(early, "resident_bytes")
        assert mean(late, "state_bytes") <= watch.growth * mean(early, "state_bytes")


def mean(looks: list[Look], what: str) -> float:
    return statistics.mean(getattr(one, what) for one in looks)


def look(server: Serve) -> Look:
    figures = dict(line.rsplit(" ", 1) for line in server.metrics().splitlines())
    return Look(
        rows=float(figures[SCORED]),
        resident_bytes=float(figures["process_resident_memory_bytes"]),
        descriptors=float(figures["process_open_fds"]),
        state_bytes=sum(file.stat().st_size for file in (server.state / "stream").glob("server.*")),
    )


def tell(one: Look) -> None:
    print(
        f"{one.rows:,.0f} rows: {one.resident_bytes / 1e6:.0f} MB, {one.descriptors:.0f} "
        f"descriptors, state {one.state_bytes / 1e6:.1f} MB",
        flush=True,
    )
