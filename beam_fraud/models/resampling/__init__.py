"""Ways to make frauds less rare among the rows that a model is fitted on, one a file."""

from __future__ import annotations

import difflib
import math

from beam_fraud.errors import UsageError
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.resampling.bagging import BalancedBagging
from beam_fraud.models.resampling.base import OPTION, Resampler
from beam_fraud.models.resampling.resampled import Resampled, with_resampler
from beam_fraud.models.resampling.smote import Adasyn, Smote, SmoteEnn
from beam_fraud.models.resampling.under import Tomek, Under

__all__ = ["RESAMPLERS", "Resampled", "Resampler", "candidates", "resampled", "resampler"]

#: Name to resampler with its default settings.
RESAMPLERS: dict[str, Resampler] = {
    resampler.name: resampler
    for resampler in (Under(), Smote(), Adasyn(), Tomek(), SmoteEnn(), BalancedBagging())
}
#: Tries all of them.
COMPARE = "compare"


def candidates(text: str | None) -> tuple[Resampler, ...]:
    """Return what `--resample` asks to be compared; nothing unless it is `compare`."""
    return tuple(RESAMPLERS.values()) if text == COMPARE else ()


def resampled(kind: ModelKind, text: str | None) -> ModelKind:
    """Return a kind whose rows are resampled as the command line asks for.

    Args:
      kind: what is trained.
      text: `NAME`, `NAME=RATIO`, `none` or `compare`; None is `none`, and so is `compare` until
        something has been chosen.

    Raises:
      UsageError: there is no such resampler, the nearest is named; the ratio can't be; or the kind
        learns from no labels.
    """
    if text is None or text in ("none", COMPARE):
        return kind
    return with_resampler(kind, resampler(text))


def resampler(text: str) -> Resampler:
    """Read `NAME` or `NAME=RATIO`.

    Raises:
      UsageError: there is none of this name, or the ratio can't be.

    Example:
      >>> resampler("under=0.5")
      Under(frauds_per_genuine=0.5)
    """
    name, equals, ratio = text.partition("=")
    if name not in RESAMPLERS:
        nearest = difflib.get_close_matches(name, RESAMPLERS, n=1, cutoff=0.4)
        meant = f"did you mean {nearest[0]}? " if nearest else ""
        known = ", ".join(("none", *RESAMPLERS, COMPARE))
        raise UsageError(f"{OPTION} {text}: no such way to resample; {meant}(ways: {known})")
    found = RESAMPLERS[name]
    if not equals:
        return found
    try:
        wanted = float(ratio)
        if not 0 < wanted <= 1 or math.isnan(wanted):
            raise ValueError(ratio)
    except ValueError:
        raise UsageError(
            f"{OPTION} {text}: the ratio is frauds to a genuine row, above 0 and up to 1"
        ) from None
    try:
        return found.with_ratio(wanted)
    except ValueError:
        raise UsageError(f"{OPTION} {text}: {name} has no ratio") from None
