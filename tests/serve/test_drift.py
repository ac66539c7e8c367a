"""What a server counts of its answers for drift is what its archive holds, also after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from beam_fraud.decisions.inputs import FEATURES
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.drift import counts_of, letters_in, letters_of
from beam_fraud.monitoring.drift.counts import counted
from beam_fraud.monitoring.drift.statistics import DEAD_LETTERS
from beam_fraud.operations.drift.archive import count_archive
from beam_fraud.serve.drift import DriftCounters
from beam_fraud.storage.urls import Place
from tests.serve.conftest import Served
from tests.serve.running import Running


def running_of(served: Served, directory: Path) -> Running:
    bundle = open_bundle(served.bundle)
    return Running(served, directory, keep_features=True, drift=DriftCounters(bundle, ()))


def test_a_killed_server_counts_every_answer_once(served: Served, tmp_path: Path) -> None:
    running = running_of(served, tmp_path)
    # So that the archive tells how late rows are.
    (tmp_path / "stream").mkdir()
    (tmp_path / "stream/server.db").write_bytes(b"")
    engine = running.engine()
    engine.record(served.records[:100])
    engine.record([b"{}", served.records[0].replace(b"TX_AMOUNT", b"TX_NONE"), b"no JSON"])
    engine.state.commit()
    prepared = engine.state.answers.groups().prepared()
    engine.state.archive(prepared)
    engine.state.commit()
    for record in served.records[100:140]:
        engine.record([record])
        engine.state.commit()
    # Counted, but not committed.
    engine.record([b"{}"])
    engine.state.archive(engine.state.answers.groups().prepared())
    engine = running.engine()
    engine.record([*served.records[140:200], b"{}"])
    engine.state.commit(fold=True)
    engine.state.close(1.0)
    found = counted(engine.state.drift())
    bundle = open_bundle(served.bundle)
    [summary], by_score = counts_of(found, bundle.model_id)
    letters = letters_of(found)
    assert letters_in(letters) == {"missing_id": 2, "malformed": 1, "missing_amount": 1}
    # One has a time; the others belong to the day of their arrival.
    assert sorted(letters.of(DEAD_LETTERS).sum(axis=1).tolist()) == [1, 3]
    archive = count_archive(Place.parse(str(tmp_path)), bundle)
    assert int(archive.summary.of("decision").sum()) == 200
    assert summary.layout == archive.summary.layout
    assert summary.days.tolist() == archive.summary.days.tolist()
    assert np.array_equal(summary.counts, archive.summary.counts)
    assert by_score.days.tolist() == archive.by_score.summary.days.tolist()
    assert np.array_equal(by_score.counts, archive.by_score.summary.counts)


def test_a_failed_commit_counts_nothing_twice(served: Served, tmp_path: Path) -> None:
    engine = running_of(served, tmp_path).engine()
    engine.record(served.records[:50])
    engine.state.commit()
    engine.state.archive(engine.state.answers.groups().prepared())
    engine.state.discard()
    engine.state.archive(engine.state.answers.groups().prepared())
    engine.state.commit()
    [live], by_score = counts_of(counted(engine.state.drift()), open_bundle(served.bundle).model_id)
    assert int(live.of("decision").sum()) == int(by_score.of("score").sum()) == 50


def test_features_are_counted_and_not_archived_without_the_option(
    served: Served, tmp_path: Path
) -> None:
    engine = replace(running_of(served, tmp_path), archives_inputs=False).engine()
    engine.record(served.records[:50])
    engine.state.commit()
    engine.state.close(1.0)
    bundle = open_bundle(served.bundle)
    [live], _ = counts_of(counted(engine.state.drift()), bundle.model_id)
    assert int(live.of(bundle.features.names[0]).sum()) == 50
    assert FEATURES not in pq.read_table(tmp_path / "scores").schema.names
