"""Add reasons to flagged rows."""

from __future__ import annotations

from itertools import pairwise
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.reasons.explainer import Explainer, Floats
from beam_fraud.decisions.reasons.registry import explainer_of
from beam_fraud.decisions.reasons.wording import Wording
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, read_reference, shared_model
from beam_fraud.models.reference import usual_values
from beam_fraud.schema.stages import REASON, SCORED

#: Number of features that are always reasons.
LEAST = 3
#: Minimum share of further features in all that raised the score.
SHARE = 0.05
_FIELDS, _LISTED = list(REASON), SCORED.field("reasons").type
_NAMES = [field.name for field in REASON]


def choose(contributions: Floats, most: int) -> npt.NDArray[np.int64]:
    """Return the features that moved each score most.

    Features that raised the score come first, largest contribution first: three of them, and others
    with at least 5 % of all that raised it. If fewer than three raised it, those that lowered it
    most follow. A feature without contribution is no reason. Ties go to the earlier feature.

    Args:
      contributions: float64[n, features].
      most: maximum of reasons per row.

    Returns:
      int64[n, k]: positions of features, k at most `most`; -1 where a row has fewer.
    """
    size, raised = np.abs(contributions), contributions > 0
    group = np.where(raised, 0, np.where(size > 0, 1, 2))
    order = np.lexsort((-size, group), axis=1)[:, :most].astype(np.int64)
    ranked = contributions[np.arange(len(order))[:, None], order]
    total = np.where(raised, contributions, 0.0).sum(axis=1, keepdims=True)
    first = np.arange(order.shape[1]) < LEAST
    selected = (first & (ranked != 0)) | ((ranked > 0) & (ranked >= SHARE * total))
    return np.where(selected, order, -1)


class Reasons:
    """Reasons of one model's scores."""

    def __init__(
        self, explainer: Explainer, features: FeatureSet, typical: Floats, most: int
    ) -> None:
        """Prepare the wording.

        Args:
          explainer: explainer of the model.
          features: the model's features.
          typical: float64[features], NaN where unknown.
          most: maximum of reasons per row.
        """
        self._explainer = explainer
        self._names = features.names
        self._wording = Wording(features, typical)
        self._most = most

    @classmethod
    def of(cls, bundle: Bundle, most: int) -> Reasons:
        """Return the reasons of a bundle's model, at most `most` per row.

        Raises:
          FraudError: the model or its reference has changed since the bundle was opened.
        """
        features, reference = bundle.features, read_reference(bundle)
        explainer = explainer_of(shared_model(bundle), features, reference)
        return cls(explainer, features, usual_values(reference, features), most)

    def add(
        self, scored: pa.RecordBatch, block: Floats, seen: npt.NDArray[np.bool_] | None = None
    ) -> pa.RecordBatch:
        """Fill the column `reasons` of the rows that people see.

        Args:
          scored: n rows of `stages.SCORED`.
          block: float64[n, features], the model's input.
          seen: the rows that people see, bool[n]; None for the flagged ones.

        Returns:
          The rows; `reasons` is null in rows that people do not see.
        """
        if seen is None:
            seen = np.asarray(scored.column("flagged").to_numpy(zero_copy_only=False), dtype=bool)
        if not seen.any():
            return scored
        reasons, counts = self._columns(block[seen])
        ends = np.zeros(len(seen) + 1, dtype=np.int32)
        ends[1:][seen] = counts
        np.cumsum(ends, out=ends)
        mask = None if seen.all() else pa.array(~seen)
        column = pa.ListArray.from_arrays(pa.array(ends), reasons, type=_LISTED, mask=mask)
        place = scored.schema.get_field_index("reasons")
        return scored.set_column(place, scored.schema.field(place), column)

    def of_rows(self, block: Floats) -> list[list[dict[str, Any]]]:
        """Return the reasons of a few flagged rows, of the model's input, float64[n, features]."""
        found, counts = self._found(block)
        listed = [
            dict(zip(_NAMES, (name, None if isnan(value) else value, *rest), strict=True))
            for name, value, *rest in zip(*found, strict=True)
        ]
        ends = np.cumsum(counts).tolist()
        return [listed[start:end] for start, end in pairwise([0, *ends])]

    def _columns(self, block: Floats) -> tuple[pa.StructArray, npt.NDArray[np.int64]]:
        """Return the reasons of all rows, concatenated, and the number per row."""
        found, counts = self._found(block)
        columns = [
            pa.array(values, field.type, from_pandas=True)
            for values, field in zip(found, _FIELDS, strict=True)
        ]
        return pa.StructArray.from_arrays(columns, fields=_FIELDS), counts

    def _found(self, block: Floats) -> tuple[tuple[list[Any], ...], npt.NDArray[np.int64]]:
        """Return the fields of all reasons of all rows, and the number of reasons per row."""
        contributions = self._explainer.contributions(block)
        chosen = choose(contributions, self._most)
        found = chosen >= 0
        row, rank = np.nonzero(found)
        feature = chosen[row, rank]
        places, values = feature.tolist(), block[row, feature].tolist()
        added = contributions[row, feature].tolist()
        totals = block[row, self._wording.totals[feature]].tolist()
        texts = [
            self._wording.text(at, number, of, lowers=change < 0)
            for at, number, of, change in zip(places, values, totals, added, strict=True)
        ]
        names = [self._names[at] for at in places]
        approximate = [self._explainer.approximate] * len(places)
        return (names, values, added, texts, approximate), found.sum(axis=1)


def reasons_of(bundle: Bundle, most: int) -> Reasons | None:
    """Return the reasons of a bundle's model, at most `most` per row; None for 0.

    Raises:
      FraudError: the model or its reference has changed since the bundle was opened.
    """
    return Reasons.of(bundle, most) if most else None
