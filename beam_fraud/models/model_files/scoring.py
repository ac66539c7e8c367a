"""How a foreign model ranks rows: which class is fraud, and by which function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.base import is_outlier_detector

from beam_fraud.errors import Code, FraudError, UsageError

#: What the score of a decision function is, for people.
_MAPPED = "(1 + d / (1 + |d|)) / 2 of {}, which rises with it and is no probability"


@dataclass(frozen=True)
class Scoring:
    """How the scores of fraud follow from a model."""

    #: The function whose values are the scores.
    method: Literal["predict_proba", "decision_function"]
    #: Column of `predict_proba` that belongs to fraud.
    position: int
    #: -1 if a high decision means genuine.
    sign: int
    #: The class that is fraud.
    positive: str
    #: All classes.
    classes: tuple[str, ...]
    #: What a score is, in words.
    score: str


def scoring_of(model: Any, positive: str | None) -> Scoring:
    """Find out how a model ranks frauds.

    Args:
      model: fitted.
      positive: the class that is fraud, as the user writes it; None if the user says nothing.

    Raises:
      UsageError: the classes do not say which one is fraud, or none is `positive`.
      FraudError: the model gives neither probabilities nor decisions, or knows one class.
    """
    kind = type(model).__name__
    probable = callable(getattr(model, "predict_proba", None))
    decides = callable(getattr(model, "decision_function", None))
    if not probable and not decides:
        raise FraudError(
            f"{kind} has no predict_proba and no decision_function, so its answers have no order; "
            "save a fitted classifier that gives probabilities (a VotingClassifier with "
            "voting='soft')",
            Code.MODEL_UNSUITED,
        )
    if not probable and is_outlier_detector(model):
        return _detector(positive)
    classes = _classes(model)
    shown = tuple(map(str, classes))
    position = _position(kind, classes, positive)
    if probable:
        score = "its probability"
        return Scoring("predict_proba", position, 1, shown[position], shown, score)
    if len(classes) != 2:
        raise FraudError(
            f"{kind} decides between the classes {', '.join(shown)} without probabilities; save it "
            "behind CalibratedClassifierCV, or train it on two classes",
            Code.MODEL_UNSUITED,
        )
    sign = 1 if position == 1 else -1
    score = _MAPPED.format("its decision d" if sign == 1 else "d, the negative of its decision")
    return Scoring("decision_function", position, sign, shown[position], shown, score)


def _detector(positive: str | None) -> Scoring:
    if positive not in (None, "-1"):
        raise UsageError(
            f"--positive {positive}: a detector of outliers has no such class; outliers, -1, are "
            "fraud",
            Code.OPTION_VALUE,
        )
    score = _MAPPED.format("d, the negative of decision_function")
    return Scoring("decision_function", 0, -1, "-1", ("-1", "1"), score)


def _classes(model: Any) -> list[Any]:
    classes = list(getattr(model, "classes_", ()))
    if not classes and type(model).__module__.startswith("catboost."):
        return [0, 1]  # trained on probabilities, or without a list of classes
    if any(np.ndim(value) for value in classes):
        raise FraudError(
            f"{type(model).__name__} predicts several labels at once; train it on one",
            Code.MODEL_UNSUITED,
        )
    if not classes and hasattr(model, "output"):
        raise UsageError(
            "the graph names no classes; convert it with them (zipmap=True)", Code.MODEL_UNSUITED
        )
    if len(classes) < 2 and not (classes == [1] and hasattr(model, "output")):
        listed = ", ".join(map(str, classes)) or "none, it was never fitted"
        raise FraudError(
            f"{type(model).__name__} has the classes {listed}: two or more are needed",
            Code.MODEL_UNSUITED,
        )
    return classes


def _position(kind: str, classes: Sequence[Any], positive: str | None) -> int:
    listed = ", ".join(map(str, classes[:8]))
    if positive is None:
        if len(classes) <= 2 and all(_is_number(value, i) for value, i in _paired(classes)):
            return len(classes) - 1
        raise UsageError(
            f"{kind} has the classes {listed}, which do not say what is fraud; name that class by "
            "--positive VALUE",
            Code.OPTION_MISSING,
        )
    for position, value in enumerate(classes):
        if _same(value, positive):
            return position
    raise UsageError(f"--positive {positive}: {kind} has the classes {listed}", Code.OPTION_VALUE)


def _paired(classes: Sequence[Any]) -> list[tuple[Any, int]]:
    """Return each class with the number that it must be to need no confirmation: 0, then 1."""
    return list(zip(classes, (0, 1) if len(classes) == 2 else (1,), strict=True))


def _is_number(value: Any, number: int) -> bool:
    return isinstance(value, bool | int | float | np.bool_ | np.number) and value == number


def _same(value: Any, text: str) -> bool:
    if isinstance(value, bool | np.bool_) and text.casefold() == str(value).casefold():
        return True
    if isinstance(value, str):
        return str(value) == text
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return str(value) == text
