"""Other runners distribute sub-sources and rarely finalise bundles; every batch arrives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

import beam_fraud.transforms.coders  # noqa: F401  registers how batches are encoded
from beam_fraud.runners.submission import Submission
from beam_fraud.transforms.read_stream import ReadElsewhere

BATCHES = 40
#: What came of a run: numbers of the batches, of the finalized marks, and readers that were made.
given: list[int] = []
finalized: list[int] = []
made: list[int] = []


class Mark(CheckpointMark):
    def __init__(self, number: int) -> None:
        self.number = number

    def finalize_checkpoint(self) -> None:
        finalized.append(self.number)


class Reader(UnboundedReader):
    def __init__(self, number: int) -> None:
        made.append(number)
        self._number = number

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        if self._number == BATCHES:
            return False
        self._number += 1
        return True

    def get_current(self) -> pa.RecordBatch:
        return pa.record_batch({"number": [self._number]})

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(self._number)

    def get_watermark(self) -> Timestamp:
        return MAX_TIMESTAMP if self._number == BATCHES else Timestamp(0)

    def get_checkpoint_mark(self) -> Mark:
        return Mark(self._number)


class Batches(UnboundedSource):
    def split(self, desired_num_splits: int, options: Any = None) -> Iterable[UnboundedSource]:
        return [self]

    def create_reader(self, options: Any, checkpoint_mark: Mark | None) -> Reader:
        return Reader(checkpoint_mark.number if checkpoint_mark else 0)

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return coders.PickleCoder()

    def default_output_coder(self) -> coders.Coder:
        return coders.registry.get_coder(pa.RecordBatch)


def keep(batch: pa.RecordBatch) -> None:
    given.extend(batch["number"].to_pylist())


def run(finalize_seconds: float) -> None:
    """Read everything, one bundle for each batch."""
    for result in (given, finalized, made):
        result.clear()
    pipeline = beam.Pipeline(options=Submission.of((), workers=1, streaming=True).options)
    read = ReadElsewhere(Batches(), 0.01, 1e-9, finalize_seconds)
    _ = pipeline | read | beam.Map(keep)
    pipeline.run()


def test_no_mark_is_finalized_without_checkpoints() -> None:
    run(math.inf)
    assert given == list(range(1, BATCHES + 1))
    assert finalized == []


def test_marks_are_finalized_at_times() -> None:
    run(1e-9)
    assert given == list(range(1, BATCHES + 1))
    assert finalized == sorted(finalized)
    assert len(set(finalized)) > BATCHES // 2


@pytest.mark.parametrize("seconds", [math.inf, 1e-9])
def test_one_reader_reads_all(seconds: float) -> None:
    run(seconds)
    assert len(made) == 1
