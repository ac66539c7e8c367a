"""The second pass over scored rows: how frauds rank among all rows, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.bootstrap import Cuts, cuts_of
from beam_fraud.evaluation.comparison.scored_rows import ScoredRows, Side
from beam_fraud.evaluation.comparison.segmentation import Segmenter
from beam_fraud.evaluation.comparison.tally import Arrays, Cut
from beam_fraud.evaluation.rows import Floats, Ints, Labels, clock_micros
from beam_fraud.records.label_file import UNKNOWN
from beam_fraud.schema.event_time import event_micros


class Ranking:
    """Counts of rows between the scores of frauds.

    Average precision needs no other rows than these counts, so that any number of rows takes the
    memory of the frauds. Reading twice is the price: the scores of all frauds come first.

    Args:
      labels: int8[n], labels of rows that include all frauds.
      scores: float64[n].
      threshold: the threshold of the side.
    """

    def __init__(self, labels: Labels, scores: Floats, threshold: float) -> None:
        #: The scores of frauds, and the cell of each of the n rows.
        self.cuts: Cuts = cuts_of(labels, scores, threshold)
        self._rising = self.cuts.values[::-1]
        #: int64[cells], from the highest scores down.
        self.frauds = np.bincount(self.cuts.cells[labels == 1], minlength=self.cuts.count).astype(
            np.int64
        )
        self.genuine = np.zeros(self.cuts.count, dtype=np.int64)
        self.unlabelled = np.zeros(self.cuts.count, dtype=np.int64)

    def add(self, labels: Labels, scores: Floats) -> None:
        """Count rows, whose scores are in rising order: labels int8[n], scores float64[n]."""
        for label, counts in ((0, self.genuine), (UNKNOWN, self.unlabelled)):
            rows = scores[labels == label]
            if len(rows) < len(self._rising):
                cells = np.searchsorted(self._rising, rows, side="left")
                cells += np.searchsorted(self._rising, rows, side="right")
                counts += np.bincount(cells, minlength=self.cuts.count)[::-1]
                continue
            ends = np.empty(self.cuts.count + 1, dtype=np.int64)
            ends[0], ends[-1] = 0, len(rows)
            ends[1:-1:2] = np.searchsorted(rows, self._rising, side="left")
            ends[2:-1:2] = np.searchsorted(rows, self._rising, side="right")
            counts += np.diff(ends)[::-1]

    @property
    def average_precision(self) -> float | None:
        """Average precision of labelled rows; None if they are of one class."""
        figures = self.cuts.figures(
            self.frauds[None, :].astype(np.float64), self.genuine[None, :].astype(np.float64)
        )
        value = float(figures["average_precision"][0])
        return None if np.isnan(value) else value


@dataclass(frozen=True)
class Grouping:
    """A segmentation with its segments."""

    segmenter: Segmenter
    #: Names of the segments.
    names: tuple[str, ...]
    #: int64[codes]: the segment of each code.
    places: Ints


@dataclass(frozen=True)
class Rankings:
    """The ranking of a side, of all rows and of each segment."""

    whole: Ranking
    #: For each segmentation, its segments.
    segments: tuple[tuple[Ranking, ...], ...]


def rank(
    scored: ScoredRows,
    sides: Sequence[Side],
    kept: Arrays,
    kept_codes: Sequence[Ints],
    groupings: Sequence[Grouping],
    cut: Cut,
) -> tuple[Rankings, ...]:
    """Read all scores again and count them between those of frauds.

    Args:
      scored: the rows.
      sides: the sides.
      kept: arrays of rows that include all frauds.
      kept_codes: their codes by each segmentation.
      groupings: the segmentations.
      cut: which labels count.

    Returns:
      The rankings of each side.
    """
    kept_places = [g.places[codes] for g, codes in zip(groupings, kept_codes, strict=True)]
    rankings = tuple(
        Rankings(
            Ranking(kept.labels, kept.scores[i], side.threshold),
            tuple(
                tuple(
                    Ranking(kept.labels[own], kept.scores[i][own], side.threshold)
                    for place, _ in enumerate(grouping.names)
                    for own in [places == place]
                )
                for grouping, places in zip(groupings, kept_places, strict=True)
            ),
        )
        for i, side in enumerate(sides)
    )
    columns = ["event_time", "amount", "label", *(g.segmenter.name for g in groupings)]
    if cut.file is not None:
        columns.append("transaction_id")
    for block in scored.blocks(columns, ["score"]):
        times = event_micros(block.rows)
        known, _ = cut.labels(block.rows)
        mature = times <= cut.last
        amounts = np.asarray(block.rows.column("amount").to_numpy(), dtype=np.float64)
        clock = clock_micros(block.rows.column("event_time"), cut.timezone)
        places = [
            g.places[g.segmenter.codes(block.rows, amounts, clock)][mature] for g in groupings
        ]
        labels = known[mature]
        for ranking, side in zip(rankings, block.sides, strict=True):
            scores = np.asarray(side.column("score").to_numpy(), dtype=np.float64)[mature]
            order = np.argsort(scores)
            scores, ordered = scores[order], labels[order]
            ranking.whole.add(ordered, scores)
            for of_segments, of_rows in zip(ranking.segments, places, strict=True):
                segments = of_rows[order]
                for place, one in enumerate(of_segments):
                    own = segments == place
                    one.add(ordered[own], scores[own])
    return rankings
