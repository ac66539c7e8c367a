"""What this package converts itself within the pipelines that skl2onnx converts."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from beam_fraud.models.network.classifier import KerasClassifier
from beam_fraud.models.onnx.forest import forest_trees
from beam_fraud.models.onnx.hist_gradient_boosting import hist_gradient_boosting_trees
from beam_fraud.models.onnx.imputer import convert_imputer, imputer_shapes
from beam_fraud.models.onnx.lightgbm import lightgbm_trees
from beam_fraud.models.onnx.network import convert_network
from beam_fraud.models.onnx.nodes import classifier_shapes
from beam_fraud.models.onnx.one_hot import convert_one_hot, one_hot_shapes
from beam_fraud.models.onnx.trees import Converter, tree_converter
from beam_fraud.models.onnx.xgboost import xgboost_trees

_FOREST = tree_converter(forest_trees, log_odds=False, single=True)
#: Class to converter.
_CLASSIFIERS: dict[type, Converter] = {
    RandomForestClassifier: _FOREST,
    ExtraTreesClassifier: _FOREST,
    DecisionTreeClassifier: _FOREST,
    HistGradientBoostingClassifier: tree_converter(
        hist_gradient_boosting_trees, log_odds=True, single=False
    ),
    KerasClassifier: convert_network,
}
#: The same by name: they are optional and take long to import.
_OPTIONAL = {
    ("xgboost", "XGBClassifier"): tree_converter(xgboost_trees, log_odds=True, single=True),
    ("lightgbm", "LGBMClassifier"): tree_converter(lightgbm_trees, log_odds=True, single=False),
}


def converters_for(model: Any) -> tuple[dict[type, Any], dict[type, Any]]:
    """What is to be converted here of a model.

    Args:
      model: a fitted classifier, or a pipeline that ends in one.

    Returns:
      Class to converter, and class to shape calculator, as skl2onnx takes them.
    """
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    classifiers = dict(_CLASSIFIERS)
    name = (type(last).__module__.split(".")[0], type(last).__name__)
    if name in _OPTIONAL:
        classifiers[type(last)] = _OPTIONAL[name]
    converters: dict[type, Any] = {
        **classifiers,
        OneHotEncoder: convert_one_hot,
        SimpleImputer: convert_imputer,
    }
    shapes: dict[type, Any] = {
        **dict.fromkeys(classifiers, classifier_shapes),
        OneHotEncoder: one_hot_shapes,
        SimpleImputer: imputer_shapes,
    }
    return converters, shapes
