"""Open model files of each format as classifiers."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib

from beam_fraud.errors import Code, FraudError, extra_module, is_installed
from beam_fraud.models.estimators.imported import LightGBMBooster
from beam_fraud.models.model_files.onnx_file import open_onnx
from beam_fraud.models.model_files.saved import MODULES, Format, SavedModel

#: Objectives of XGBoost whose predictions are probabilities.
_XGBOOST_OBJECTIVES = ("binary:logistic", "reg:logistic", "multi:softprob")
#: The same of LightGBM and CatBoost.
_LIGHTGBM_OBJECTIVES = ("binary", "cross_entropy", "multiclass", "multiclassova")
_CATBOOST_OBJECTIVES = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")
#: What these libraries would import for nothing, which takes a second.
_QUICK = "import sys; sys.modules.update(dict.fromkeys(('pandas', 'sklearn', 'pyarrow')))"
#: Programs that open a file of standard input and predict by it. Exceptions do not matter here: the
#: file is opened again where they are reported.
_TRIALS: dict[Format, str] = {
    "xgboost": f"""{_QUICK}
import numpy, xgboost
model = xgboost.Booster()
model.load_model(bytearray(sys.stdin.buffer.read()))
rows = numpy.zeros((2, model.num_features()))
model.predict(xgboost.DMatrix(rows, nthread=1), validate_features=False)
""",
    "lightgbm": f"""{_QUICK}
import numpy, lightgbm
model = lightgbm.Booster(model_str=sys.stdin.buffer.read().decode())
model.predict(numpy.zeros((2, model.num_feature())), num_threads=1)
""",
    "catboost": """
import sys, numpy, catboost
model = catboost.CatBoost()
model.load_model(blob=sys.stdin.buffer.read())
model.predict(numpy.full((2, len(model.feature_names_)), "0", dtype=object), thread_count=1)
""",
}
#: Longest time of a trial, in seconds.
_TRIAL_SECONDS = 600.0
_OBJECTIVE = re.compile(r"^objective=(\S+)", re.MULTILINE)


def open_file(saved: SavedModel, trust: bool) -> Any:
    """Open a model file.

    Args:
      saved: the file.
      trust: whether code in the file may run.

    Returns:
      A model with the functions of a scikit-learn estimator, as far as it has them.

    Raises:
      FraudError: the file runs code and is not trusted, a package is not installed, or the model
        gives no probabilities.
    """
    if saved.runs_code and not trust:
        raise FraudError(
            f"sha256 {saved.sha256}; opening it runs its code, so compare the digest with the "
            "author's, then repeat with --trust",
            Code.CONSENT_MISSING,
        )
    _check_survival(saved)
    match saved.format:
        case "skops":
            return as_classifier(_skops(saved, trust))
        case "xgboost":
            booster = extra_module("xgboost", "the file").Booster()
            booster.load_model(bytearray(saved.data))
            return _xgboost(booster)
        case "lightgbm":
            lightgbm = extra_module("lightgbm", "the file")
            return _lightgbm(lightgbm.Booster(model_str=saved.data.decode()))
        case "catboost":
            return _catboost(saved.data)
        case "onnx":
            return open_onnx(saved.data)
    return as_classifier(joblib.load(io.BytesIO(saved.data)))


def _check_survival(saved: SavedModel) -> None:
    """Check that a damaged file does not end the process.

    The boosting libraries read their files by C++ that trusts their contents: another process tries
    first.

    Raises:
      FraudError: that process was killed.
    """
    program = _TRIALS.get(saved.format)
    if program is None or not is_installed(MODULES[saved.format]) or not sys.executable:
        return
    try:
        done = subprocess.run(
            # Without -P a module of the working directory could stand for a library.
            [sys.executable, "-P", "-c", program],
            input=saved.data,
            capture_output=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:
        end = "does not end" if done is None else f"is killed by signal {-done.returncode}"
        raise FraudError(
            f"the file is damaged: {saved.format} {end} when it reads it; copy or save it again",
            Code.MODEL_UNSUITED,
        )


def as_classifier(opened: Any) -> Any:
    """Return what a file holds as a classifier, if that is known how.

    Raises:
      FraudError: it is a collection of objects, or a booster without probabilities.
    """
    kind = type(opened)
    if kind.__module__.startswith("xgboost.") and kind.__name__ == "Booster":
        return _xgboost(opened)
    if kind.__module__.startswith("xgboost.") and kind.__name__ == "XGBClassifier":
        return _current(opened)
    if kind.__module__.startswith("lightgbm.") and kind.__name__ == "Booster":
        return _lightgbm(opened)
    if kind.__module__.startswith("catboost.") and kind.__name__ == "CatBoost":
        with TemporaryDirectory() as directory:
            path = Path(directory) / "model.cbm"
            opened.save_model(str(path))
            return _catboost(path.read_bytes())
    if isinstance(opened, Mapping):
        models = [repr(key) for key, value in opened.items() if _predicts(value)]
        member = f"its member {' or '.join(models)}" if models else "the model"
        listed = ", ".join(map(str, list(opened)[:8]))
        raise FraudError(
            f"{kind.__name__} has no predict_proba: it is a collection of {listed or 'nothing'}; "
            f"save {member} alone",
            Code.MODEL_UNSUITED,
        )
    if isinstance(opened, list | tuple):
        steps = ", ".join(type(part).__name__ for part in opened[:8])
        raise FraudError(
            f"{kind.__name__} has no predict_proba: it is a collection of {steps or 'nothing'}; "
            "save one Pipeline of them (make_pipeline), or the model alone",
            Code.MODEL_UNSUITED,
        )
    return opened


def _predicts(value: Any) -> bool:
    return any(callable(getattr(value, name, None)) for name in ("predict_proba", "predict"))


def _skops(saved: SavedModel, trust: bool) -> Any:
    persisted = extra_module("skops.io", "the file")
    unknown = persisted.get_untrusted_types(data=saved.data)
    if unknown and not trust:
        raise FraudError(
            f"sha256 {saved.sha256}; it holds types that skops does not trust, whose code runs: "
            f"{', '.join(unknown)}; if you trust them, repeat with --trust",
            Code.CONSENT_MISSING,
        )
    return persisted.loads(saved.data, trusted=unknown)


def _xgboost(booster: Any) -> Any:
    """Return a booster as the classifier that predicts what its author's object does."""
    xgboost = extra_module("xgboost", "the file")
    # A saved classifier predicts by the trees up to the best iteration, a saved booster by all.
    if booster.attr("scikit_learn") is None:
        booster.set_attr(best_iteration=None)
    else:
        # A regressor's file opens as well if its objective gives probabilities.
        booster.set_attr(scikit_learn=None)
    model = xgboost.XGBClassifier(n_jobs=1)
    model.load_model(bytearray(booster.save_raw("ubj")))
    _check_objective("XGBoost", str(model.objective), _XGBOOST_OBJECTIVES)
    return model


def _current(model: Any) -> Any:
    """Return a classifier of XGBoost as one of this version, if it lacks attributes of it."""
    try:
        model.get_params()
        return model
    except AttributeError:
        booster = model.get_booster()
        booster.set_attr(scikit_learn="{}")
        return _xgboost(booster).set_params(missing=model.missing)


def _lightgbm(booster: Any) -> LightGBMBooster:
    match = _OBJECTIVE.search(booster.model_to_string())
    _check_objective("LightGBM", match[1] if match else "none", _LIGHTGBM_OBJECTIVES)
    return LightGBMBooster(booster)


def _catboost(data: bytes) -> Any:
    catboost = extra_module("catboost", "the file")
    model = catboost.CatBoostClassifier()
    if data.startswith(b"CBM1"):
        model.load_model(blob=data)
    else:
        with TemporaryDirectory() as directory:
            path = Path(directory) / "model.json"
            path.write_bytes(data)
            model.load_model(str(path), format="json")
    objective = str(model.get_all_params().get("loss_function", "none"))
    _check_objective("CatBoost", objective.partition(":")[0], _CATBOOST_OBJECTIVES)
    return model


def _check_objective(library: str, objective: str, known: tuple[str, ...]) -> None:
    if objective not in known:
        raise FraudError(
            f"{library} trained it with the objective {objective}, whose predictions are no "
            f"probabilities; train it with {known[0]}",
            Code.MODEL_UNSUITED,
        )
