"""What one resampler did on the rows that choose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """A line of the comparison of resamplers."""

    #: As the command line gives it; `none` for the rows as they are.
    resample: str
    #: Rows fitted on, of the last fold, and frauds among them; None where it could not be done.
    rows: int | None
    frauds: int | None
    #: Of the validation rows, the mean of the folds; None where it could not be done.
    average_precision: float | None
    #: 90 % interval of the gain over `none`, by bootstrap of the validation rows.
    gain: tuple[float, float] | None
    #: To resample, fit and score.
    seconds: float
    #: Whether this one was taken.
    chosen: bool = False
    #: Why it could not be done; empty if it could.
    reason: str = ""
