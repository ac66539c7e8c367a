"""The files of counts of a stream on a cluster add up to each row once, whatever fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.errors import Code
from beam_fraud.monitoring.drift import counts
from beam_fraud.monitoring.drift.statistics import DECISION
from beam_fraud.monitoring.drift.summary import Layout, Measure, Summary
from beam_fraud.operations.drift.live import read_counts
from beam_fraud.state import drift_parts
from beam_fraud.state.drift_parts import DriftParts, pieces_of
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.shard_host import Event, Host

AMOUNT = Measure("amount", "numeric", edges=(1.0, 2.5))
DECIDED = Measure(DECISION, "categorical", categories=("approve",))
LAYOUT = Layout((AMOUNT, DECIDED))
MODELS = ("old@1", "new@2")

#: Seconds since the last event; the model, and day and amount of its rows (none: a tick).
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 40.0]),
        st.sampled_from(MODELS),
        st.lists(st.tuples(st.integers(0, 40), st.floats(0, 4, width=16)), max_size=5),
    ),
    max_size=25,
)


@pytest.fixture(autouse=True, scope="module")
def _parts_are_small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift_parts, "_PART_BYTES", 500)
        patch.setattr(drift_parts, "_PIECES_TOGETHER", 3)
        yield


def summary_of(rows: list[tuple[int, float]]) -> Summary:
    days, amounts = (np.array(column) for column in zip(*rows, strict=True))
    places = {"amount": AMOUNT.places(amounts), DECISION: np.zeros(len(rows), np.intp)}
    return Summary.of_rows(LAYOUT, days, places)


def counted(model: str, rows: list[tuple[int, float]]) -> pa.RecordBatch:
    key = counts.key_of(model, LAYOUT)
    [batch] = pieces_of([counts.ModelCounts(key, model, summary_of(rows))])
    return batch


def by_model(directory: Path) -> dict[str, Summary]:
    found = read_counts(Place.at(directory)) or []
    return {one.model_id: one.summary for one in found}


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, data=st.data())
def test_files_of_a_shard_that_is_lost_at_any_time_have_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("monitor")
    host = Host(lambda clock: DriftParts(directory, clock))
    events, now = list[Event](), 1_000.0
    for seconds, model, rows in steps:
        now += seconds
        events.append(Event(now, counted(model, rows) if rows else None))
    while events:
        size = data.draw(st.integers(1, 4), "bundle")
        bundle, events = events[:size], events[size:]
        for _ in range(data.draw(st.integers(0, 1), "failures")):
            # Also after a part is finished that the state then does not know.
            host.fail([*bundle, Event(now + 100), *events, Event(now + 200)])
        host.bundle(bundle)
        after = data.draw(st.sets(st.sampled_from(["merge", "restore"])), "after")
        if "merge" in after:
            host.merge(data.draw(st.integers(1, 8), "merged"))
        if "restore" in after:
            host.restore()
    host.finish()
    found = by_model(directory)
    for model in MODELS:
        rows = [row for _, by, some in steps for row in some if by == model]
        assert (model in found) == bool(rows)
        if rows:
            expected = summary_of(rows)
            assert found[model].days.tolist() == expected.days.tolist()
            assert np.array_equal(found[model].counts, expected.counts)


def test_a_large_part_is_finished_and_leaves_the_state(tmp_path: Path) -> None:
    host = Host(lambda clock: DriftParts(tmp_path, clock))
    many = counted("old@1", [(day, 1.0) for day in range(100)])
    host.bundle([Event(1_000.0, many), Event(1_001.0)])
    assert [delta.data for delta in host.kept] == [b"N1"]
    assert not host.shard.waiting
    host.bundle([Event(1_002.0, counted("old@1", [(3, 1.0)]))])
    # Not so soon after the last write.
    host.bundle([Event(1_003.0)])
    assert [path.name for path in tmp_path.iterdir()] == [counts.part_file(0)]
    host.bundle([Event(1_040.0)])
    assert by_model(tmp_path)["old@1"].of("amount")[:4].sum(axis=1).tolist() == [1, 1, 1, 2]


def test_a_place_that_cannot_be_written_ends_no_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "monitor"
    directory.write_text("in the way")
    host = Host(lambda clock: DriftParts(directory, clock))
    host.bundle([Event(1_000.0, counted("old@1", [(1, 1.0)])), Event(1_001.0)])
    assert host.shard.waiting
    assert "the counts of --monitor cannot be written" in caplog.text
    directory.unlink()
    host.bundle([Event(1_040.0)])
    assert by_model(directory)["old@1"].days.tolist() == [1]


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    with fails(Code.STATE_UNREADABLE, "monitor"):
        DriftParts(tmp_path).restore([b"L\x01"])
    with fails(Code.STATE_UNREADABLE, "monitor"):
        DriftParts(tmp_path).restore([b"Nx"])
