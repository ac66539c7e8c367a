"""Counters of bundles that end at once on Prism all count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

import apache_beam as beam
import pytest

from beam_fraud.runners import launch
from beam_fraud.runners.submission import Submission
from beam_fraud.transforms.counters import count, read_counters

pytestmark = pytest.mark.slow

#: Elements, which Prism divides into bundles, and counters of each.
ELEMENTS, COUNTERS = 8, 20
#: Seconds that the first bundle waits for a second one: Prism splits it after 0.2.
PATIENCE = 10.0
MET = threading.Barrier(2)


class CountTogether(beam.DoFn):
    """Counts what it is given, once two bundles are at work; the worker is in this process."""

    def start_bundle(self) -> None:
        self._alone = True

    def process(self, rows: int) -> Iterator[int]:
        # A third bundle, which may come later, waits for nobody.
        if self._alone and not MET.broken:
            with suppress(threading.BrokenBarrierError):
                MET.wait(PATIENCE)
            MET.abort()
        self._alone = False
        for number in range(COUNTERS):
            count(f"counter {number}", rows)
        yield rows


def test_bundles_that_end_at_once_all_count(prism: tuple[str, ...]) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        rows = [10**number for number in range(ELEMENTS)]
        _ = pipeline | beam.Create(rows) | beam.ParDo(CountTogether())

    result = launch.run(Submission.of(prism, 1), build)
    # Each digit is that of an element.
    expected = {f"counter {number}": int("1" * ELEMENTS) for number in range(COUNTERS)}
    assert read_counters(result) == expected
