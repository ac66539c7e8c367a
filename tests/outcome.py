"""The outputs of a stream, and their checks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.decisions.inputs import DECIDED_AT
from beam_fraud.models.bundle import open_bundle
from beam_fraud.monitoring.drift.statistics import DEAD_LETTERS, HOUR, LATENESS
from beam_fraud.operations.drift.archive import count_archive
from beam_fraud.operations.drift.places import count_places
from beam_fraud.storage.urls import Place
from tests.traffic import Traffic


@dataclass(frozen=True)
class Outcome:
    """The outputs of a stream in a canonical order."""

    #: Rows of `stages.SCORED`.
    scores: pa.Table
    #: Rows of `stages.DEAD_LETTER`.
    dead_letters: pa.Table
    #: Flagged transactions with their score and decision.
    flagged: list[tuple[object, ...]]
    #: Transactions and channels of the table `alerts`.
    alerts: list[tuple[object, ...]]


_FLAGGED = "SELECT * FROM flagged_transactions ORDER BY transaction_id, model_id"
_ALERTS = "SELECT transaction_id, channel FROM alerts ORDER BY transaction_id, channel"


def outcome(out: Path, sink: str) -> Outcome:
    """Read the outputs under `--out` and in the sink of a URL."""
    if sink.startswith("postgresql:"):
        with psycopg.connect(sink) as postgresql:
            flagged = postgresql.execute(_FLAGGED).fetchall()
            alerts = postgresql.execute(_ALERTS).fetchall()
    else:
        parquet = sink.startswith("parquet:")
        database = out / "outbox.db" if parquet else Path(urlsplit(sink).path)
        with closing(sqlite3.connect(database)) as sqlite:
            alerts = sqlite.execute(_ALERTS).fetchall()
            flagged = [] if parquet else sqlite.execute(_FLAGGED).fetchall()
        if parquet:
            rows = pq.read_table(sink.removeprefix("parquet:")).sort_by("transaction_id")
            flagged = [tuple(row.values()) for row in rows.to_pylist()]
    scores = pq.read_table(out / "scores").sort_by("transaction_id")
    # No two runs decide at the same moment.
    scores = scores.select([name for name in scores.column_names if name != DECIDED_AT])
    by = [("source", "ascending"), ("position", "ascending")]
    return Outcome(scores, pq.read_table(out / "dead_letters").sort_by(by), flagged, alerts)


def assert_each_once(found: Outcome, traffic: Traffic) -> None:
    """Assert that every transaction is in the scores once, and every other record in the dead
    letters once.
    """
    assert pc.count_distinct(found.scores["transaction_id"]).as_py() == found.scores.num_rows
    assert found.scores.num_rows == traffic.transactions
    places = found.dead_letters.select(["source", "position"])
    assert places.group_by(["source", "position"]).aggregate([]).num_rows == places.num_rows
    assert places.num_rows == traffic.bad


def assert_same(found: Outcome, reference: Outcome) -> None:
    """Assert that scores, dead letters, flagged rows and alerts are equal, bit for bit."""
    assert found.scores.equals(reference.scores)
    assert found.dead_letters.equals(reference.dead_letters)
    assert found.flagged == reference.flagged
    assert found.alerts == reference.alerts


def assert_counted(out: Path, *bundles: Path) -> int:
    """Assert that `--monitor` counted the rows of the archive, cell by cell; return their number.

    Args:
      out: `--out` of a stream with `--monitor` and `--keep-features`.
      bundles: all models of its rows.
    """
    rows = 0
    for place in bundles:
        bundle = open_bundle(str(place))
        found = count_places([Place.at(out / "monitor")], bundle)
        expected = count_archive(Place.at(out), bundle)
        assert found.dead_letters == expected.dead_letters
        assert found.summary.days.tolist() == expected.summary.days.tolist()
        known = {measure.name: measure for measure in found.summary.layout.measures}
        for measure in expected.summary.layout.measures:
            # Dead letters without a time are of another day there; lateness is not counted.
            if measure.name not in (DEAD_LETTERS, LATENESS):
                assert known[measure.name] == measure
                counted = found.summary.of(measure.name), expected.summary.of(measure.name)
                assert np.array_equal(*counted), measure.name
        by_score = found.by_score.summary, expected.by_score.summary
        assert by_score[0].days.tolist() == by_score[1].days.tolist()
        assert np.array_equal(by_score[0].counts, by_score[1].counts)
        rows += int(found.summary.of(HOUR).sum())
    return rows
