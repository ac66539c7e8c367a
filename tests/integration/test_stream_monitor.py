"""A stream with `--monitor` that is killed and started again counts every row once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.drift import counter_of
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.operations.drift.live import read_counts
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.storage.urls import Place
from tests.otlp_receiver import labels_of, receiving
from tests.shadowing import Share, shadow_bundle
from tests.stream_process import UNTIL_IDLE, Stream

ROWS, FILES = 1_000, 16


@pytest.fixture
def running(inbox: Path, tmp_path: Path) -> Iterator[Stream]:
    for number in range(FILES):
        lines = (
            f"x{n},2024-01-{1 + number // 7:02}T{n % 24:02}:00:00Z,c{n % 9},{n % 100},{n % 13}\n"
            for n in range(number * ROWS, (number + 1) * ROWS)
        )
        (inbox / f"{number:03}.csv").write_text("id,t,who,a,b\n" + "".join(lines))
    bundle = shadow_bundle(
        tmp_path / "model", Share(0.006), features=[FeatureColumn("b", "numeric")]
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "beam_fraud", "stream", "--watch", str(inbox), "--monitor"]
    stream = Stream([*command, "--model", bundle, "--out", str(out), "--keep-features"], out)
    yield stream
    stream.kill()


def archived(out: Path, model: Path) -> Summary:
    counter = counter_of(open_bundle(model))
    batches = pq.read_table(out / "scores").to_batches()
    return Summary.merged(counter.layout, [counter.count(batch) for batch in batches])


def test_a_killed_stream_counts_every_row_once(running: Stream, tmp_path: Path) -> None:
    running.start()
    assert running.wait_for_progress({})
    running.kill()
    with receiving() as receiver:
        running.start(*UNTIL_IDLE, "--otlp", receiver.url)
        running.wait_for_end()
        done = receiver.last["beam_fraud_transactions"].sum.data_points
        sent = {labels_of(one)["outcome"]: one.as_double for one in done}
        # Of this process.
        assert 0 < sent["scored"] <= ROWS * FILES
        assert "beam_fraud_drift_alarms" in receiver.last
    out = tmp_path / "out"
    found = read_counts(Place.parse(str(out / "monitor")))
    assert found is not None, running.said()
    [live] = found
    expected = archived(out, tmp_path / "model")
    assert int(expected.of("decision").sum()) == ROWS * FILES
    assert live.summary.layout == expected.layout
    assert live.summary.days.tolist() == expected.days.tolist()
    assert np.array_equal(live.summary.counts, expected.counts)
