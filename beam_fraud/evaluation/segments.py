"""Figures of a model by segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

from beam_fraud.evaluation.rows import Floats, Labels
from beam_fraud.evaluation.segmentation import Segmentation


@dataclass(frozen=True)
class Segment:
    """Figures of a segment; the rows of all segments sum up to the whole."""

    #: Name of the segment.
    name: str
    #: Transactions.
    rows: int
    #: Frauds among them.
    frauds: int
    #: Rows flagged.
    flagged: int
    #: Frauds among the flagged.
    caught: int
    #: Frauds among the flagged, as a share; None if nothing is flagged.
    precision: float | None
    #: Flagged among the frauds, as a share; None if there are none.
    recall: float | None
    #: Average precision; None with one class.
    average_precision: float | None


@dataclass(frozen=True)
class SegmentTable:
    """The segments that have rows, in order."""

    #: Name of the segmentation.
    name: str
    #: In order.
    segments: tuple[Segment, ...]


def segment_table(
    segmentation: Segmentation, labels: Labels, scores: Floats, threshold: float
) -> SegmentTable:
    """Return figures by segment.

    Args:
      segmentation: segmentation of n rows.
      labels: int8[n], 1 is fraud.
      scores: float64[n].
      threshold: a score of at least this is flagged.
    """
    order = np.argsort(segmentation.codes, kind="stable")
    ends = np.searchsorted(segmentation.codes[order], np.arange(len(segmentation.segments) + 1))
    return SegmentTable(
        segmentation.name,
        tuple(
            _segment(name, labels[rows], scores[rows], threshold)
            for name, start, stop in zip(segmentation.segments, ends[:-1], ends[1:], strict=True)
            if start < stop
            for rows in [order[start:stop]]
        ),
    )


def _segment(name: str, labels: Labels, scores: Floats, threshold: float) -> Segment:
    flags = scores >= threshold
    frauds, flagged = int(labels.sum()), int(flags.sum())
    caught = int(labels[flags].sum())
    both = 0 < frauds < len(labels)
    return Segment(
        name=name,
        rows=len(labels),
        frauds=frauds,
        flagged=flagged,
        caught=caught,
        precision=caught / flagged if flagged else None,
        recall=caught / frauds if frauds else None,
        average_precision=float(average_precision_score(labels, scores)) if both else None,
    )
