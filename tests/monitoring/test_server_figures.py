"""Figures of servers add up, also those of processes that have ended."""

from __future__ import annotations

from pathlib import Path

import msgspec

from beam_fraud.monitoring.live_figures import Totals
from beam_fraud.monitoring.server_figures import FIGURES, ServerFigures, ServerSums
from beam_fraud.monitoring.shadow import Dropped, ShadowFigures, ShadowTotals

BOUNDS = (0.001, 0.01)


def tell(directory: Path, process: str, rows: int, dropped: Dropped | None = None) -> None:
    """Write what a process of a server has done."""
    directory.mkdir(exist_ok=True)
    totals = Totals(
        1_000.0 + rows,
        "cards@1",
        {"scored": rows, "dead": 1},
        rows,
        rows // 2,
        [rows, 0, 2],
        BOUNDS,
    )
    shadow = ShadowFigures(rows, rows - 1, either=2, both=1, nanoseconds=5, dropped=dropped)
    shadows = ShadowTotals({"trial@1": shadow}, waiting=3, left_out=4)
    data = msgspec.msgpack.encode(ServerFigures(process, totals, shadows))
    (directory / FIGURES).write_bytes(data)


def test_a_restarted_server_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    places = [tmp_path / "0", tmp_path / "1"]
    sums = ServerSums(places, BOUNDS)
    sums.look()
    assert sums.totals.scored == 0
    assert list(sums.totals.latencies) == [0, 0, 0]
    assert sums.shadows == ShadowTotals()
    tell(places[0], "a", 10)
    tell(places[1], "b", 20, Dropped(7.0, "slow"))
    sums.look()
    assert sums.shadows.figures["trial@1"].dropped == Dropped(7.0, "slow")
    tell(places[1], "b", 30, Dropped(7.0, "slow"))
    sums.look()
    tell(places[1], "c", 5)
    sums.look()
    sums.look()
    whole = sums.totals
    assert (whole.at, whole.model_id) == (1_030.0, "cards@1")
    assert whole.outcomes == {"scored": 45, "dead": 3}
    assert (whole.scored, whole.flagged, list(whole.latencies)) == (45, 22, [45, 0, 6])
    # Rows wait in the processes of now alone, and the killed one tries what was slow again.
    expected = ShadowFigures(45, 42, either=6, both=3, nanoseconds=15)
    assert sums.shadows == ShadowTotals({"trial@1": expected}, waiting=6, left_out=12)


def test_a_damaged_file_leaves_the_last_figures(tmp_path: Path) -> None:
    sums = ServerSums([tmp_path], BOUNDS)
    tell(tmp_path, "a", 10)
    sums.look()
    (tmp_path / FIGURES).write_bytes(b"\x93")
    sums.look()
    assert sums.totals.scored == 10
