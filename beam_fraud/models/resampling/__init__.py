"""Resamplers, which make frauds less rare among training rows, one per file."""

from __future__ import annotations

import math

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.resampling.bagging import BalancedBagging
from beam_fraud.models.resampling.base import OPTION, Resampled, Resampler, with_resampler
from beam_fraud.models.resampling.smote import Adasyn, Smote, SmoteEnn
from beam_fraud.models.resampling.under import Tomek, Under
from beam_fraud.wording import did_you_mean

__all__ = ["RESAMPLERS", "Resampled", "Resampler", "candidates", "resampled", "resampler"]

#: Name to resampler with default settings.
RESAMPLERS: dict[str, Resampler] = {
    resampler.name: resampler
    for resampler in (Under(), Smote(), Adasyn(), Tomek(), SmoteEnn(), BalancedBagging())
}
#: Value of the option that compares all resamplers.
COMPARE = "compare"


def candidates(text: str | None) -> tuple[Resampler, ...]:
    """Return the resamplers to compare: all for `compare`, else none."""
    return tuple(RESAMPLERS.values()) if text == COMPARE else ()


def resampled(kind: ModelKind, text: str | None) -> ModelKind:
    """Return a kind whose training rows are resampled by `--resample`.

    Args:
      kind: the kind to train.
      text: `NAME`, `NAME=RATIO`, `none` or `compare`; None means `none`, and so does `compare`
        until a resampler is chosen.

    Raises:
      UsageError: the resampler is unknown (the message names the nearest), the ratio is invalid, or
        the kind ignores labels.
    """
    if text is None or text in ("none", COMPARE):
        return kind
    return with_resampler(kind, resampler(text))


def resampler(text: str) -> Resampler:
    """Parse `NAME` or `NAME=RATIO`.

    Raises:
      UsageError: the name is unknown or the ratio invalid.

    Example:
      >>> resampler("under=0.5")
      Under(frauds_per_genuine=0.5)
    """
    name, equals, ratio = text.partition("=")
    if name not in RESAMPLERS:
        hint = did_you_mean(name, RESAMPLERS, form=str, likeness=0.4)
        known = ", ".join(("none", *RESAMPLERS, COMPARE))
        raise UsageError(
            f"{OPTION} {text}: no such way to resample; {hint} (ways: {known})", Code.OPTION_VALUE
        )
    chosen = RESAMPLERS[name]
    if not equals:
        return chosen
    try:
        target = float(ratio)
        if not 0 < target <= 1 or math.isnan(target):
            raise ValueError(ratio)
    except ValueError:
        raise UsageError(
            f"{OPTION} {text}: the ratio is frauds to a genuine row, above 0 and up to 1",
            Code.OPTION_VALUE,
        ) from None
    try:
        return chosen.with_ratio(target)
    except ValueError:
        raise UsageError(f"{OPTION} {text}: {name} has no ratio", Code.OPTION_VALUE) from None
