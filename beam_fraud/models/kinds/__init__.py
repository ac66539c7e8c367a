"""The kinds of model to train, one per file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.kinds.ensemble import Average, RankAverage, Stacking
from beam_fraud.models.kinds.forest import ExtraTrees, Forest
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from beam_fraud.models.kinds.isolation_forest import IsolationForest
from beam_fraud.models.kinds.keras import Keras
from beam_fraud.models.kinds.lightgbm import LightGBM
from beam_fraud.models.kinds.logistic import Logistic
from beam_fraud.models.kinds.mlp import MLP
from beam_fraud.models.kinds.xgboost import XGBoost
from beam_fraud.wording import did_you_mean

__all__ = ["KINDS", "ModelKind", "model_kind", "with_settings"]

#: Name to kind with default settings.
KINDS: dict[str, ModelKind] = {
    kind.name: kind
    for kind in (
        Logistic(),
        Forest(),
        ExtraTrees(),
        HistGradientBoosting(),
        XGBoost(),
        LightGBM(),
        MLP(),
        Keras(),
        IsolationForest(),
        Average(),
        RankAverage(),
        Stacking(),
    )
}


def model_kind(name: str, settings: Sequence[str] = ()) -> ModelKind:
    """Return the kind of this name.

    Args:
      name: one of `KINDS`; the members of an ensemble may follow, as in `average:forest+xgboost`.
      settings: `NAME=VALUE` pairs that replace defaults.

    Raises:
      UsageError: the name is unknown (the message names the nearest), or a setting is.
    """
    first, colon, members = name.partition(":")
    if first not in KINDS:
        hint = did_you_mean(first, KINDS, form=str, likeness=0.4)
        raise UsageError(
            f"--model {name}: no such kind; {hint} (kinds: {', '.join(KINDS)})", Code.MODEL_KIND
        )
    kind = KINDS[first]
    if colon:
        kind = kind.of([model_kind(member) for member in members.split("+")])
    return with_settings(kind, settings)


def with_settings(kind: ModelKind, settings: Sequence[str]) -> ModelKind:
    """Return a kind with other settings.

    Args:
      kind: the kind to change.
      settings: `NAME=VALUE` pairs.

    Raises:
      UsageError: a setting is unknown, or its value has another type.
    """
    for text in settings:
        kind = _with_setting(kind, text)
    return kind


def _with_setting(kind: ModelKind, text: str) -> ModelKind:
    name, equals, value = text.partition("=")
    part, dot, inner = name.partition(".")
    if dot and part in kind.parts:
        return kind.with_part(part, _with_setting(kind.parts[part], inner + equals + value))
    names = [field.name for field in fields(kind) if _is_plain(getattr(kind, field.name))]
    if not equals or name not in names:
        known = ", ".join([*names, *(f"{part}.…" for part in kind.parts)]) or "none"
        raise UsageError(
            f"--set {text}: must be NAME=VALUE, of {kind.name}'s settings: {known}",
            Code.MODEL_SETTING,
        )
    now = getattr(kind, name)
    try:
        read = _read(value, now)
    except ValueError:
        raise UsageError(
            f"--set {text}: {name} is {_FORMS[type(now)]}, as in {now}", Code.MODEL_SETTING
        ) from None
    return replace(kind, **{name: read})


#: Type of a setting to a description of its values.
_FORMS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "numbers with commas between them",
}


def _is_plain(value: Any) -> bool:
    numbers = isinstance(value, tuple) and all(isinstance(item, float) for item in value)
    return numbers or isinstance(value, bool | int | float | str)


def _read(text: str, now: Any) -> Any:
    if isinstance(now, bool):
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    if isinstance(now, tuple):
        return tuple(float(item) for item in text.split(","))
    return type(now)(text)
