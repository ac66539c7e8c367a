"""The local runner for streams neither grows nor fails with the number of bundles."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.io.unbounded_source import (
    CheckpointMark,
    ReadFromUnboundedSource,
    UnboundedReader,
    UnboundedSource,
)
from apache_beam.runners.worker import statesampler
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from beam_fraud.runners.submission import ENDLESS_RUNNER, Submission
from beam_fraud.transforms.counters import count, read_counters


class Mark(CheckpointMark):
    def __init__(self, number: int) -> None:
        self.number = number


class Reader(UnboundedReader):
    def __init__(self, source: Numbers, number: int) -> None:
        self._source, self._number = source, number

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        if self._number == self._source.count:
            return False
        self._number += 1
        return True

    def get_current(self) -> int:
        return self._number

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(self._number)

    def get_watermark(self) -> Timestamp:
        return MAX_TIMESTAMP if self._number == self._source.count else Timestamp(0)

    def get_checkpoint_mark(self) -> Mark:
        return Mark(self._number)


class Numbers(UnboundedSource):
    """1 to `count`, one bundle each by the limit of the read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def split(self, desired_num_splits: int, options: Any = None) -> Iterable[UnboundedSource]:
        return [self]

    def create_reader(self, options: Any, checkpoint_mark: Mark | None) -> Reader:
        return Reader(self, checkpoint_mark.number if checkpoint_mark else 0)

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return coders.PickleCoder()


held: list[int] = []


def counted(number: int) -> None:
    count("rows_in", number)
    held.append(sys.getallocatedblocks())


def run(bundles: int) -> dict[str, int]:
    """Run a pipeline of so many bundles."""
    pipeline = beam.Pipeline(options=Submission.of((), workers=1, streaming=True).options)
    read = ReadFromUnboundedSource(Numbers(bundles), max_records_per_bundle=1)
    pipeline | read | beam.Map(counted)
    return read_counters(pipeline.run())


def test_more_bundles_than_python_may_recurse_are_counted_to_the_end() -> None:
    assert ENDLESS_RUNNER.endswith("EndlessRunner")
    assert run(1_500) == {"rows_in": 1_500 * 1_501 // 2}
    # Otherwise every bundle leaves its metrics behind, which are more than ten kilobytes.
    assert held[-1] - held[500] < 1_000 * 10


def test_replaced_parts_of_beam_are_restored() -> None:
    before = statesampler.StateSampler
    started = time.monotonic()
    run(3)
    assert statesampler.StateSampler is before
    assert time.monotonic() - started < 30
