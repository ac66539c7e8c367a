"""Cuts of scores at frauds and a threshold, which determine all ranking figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.evaluation.rows import Floats, Ints, Labels

#: The figures of `Cuts.figures`, in order.
FIGURES = ("average_precision", "roc_auc", "precision", "recall", "f1")


@dataclass(frozen=True)
class Cuts:
    """The scores of n rows in 2k + 1 cells, highest first.

    The k cuts are the distinct scores of frauds, and the threshold. Cell 2i + 1 holds the rows with
    the score of cut i, cell 2i those between it and the cut above. Genuine rows of a cell count
    equally in every ranking figure, so n rows reduce to a few hundred counts.
    """

    #: float64[k], falling.
    values: Floats
    #: int64[n]: the cell of each row.
    cells: Ints
    #: The cell of rows whose score is the threshold.
    threshold_cell: int

    @property
    def count(self) -> int:
        """Number of cells."""
        return 2 * len(self.values) + 1

    def figures(
        self, frauds: npt.NDArray[np.float64], genuine: npt.NDArray[np.float64]
    ) -> dict[str, Floats]:
        """Return the ranking figures of b sets of rows, given by their counts per cell.

        Average precision is the sum, over the distinct scores of frauds, of the share of frauds
        that have it times the precision there. The area under the receiver operating
        characteristic is the chance that a fraud scores above a genuine row, a tie counting half.

        Args:
          frauds: float64[b, cells], weights of frauds.
          genuine: float64[b, cells], weights of genuine rows.

        Returns:
          float64[b] for each of `FIGURES`; NaN where one class leaves it undefined.
        """
        caught, alarms = np.cumsum(frauds, axis=1), np.cumsum(genuine, axis=1)
        here = slice(1, None, 2)
        found, missed = frauds[:, here], caught[:, -1:]
        at = self.threshold_cell
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = caught[:, here] / (caught[:, here] + alarms[:, here])
            steps = np.where(found > 0, found * precision, 0.0)
            below = alarms[:, -1:] - alarms[:, here] + genuine[:, here] / 2
            flagged = caught[:, at] + alarms[:, at]
            both = (caught[:, -1] > 0) & (alarms[:, -1] > 0)
            values = (
                np.where(both, steps.sum(axis=1) / missed[:, 0], np.nan),
                (found * below).sum(axis=1) / (missed[:, 0] * alarms[:, -1]),
                caught[:, at] / flagged,
                caught[:, at] / caught[:, -1],
                2 * caught[:, at] / (flagged + caught[:, -1]),
            )
        return dict(zip(FIGURES, values, strict=True))


def cuts_of(labels: Labels, scores: Floats, threshold: float) -> Cuts:
    """Cut scores at those of frauds and at the threshold.

    Args:
      labels: int8[n], 1 is fraud.
      scores: float64[n].
      threshold: a score of at least this is flagged.
    """
    rising = np.unique(np.append(scores[labels == 1], threshold))
    left = np.searchsorted(rising, scores, side="left")
    right = np.searchsorted(rising, scores, side="right")
    place = len(rising) - 1 - int(np.searchsorted(rising, threshold))
    return Cuts(rising[::-1].copy(), 2 * len(rising) - left - right, 2 * place + 1)
