"""Try a foreign model on random rows before it scores transactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.foreign import reason_of
from beam_fraud.models.model_files.columns import ModelColumns
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.schema import ID_ROLES

#: Rows of the trial prediction.
_TRIED_ROWS = 100

Floats = npt.NDArray[np.float64]


class Probe:
    """Random rows that a model should score."""

    def __init__(self, columns: ModelColumns, features: FeatureSet) -> None:
        self._columns = columns
        self._features = features

    def rows(self, count: int) -> Floats:
        """float64[count, features]: numbers above 0, and known categories."""
        random = np.random.default_rng(0)
        rows = np.abs(random.normal(size=(count, len(self._features.names))))
        for place, name in enumerate(self._features.names):
            if place in self._features.categorical:
                known = max(1, len(self._features.categories[name]))
                rows[:, place] = random.integers(0, known, size=count)
            elif numbers := self._numbers(place):
                rows[:, place] = random.choice(numbers, size=count)
        return rows

    def _numbers(self, place: int) -> list[float]:
        """Return the numbers that an encoder of this numeric feature knows."""
        encoding = self._columns.encodings.get(place)
        values = () if encoding is None or encoding.values is None else encoding.values
        return [float(v) for v in values if v is not None and v == v]

    def check_scores(self, model: Any) -> None:
        """Check that the model gives each row a probability.

        Raises:
          FraudError: it does not, or it cannot score a new category or a row without an optional
            field.
        """
        rows = self.rows(_TRIED_ROWS)
        scores = predict_scores(model, rows)
        if scores.shape != (_TRIED_ROWS,) or not np.isfinite(scores).all():
            raise FraudError(
                "predict_proba does not give each row a probability", Code.MODEL_UNSUITED
            )
        if scores.min() < 0 or scores.max() > 1:
            raise FraudError("predict_proba gives values outside 0 to 1", Code.MODEL_UNSUITED)
        self._check_unknown(model, rows[:1])
        self._check_missing(model, rows[:1])

    def same_scores(self, model: Any, framed: Any) -> bool:
        """Return whether two forms of a model score alike, or the second cannot score at all."""
        rows = self.rows(_TRIED_ROWS)
        try:
            expected = predict_scores(framed, rows)
        except Exception:  # a foreign model may raise anything
            return True
        try:
            return bool(np.allclose(predict_scores(model, rows), expected, rtol=0, atol=1e-12))
        except Exception:
            return False

    def _check_unknown(self, model: Any, row: Floats) -> None:
        """Check that the model scores a category that it does not know."""
        for place, name in enumerate(self._features.names):
            row = row.copy()
            if place in self._features.categorical:
                row[:, place] = len(self._features.categories[name])
            elif numbers := self._numbers(place):
                row[:, place] = max(numbers) + 1
            else:
                continue
            reason = _failure(model, row)
            if reason:
                raise FraudError(
                    f"can't score a row with a new value of {name!r} ({reason}); let its encoder "
                    "ignore what it does not know (handle_unknown='ignore')",
                    Code.MODEL_UNSUITED,
                )

    def _check_missing(self, model: Any, row: Floats) -> None:
        """Check that the model scores rows without the optional fields of the schema."""
        row, absent = row.copy(), _may_be_absent(self._features)
        row[:, [self._features.names.index(name) for name in absent]] = np.nan
        reason = _failure(model, row)
        if reason:
            raise FraudError(
                f"can't score a row without {', '.join(map(repr, absent))}, which the "
                f"schema {self._features.schema.name} lets be absent ({reason}); put an imputer "
                "before the model, or reject such rows in the schema",
                Code.MODEL_UNSUITED,
            )


def _failure(model: Any, row: Floats) -> str:
    """Return why a model cannot score a row; "" if it can."""
    try:
        return "" if np.isfinite(predict_scores(model, row)).all() else "the score is not a number"
    except Exception as error:  # a foreign model may raise anything
        return reason_of(error)


def _may_be_absent(features: FeatureSet) -> list[str]:
    allowed = {f.column for f in features.schema.features if f.missing == "allow"}
    for spec in features.velocity:
        # A key other than account and merchant may be absent, and all its features with it.
        keyed = set(spec.key) <= set(ID_ROLES)
        allowed.update(spec.undefined_names if keyed else spec.names)
    return [name for name in features.names if name in allowed]
