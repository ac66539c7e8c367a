"""Count scored rows for drift before they leave a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_fraud.models.drift import LETTERS_KEY, Counter, counter_of
from beam_fraud.monitoring.drift.counts import NO_MODEL, ModelCounts
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.state.drift import Uncounted
from beam_fraud.state.drift_parts import pieces_of
from beam_fraud.transforms.deciders import Deciders


class Counters:
    """The counters of the rows of each model, each created once in a process.

    Args:
      deciders: what decides.
      segments: categorical features whose values divide the rows.
      late: whether lateness is counted, for which the arrivals of all rows must be known.
    """

    def __init__(self, deciders: Deciders, segments: tuple[str, ...], *, late: bool = True) -> None:
        self._in_force, self._segments, self._late = deciders.in_force(), segments, late
        self._known: dict[str, Counter] = {}

    def __call__(self, batch: pa.RecordBatch) -> Counter:
        """Return what counts the rows of a scored batch."""
        bundle = self._in_force.of(batch).decider.bundle
        if bundle.model_id not in self._known:
            self._known[bundle.model_id] = counter_of(bundle, self._segments, late=self._late)
        return self._known[bundle.model_id]


@dataclass
class CountForDrift(beam.PTransform):
    """Count the rows of a bundle by day, segment and bin: rows of `state.drift_parts.PIECES`.

    Some kilobytes a bundle go to the worker that adds them up, not the rows with their features.
    """

    #: What decides.
    deciders: Deciders
    #: Categorical features whose values divide the rows.
    segments: tuple[str, ...]

    def expand(self, scored: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Count."""
        counting = beam.ParDo(_CountInBundle(self.deciders, self.segments))
        return scored | "Count" >> counting.with_output_types(pa.RecordBatch)


class _CountInBundle(beam.DoFn):
    def __init__(self, deciders: Deciders, segments: tuple[str, ...]) -> None:
        self._deciders, self._segments = deciders, segments

    def setup(self) -> None:
        self._counters = Counters(self._deciders, self._segments, late=False)

    def start_bundle(self) -> None:
        self._uncounted = Uncounted(self._counters)

    def process(self, scored: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        self._uncounted.add(scored)
        if self._uncounted.enough:
            yield from self._counted()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for pieces in self._counted():
            yield WindowedValue(pieces, window.max_timestamp(), [window])

    def _counted(self) -> Iterator[pa.RecordBatch]:
        for counter, rows in self._uncounted.joined():
            yield from pieces_of(counter.counts(rows))


@dataclass
class CountDeadLetters(beam.PTransform):
    """Count dead letters by day and reason: rows of `state.drift_parts.PIECES`."""

    #: Counts dead letters by `models.drift.LETTERS`.
    count: Callable[[pa.RecordBatch], Summary]

    def expand(self, dead: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Count."""
        counting = beam.FlatMap(_letter_pieces, count=self.count)
        return dead | "Count" >> counting.with_output_types(pa.RecordBatch)


def _letter_pieces(
    dead: pa.RecordBatch, count: Callable[[pa.RecordBatch], Summary]
) -> Iterator[pa.RecordBatch]:
    yield from pieces_of([ModelCounts(LETTERS_KEY, NO_MODEL, count(dead))])
