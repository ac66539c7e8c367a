"""Recognise pipeline steps whose output column i depends on input column i alone."""

from __future__ import annotations

from typing import Any

from sklearn.impute import SimpleImputer
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

_SCALERS = (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)


def keeps_columns(step: Any) -> bool:
    """Return whether output column i of a fitted step depends on input column i alone."""
    if step is None or step == "passthrough" or isinstance(step, _SCALERS):
        return True
    if isinstance(step, SimpleImputer):
        # It drops columns without a value, and may add indicators of NaN.
        return len(step.get_feature_names_out()) == step.n_features_in_ and not step.add_indicator
    return False
