"""How often rows of a score were frauds: counts by score of rows that a model was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from beam_fraud.models.calibration import SMOOTHING

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Bins of equal width in log-odds.
BINS = 256
#: Log-odds of the outer bins; those of a score of 1 are 9.21.
_REACH = 9.25
#: Name of the figure in the metadata of the file.
_TOGETHER = b"frauds_together"


def _scores(odds: Floats) -> Floats:
    """Return the scores of log-odds, the inverse of `calibration.log_odds`."""
    scores: Floats = expit(odds) * (1 + 2 * SMOOTHING) - SMOOTHING
    return scores


_ODDS: Floats = np.linspace(-_REACH, _REACH, 2 * BINS + 1)
#: float64[BINS - 1]: upper edges of all bins but the last.
EDGES = _scores(_ODDS[2:-1:2])
#: float64[BINS]: a score inside each bin.
MIDDLES: Floats = np.clip(_scores(_ODDS[1::2]), 0.0, 1.0)


def bins_of(scores: Floats) -> npt.NDArray[np.intp]:
    """Return the bin of each score in 0..1, intp[n]."""
    return np.searchsorted(EDGES, scores, side="left")


def _counts(bins: npt.NDArray[np.intp]) -> Floats:
    return np.bincount(bins, minlength=BINS).astype(np.float64)


@dataclass(frozen=True)
class Reliability:
    """Rows and frauds by score, of rows that the model was not fitted on.

    Example:
      >>> scores = np.array([0.1, 0.1, 0.9, 0.9])
      >>> one = Reliability.of(np.array([0, 0, 0, 1]), scores, 1.0)
      >>> one.shares[bins_of(scores)].tolist()
      [0.0, 0.0, 0.5, 0.5]
    """

    #: float64[BINS].
    rows: Floats
    #: float64[BINS]: a fraud that stands for others counts as many.
    frauds: Floats
    #: Mean number of frauds of a week on the card or at the merchant of a fraud, itself included:
    #: n frauds say as much as n / together independent ones.
    together: float

    @classmethod
    def of(cls, labels: npt.NDArray[np.int8], scores: Floats, together: float) -> Reliability:
        """Count n rows.

        Args:
          labels: int8[n], 1 is fraud.
          scores: float64[n].
          together: see the field.
        """
        bins = bins_of(scores)
        return cls(_counts(bins), _counts(bins[labels == 1]), together)

    def with_rows(self, rows: Floats, frauds: Floats) -> Reliability:
        """Return the counts with more rows, float64[BINS], and frauds, float64[BINS]."""
        return Reliability(self.rows + rows, self.frauds + frauds, self.together)

    @cached_property
    def shares(self) -> Floats:
        """float64[BINS]: share of frauds of each score, never falling (isotonic regression).

        Steps keep the number of frauds of each range of scores. Scores without rows lie in between.
        """
        there = self.rows > 0
        shares = np.divide(self.frauds, self.rows, out=np.zeros(BINS), where=there)
        fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        fit.fit(np.flatnonzero(there), shares[there], sample_weight=self.rows[there])
        fitted: Floats = fit.predict(np.arange(BINS))
        return fitted

    def to_parquet(self) -> bytes:
        """Encode the counts as a small Parquet file, a row for each score."""
        there = np.flatnonzero(self.rows > 0)
        columns = {
            "score": MIDDLES[there],
            "rows": self.rows[there].astype(np.int64),
            "frauds": self.frauds[there].astype(np.int64),
        }
        table = pa.table(columns).replace_schema_metadata({_TOGETHER: repr(self.together)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return bytes(sink.getvalue())

    @classmethod
    def from_parquet(cls, data: bytes) -> Reliability:
        """Decode counts of whole rows; the inverse of `to_parquet`."""
        table = pq.read_table(pa.BufferReader(data))
        bins = bins_of(table["score"].to_numpy())
        rows, frauds = (
            np.bincount(bins, table[name].to_numpy(), BINS).astype(np.float64)
            for name in ("rows", "frauds")
        )
        return cls(rows, frauds, float(table.schema.metadata[_TOGETHER]))


def frauds_together(weeks: Ints, keys: Sequence[npt.NDArray[np.generic]]) -> float:
    """Return the mean number of frauds of a week on the card, or at the merchant, of a fraud.

    Frauds come in campaigns: those of one stolen card, or of one compromised terminal, are caught
    or missed together.

    Args:
      weeks: int64[n], the week of each fraud.
      keys: arrays[n]: its card, its merchant; none if unknown.

    Example:
      >>> frauds_together(np.array([1, 1, 1, 2]), [np.array(["a", "a", "b", "a"])])
      1.5
    """
    if not len(weeks) or not keys:
        return 1.0
    sizes = np.ones(len(weeks), dtype=np.int64)
    for key in keys:
        codes = np.unique(key, return_inverse=True)[1].astype(np.int64)
        of_week = codes * (int(weeks.max() - weeks.min()) + 1) + (weeks - weeks.min())
        _, inverse, counts = np.unique(of_week, return_inverse=True, return_counts=True)
        sizes = np.maximum(sizes, counts[inverse])
    return float(sizes.mean())
