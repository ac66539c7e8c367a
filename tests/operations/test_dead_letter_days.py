"""Dead letters belong to the day of the time in their record, or to that of their neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.models.bundle import open_bundle
from beam_fraud.monitoring.drift.statistics import DEAD_LETTERS
from beam_fraud.monitoring.drift.summary import Layout, Measure
from beam_fraud.operations.dead_letters.directory import read_headers
from beam_fraud.operations.drift.dead_letter_days import DeadLetterDays
from tests.cli.test_commands_replay import scored

LAYOUT = Layout((Measure(DEAD_LETTERS, "categorical", categories=("wrong_type", "malformed")),))
FIRST = int(np.datetime64("2024-01-01", "D").astype(int))
LETTERS = pa.record_batch(
    {
        "source": ["topic:0"] * 6,
        "position": [50, 10, 11, 42, 60, 70],
        "reason": ["wrong_type", "malformed", "wrong_type", "malformed", "missing_id", "malformed"],
        "payload": [
            b'{"t": "2024-01-03 01:00:00", "a": "ten"}',
            b"{",
            b'{"t": "2024-01-01 23:30:00", "a": "ten"}',
            None,
            b'{"t": "2019-01-01", "a": 1}',
            b'{"t": "then"}',
        ],
    }
)


def test_the_days_of_a_run_are_those_of_its_records(tmp_path: Path) -> None:
    out = scored(tmp_path)
    headers = read_headers(out / "dead_letters")
    schema = open_bundle(str(tmp_path / "model")).schema
    letters = pq.read_table(out / "dead_letters").to_batches()[0]
    # One has a time; that of the other is no time, so it is beside the first.
    summary, undated = DeadLetterDays(schema, LAYOUT, (FIRST, FIRST + 9), headers=headers).count(
        letters
    )
    assert (summary.days.tolist(), undated) == ([FIRST + 1], 0)
    assert summary.of(DEAD_LETTERS).tolist() == [[1, 0, 1, 0]]
    # Nobody knows the columns of CSV without its header.
    summary, undated = DeadLetterDays(schema, LAYOUT, (FIRST, FIRST + 9)).count(letters)
    assert (len(summary.days), undated) == (0, 2)


def test_a_record_without_a_time_is_beside_the_nearest_one(tmp_path: Path) -> None:
    scored(tmp_path)
    schema = open_bundle(str(tmp_path / "model")).schema
    summary, undated = DeadLetterDays(schema, LAYOUT, (FIRST, FIRST + 9)).count(LETTERS)
    assert undated == 0
    assert summary.days.tolist() == [FIRST, FIRST + 2]
    # Reasons: wrong_type, malformed, any other.
    assert summary.of(DEAD_LETTERS)[:, :3].tolist() == [[1, 1, 0], [1, 2, 1]]
    none, undated = DeadLetterDays(schema, LAYOUT, (FIRST + 5, FIRST + 9)).count(LETTERS)
    assert (len(none.days), undated) == (0, 6)
