"""Grouping rows by key gives one result, through files or the runner."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.features.velocity.columns import with_velocity
from beam_fraud.runners.submission import Submission
from beam_fraud.transforms.order import ORDER
from beam_fraud.transforms.velocity import AddVelocity
from tests.transforms.test_shuffle import BY_CURRENCY, MERCHANT, nan_equal, transactions


@pytest.mark.parametrize("by_files", [True, False])
def test_features_are_those_of_all_rows_at_once(
    tmp_path: Path, by_files: bool, beam_args: tuple[str, ...]
) -> None:
    value = transactions().sort_by([("event_time", "ascending"), (ORDER, "ascending")])
    definitions = (*BY_CURRENCY, *MERCHANT)
    expected = with_velocity(value, definitions).sort_by(ORDER)
    batches = value.combine_chunks().to_batches(max_chunksize=250)

    def check(found: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(found).sort_by(ORDER)
        assert nan_equal(table.select(expected.column_names), expected)

    with beam.Pipeline(options=Submission.of(beam_args, 1).options) as root:
        halves = (
            root | "Later" >> beam.Create(batches[6:], reshuffle=False),
            root | "Earlier" >> beam.Create(batches[:6], reshuffle=False),
        )
        added = halves | AddVelocity(definitions, 100, tmp_path / "spill" if by_files else None)
        assert_that(added, check)
