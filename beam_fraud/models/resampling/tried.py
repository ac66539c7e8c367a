"""Results of one resampler on validation rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """A line of the comparison of resamplers."""

    #: Its form on the command line; `none` without resampling.
    resample: str
    #: Training rows of the last fold, and frauds among them; None if it failed.
    rows: int | None
    frauds: int | None
    #: Average precision of the validation rows, mean over folds; None if it failed.
    average_precision: float | None
    #: 90 % interval of the gain over `none`, by bootstrap of the validation rows.
    gain: tuple[float, float] | None
    #: Seconds to resample, fit and score.
    seconds: float
    #: Whether it was chosen.
    chosen: bool = False
    #: Reason of its failure; empty without one.
    reason: str = ""
