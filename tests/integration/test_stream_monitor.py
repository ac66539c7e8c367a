"""A stream with `--monitor` that is killed and started again counts every row once."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from beam_fraud.models.bundle import open_bundle
from beam_fraud.operations.drift.archive import count_archive
from beam_fraud.operations.drift.places import count_places
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.storage.urls import Place
from tests.otlp_receiver import labels_of, receiving
from tests.serving import Command
from tests.shadowing import Share, shadow_bundle
from tests.stream_process import UNTIL_IDLE, wait_until

ROWS, FILES = 1_000, 16


def fill(inbox: Path, numbers: range) -> None:
    """Add files of so many rows over three days, and of one that is none."""
    for number in numbers:
        lines = (
            f"x{n},2024-01-{1 + number // 7:02}T{n % 24:02}:00:00Z,c{n % 9},{n % 100},{n % 13}\n"
            for n in range(number * ROWS, (number + 1) * ROWS)
        )
        bad = f"bad{number},then,c1,1,2\n"
        (inbox / f"{number:03}.csv").write_text("id,t,who,a,b\n" + "".join(lines) + bad)


def committed(out: Path) -> bool:
    """Return whether a stream has committed positions."""
    file = out / "stream" / "state.db"
    if not file.exists():
        return False
    with closing(sqlite3.connect(file, timeout=10)) as connection, suppress(sqlite3.Error):
        return bool(connection.execute("SELECT 1 FROM positions").fetchall())
    return False


def test_a_killed_stream_counts_every_row_once(inbox: Path, tmp_path: Path) -> None:
    column = FeatureColumn("b", "numeric")
    bundle = shadow_bundle(tmp_path / "model", Share(0.006), features=[column])
    out, log = tmp_path / "out", tmp_path / "log"
    command = ["stream", "--watch", str(inbox), "--model", bundle, "--out", str(out)]
    command += ["--monitor", "--keep-features"]
    fill(inbox, range(FILES // 2))
    killed = Command(command, log)
    killed.start()
    try:
        wait_until(lambda: committed(out) or not killed.runs)
    finally:
        killed.kill()
    fill(inbox, range(FILES // 2, FILES))
    with receiving() as receiver:
        again = Command([*command, *UNTIL_IDLE, "--otlp", receiver.url], log)
        again.start()
        assert again.wait() == 0, again.said()
        done = receiver.last["beam_fraud_transactions"].sum.data_points
        sent = {labels_of(one)["outcome"]: one.as_double for one in done}
        # Of this process.
        assert ROWS * FILES / 2 <= sent["scored"] <= ROWS * FILES
        assert {"beam_fraud_drift_alarms", "beam_fraud_quality_assumption"} <= receiver.last.keys()
    bundle_of = open_bundle(bundle)
    live = count_places([Place.parse(str(out / "monitor"))], bundle_of)
    expected = count_archive(Place.parse(str(out)), bundle_of)
    assert int(expected.summary.of("decision").sum()) == ROWS * FILES
    assert live.summary.layout == expected.summary.layout
    assert live.summary.days.tolist() == expected.summary.days.tolist()
    assert np.array_equal(live.summary.counts, expected.summary.counts)
    by_score = live.by_score.summary, expected.by_score.summary
    assert by_score[0].days.tolist() == by_score[1].days.tolist()
    assert np.array_equal(by_score[0].counts, by_score[1].counts)
    assert live.dead_letters == expected.dead_letters == {"unparseable_time": FILES}
