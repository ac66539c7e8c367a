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
#: Seconds that the first bundle waits for a second one, which Prism splits off after 0.2; and runs
#: that are tried until two meet.
PATIENCE, RUNS = 10.0, 5
BOTH, MET = threading.Barrier(2), threading.Event()


class CountTogether(beam.DoFn):
    """Counts what it is given, once two bundles are at work; the worker is in this process."""

    def start_bundle(self) -> None:
        self._alone = True

    def process(self, rows: int) -> Iterator[int]:
        # A third bundle, which may come later, does not wait.
        if self._alone and not BOTH.broken:
            with suppress(threading.BrokenBarrierError):
                BOTH.wait(PATIENCE)
                MET.set()
            BOTH.abort()
        self._alone = False
        for number in range(COUNTERS):
            count(f"counter {number}", rows)
        yield rows


def test_bundles_that_end_at_once_all_count(prism: tuple[str, ...]) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        rows = [10**number for number in range(ELEMENTS)]
        _ = pipeline | beam.Create(rows) | beam.ParDo(CountTogether())

    # Each digit is that of an element.
    expected = {f"counter {number}": int("1" * ELEMENTS) for number in range(COUNTERS)}
    MET.clear()
    for _ in range(RUNS):
        BOTH.reset()
        assert read_counters(launch.run(Submission.of(prism, 1), build)) == expected
        if MET.is_set():
            break
    assert MET.is_set(), "Prism had no two bundles at work at once, so nothing was tested"
