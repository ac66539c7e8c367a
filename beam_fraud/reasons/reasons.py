"""Flagged rows to rows with reasons."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, read_reference
from beam_fraud.models.loaded import shared_model
from beam_fraud.reasons.choice import choose
from beam_fraud.reasons.explainer import Explainer, Floats
from beam_fraud.reasons.registry import explainer_of
from beam_fraud.reasons.usual import usual_values
from beam_fraud.reasons.wording import Wording
from beam_fraud.stages import REASON, SCORED


class Reasons:
    """What moved the scores of one model."""

    def __init__(
        self, explainer: Explainer, features: FeatureSet, usual: Floats, most: int
    ) -> None:
        """Prepare the words.

        Args:
          explainer: of the model.
          features: what the model takes.
          usual: float64[features], NaN where it is not known.
          most: reasons a row at most.
        """
        self._explainer = explainer
        self._names = pa.array(features.names, pa.string())
        self._wording = Wording(features, usual)
        self._most = most

    @classmethod
    def of(cls, bundle: Bundle, most: int) -> Reasons:
        """The reasons of a bundle's model, `most` a row at most.

        Raises:
          FraudError: the model or its reference has changed since the bundle was opened.
        """
        features, reference = bundle.features, read_reference(bundle)
        explainer = explainer_of(shared_model(bundle), features, reference)
        return cls(explainer, features, usual_values(reference, features), most)

    def add(self, scored: pa.RecordBatch, block: Floats) -> pa.RecordBatch:
        """Put reasons into the column `reasons` of flagged rows.

        Args:
          scored: n rows of `stages.SCORED`.
          block: float64[n, features], what the model was given.

        Returns:
          The rows; `reasons` is null where a row is not flagged.
        """
        flagged = np.asarray(scored.column("flagged").to_numpy(zero_copy_only=False), dtype=bool)
        if not flagged.any():
            return scored
        found, counts = self._reasons(block[flagged])
        lengths = np.zeros(len(flagged), dtype=np.int32)
        lengths[flagged] = counts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        column = pa.ListArray.from_arrays(
            pa.array(offsets), found, type=SCORED.field("reasons").type, mask=pa.array(~flagged)
        )
        place = scored.schema.get_field_index("reasons")
        return scored.set_column(place, scored.schema.field(place), column)

    def _reasons(self, block: Floats) -> tuple[pa.StructArray, np.ndarray]:
        """The reasons of all rows one after the other, and how many each row has."""
        with warnings.catch_warnings():
            # A model that was fitted on a data frame takes the same columns without their names.
            warnings.filterwarnings("ignore", message=".*does not have valid feature names.*")
            contributions = self._explainer.contributions(block)
        chosen = choose(contributions, self._most)
        row, rank = np.nonzero(chosen >= 0)
        feature = chosen[row, rank]
        value, contribution = block[row, feature], contributions[row, feature]
        total = block[row, self._wording.totals[feature]]
        given = (feature, value, total, contribution)
        text = [
            self._wording.text(at, number, of, lowers=added < 0)
            for at, number, of, added in zip(*(column.tolist() for column in given), strict=True)
        ]
        columns = [
            self._names.take(pa.array(feature)),
            pa.array(value, from_pandas=True),
            pa.array(contribution),
            pa.array(text, pa.string()),
            pa.repeat(self._explainer.approximate, len(text)),
        ]
        found = pa.StructArray.from_arrays(columns, fields=list(REASON))
        return found, np.count_nonzero(chosen >= 0, axis=1)
