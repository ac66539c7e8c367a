"""Reference distributions of the training rows, against which drift and reasons compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.decisions.reasons.explainer import Floats
from beam_fraud.features.matrix import FeatureSet

#: Quantiles that divide a feature's values into bins.
FEATURE_QUANTILES = np.arange(1, 10) / 10
#: Quantiles of the score, dense in the tail: nearly all scores are near 0.
SCORE_QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999])
#: Name of the score's distribution.
SCORE = "score"

_SCHEMA = pa.schema(
    [
        pa.field("feature", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("edges", pa.list_(pa.float64())),
        pa.field("categories", pa.list_(pa.string())),
        pa.field("counts", pa.list_(pa.int64()), nullable=False),
        pa.field("missing", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Distribution:
    """Counts of a feature's values.

    k `edges` make k + 1 bins: up to the first edge, between edges (the upper one included), above
    the last. k `categories` make k + 1 counts: one each, then of unknown ones.
    """

    #: Name of the feature, or `score`.
    feature: str
    #: Whether `edges` or `categories` define the counts.
    kind: Literal["numeric", "categorical"]
    #: Increasing bounds of the bins.
    edges: tuple[float, ...]
    #: The known values.
    categories: tuple[str, ...]
    #: Rows in each bin or category.
    counts: tuple[int, ...]
    #: Rows without a value.
    missing: int


@dataclass(frozen=True)
class Reference:
    """The distributions of every feature, then of the score; empty for an imported model."""

    #: In the order of the model's features, `score` last.
    distributions: tuple[Distribution, ...] = ()

    def to_parquet(self) -> bytes:
        """Encode the reference as a small Parquet file, a row per distribution."""
        rows = [vars(distribution) for distribution in self.distributions]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink)
        return bytes(sink.getvalue())

    @classmethod
    def from_parquet(cls, data: bytes) -> Reference:
        """Decode a reference; the inverse of `to_parquet`."""
        rows = pq.read_table(pa.BufferReader(data)).to_pylist()
        listed = ("edges", "categories", "counts")
        return cls(tuple(Distribution(**{**r, **{n: tuple(r[n]) for n in listed}}) for r in rows))


def reference_of(
    matrix: npt.NDArray[np.float64], features: FeatureSet, scores: npt.NDArray[np.float64]
) -> Reference:
    """Count a model's feature values and scores.

    Args:
      matrix: float64[n, features] of the fitted rows.
      features: what the columns are.
      scores: float64[m] of rows that the model was not fitted on: it is surer on the fitted ones.
    """
    columns = [
        count_categories(name, matrix[:, i], features.categories.get(name, ()))
        if i in features.categorical
        else count_bins(name, matrix[:, i], bin_edges(matrix[:, i], FEATURE_QUANTILES))
        for i, name in enumerate(features.names)
    ]
    score = count_bins(SCORE, scores, bin_edges(scores, SCORE_QUANTILES))
    return Reference((*columns, score))


def bin_edges(
    values: npt.NDArray[np.float64], quantiles: npt.NDArray[np.float64]
) -> tuple[float, ...]:
    """Return the distinct quantiles of the present values, increasing; empty without values."""
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    return tuple(np.unique(np.quantile(present, quantiles, method="inverted_cdf")).tolist())


def count_bins(
    feature: str, values: npt.NDArray[np.float64], edges: tuple[float, ...]
) -> Distribution:
    """Count float64[n] values, NaN for absent ones, in the bins between `edges`."""
    present = values[~np.isnan(values)]
    bins = np.searchsorted(np.asarray(edges), present, side="left")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return Distribution(
        feature, "numeric", edges, (), tuple(counts.tolist()), len(values) - len(present)
    )


def count_categories(
    feature: str, codes: npt.NDArray[np.float64], categories: tuple[str, ...]
) -> Distribution:
    """Count float64[n] category codes of `code_categories`."""
    present = codes[~np.isnan(codes)].astype(np.int64)
    counts = np.bincount(present, minlength=len(categories) + 1)
    return Distribution(
        feature, "categorical", (), categories, tuple(counts.tolist()), len(codes) - len(present)
    )


def usual_values(reference: Reference, features: FeatureSet) -> Floats:
    """Return the usual value of each feature of a model.

    Args:
      reference: its reference distributions; empty if unknown.
      features: its features.

    Returns:
      float64[features]: the median, or the code of the most frequent category; NaN if unknown.
    """
    known = {distribution.feature: distribution for distribution in reference.distributions}
    return np.array([_typical(known.get(name)) for name in features.names])


def _typical(distribution: Distribution | None) -> float:
    if distribution is None:
        return math.nan
    counts = np.asarray(distribution.counts)
    if distribution.kind == "categorical":
        return float(np.argmax(counts)) if counts.sum() else math.nan
    if not distribution.edges:
        return math.nan
    # Edges are distinct deciles: the median is one of them, but not always the middle one.
    return distribution.edges[int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))]
