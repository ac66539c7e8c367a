"""The counters of a running graph in a real pipeline."""

import time
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.util import assert_that, equal_to

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.monitoring.counters import ROWS_DEAD
from beam_fraud.monitoring.recorder import new_board, read_board
from beam_fraud.sources.raw import Origin, with_origin
from beam_fraud.transforms.counters import ObserveScored, count, read_counters
from tests.flagged import flagged_batch


def timed(origin: Origin) -> pa.RecordBatch:
    """Return two scored rows of this origin."""
    scored = flagged_batch(["a", "b"])
    return scored.replace_schema_metadata(with_origin(scored.schema, origin).metadata)


def bury(batch: pa.RecordBatch) -> int:
    """A step that counts like any other."""
    count(ROWS_DEAD, 2)
    return len(batch)


def test_counters_of_all_steps_show_live_and_in_the_summary(tmp_path: Path) -> None:
    batches = [timed(Origin("tx:0", "jsonl")), timed(Origin("tx:1", "jsonl"))]
    with new_board(tmp_path) as read:
        pipeline = beam.Pipeline("FnApiRunner")
        seen = pipeline | beam.Create(batches) | ObserveScored(str(tmp_path)) | beam.Map(bury)
        assert_that(seen, equal_to([2, 2]))
        result = pipeline.run()
        result.wait_until_finish()
        assert read().counters == read_counters(result) == {"rows_dead": 4}


def test_a_score_is_timed_from_when_the_broker_took_the_transaction(tmp_path: Path) -> None:
    appended = round(time.time() * 1000) - 60_000
    batches = [
        timed(Origin("tx:0", "jsonl", appended=appended)),
        timed(Origin("a.csv", "csv")),
    ]
    with new_board(tmp_path):
        pipeline = beam.Pipeline("FnApiRunner")
        seen = pipeline | beam.Create(batches) | ObserveScored(str(tmp_path))
        assert_that(seen | beam.Map(len), equal_to([2, 2]))
        pipeline.run().wait_until_finish()
    latency = read_board(tmp_path).latency
    assert latency.rows == 2, "of a file, nobody knows when a row came"
    assert 120 <= latency.seconds < 240
