"""How MLflow loads an exported bundle: the loader module of its pyfunc flavour.

`mlflow.pyfunc.load_model(uri).predict(frame)` returns the scores of the bundle, in every bit. The
digests of the bundle are compared before its model is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import Bundle, load_model
from beam_fraud.models.mlflow.directory import exported_bundle
from beam_fraud.models.predict import libraries_loaded, predict_scores, use_one_thread


class BundleScorer:
    """The model of a bundle, which scores data frames of features.

    Args:
      bundle: a checked bundle.

    Raises:
      FraudError: the model is damaged, or a package that it needs is missing.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._features = bundle.features
        self._model = load_model(bundle)
        libraries_loaded()

    def predict(
        self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the scores of n transactions whose features are computed.

        Args:
          rows: n rows with a column for each feature, in any order, as `beam-fraud features` writes
            them: numbers, and categories as text; NaN or None where a value is absent.
          params: none are known.

        Returns:
          float64[n] in 0..1.

        Raises:
          FraudError: a column is missing or of another type.
        """
        names = self._features.names
        for name in names:
            if name not in rows.columns:
                raise FraudError(
                    f"the model needs the feature {name!r}, which is no column of the rows",
                    Code.COLUMN_MISSING,
                )
        categorical = {names[place] for place in self._features.categorical}
        numbers = {name: _numbers(rows[name]) for name in names if name not in categorical}
        texts = {name: _texts(rows[name]) for name in names if name in categorical}
        # A batch without columns has no rows.
        batch = pa.RecordBatch.from_pydict({"row": pa.nulls(len(rows)), **texts})
        use_one_thread()
        return predict_scores(self._model, feature_matrix(batch, self._features, numbers))


def _numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    if not pd.api.types.is_numeric_dtype(column.dtype):
        raise _another_type(column, "numbers are needed")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _texts(column: pd.Series[Any]) -> pa.Array:
    try:
        return pa.array(column.astype(object), pa.string(), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Whole numbers that became 5411.0 beside an absent one would be unknown categories.
        raise _another_type(column, "text is needed") from None


def _another_type(column: pd.Series[Any], needed: str) -> FraudError:
    return FraudError(f"column {column.name!r} has {column.dtype}; {needed}", Code.COLUMN_TYPE)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] = MappingProxyType({})) -> BundleScorer:
    """Load an exported bundle for MLflow.

    Args:
      path: directory of the bundle.
      model_config: the `config` of the export's pyfunc flavour.

    Raises:
      FraudError: the bundle is damaged, or not the one that was exported.
    """
    return BundleScorer(exported_bundle(Path(path), model_config))
