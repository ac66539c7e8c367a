"""Compare resamplers on validation rows, and take the best if it beats none."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.choosing import Chosen, choose
from beam_fraud.models.examples import FoldRows
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.metrics import gain_interval
from beam_fraud.models.resampling.base import OPTION, Resampler, rows_fitted_on, with_resampler
from beam_fraud.monitoring.activity import doing


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


Labels = npt.NDArray[np.int8]
#: Maximum of rows for resamplers that compare every pair of rows.
MOST_COMPARED = 60_000
_log = logging.getLogger(__name__)


def compare(
    kind: ModelKind, resamplers: Sequence[Resampler], rows: FoldRows, seed: int
) -> tuple[Chosen, tuple[Tried, ...]]:
    """Choose among resamplers and none by the validation rows of folds.

    No resampling wins unless the whole interval of a resampler's gain is above 0: the best of
    several leads the others by luck alone.

    Args:
      kind: the kind to train.
      resamplers: the resamplers to try beside none.
      rows: of each fold.
      seed: of everything random.

    Returns:
      The kind with the chosen resampler, if any, and the results of each.
    """
    best, line = _try(kind, None, rows, seed)
    plain, tried, at = best, [line], 0
    for resampler in resamplers:
        start = time.perf_counter()
        try:
            _check_time(resampler, rows)
            chosen, line = _try(kind, resampler, rows, seed)
        except FraudError as error:
            seconds = round(time.perf_counter() - start, 3)
            tried.append(Tried(str(resampler), None, None, None, None, seconds, reason=str(error)))
            continue
        interval = gain_interval(_labels(rows), plain.scores, chosen.scores, seed)
        tried.append(replace(line, gain=interval))
        if interval[0] > 0 and chosen.mean > best.mean:
            best, at = chosen, len(tried) - 1
    tried[at] = replace(tried[at], chosen=True)
    return best, tuple(tried)


def _try(
    kind: ModelKind, resampler: Resampler | None, rows: FoldRows, seed: int
) -> tuple[Chosen, Tried]:
    name = "none" if resampler is None else str(resampler)
    _log.info("trying --resample %s", name)
    start = time.perf_counter()
    with doing(f"--resample {name}"):
        chosen = choose(with_resampler(kind, resampler), rows, seed)
    seconds = round(time.perf_counter() - start, 3)
    last = rows.examples.labels[rows.folds[-1].train]
    fitted, frauds = rows_fitted_on(chosen.kind) or (len(last), int(last.sum()))
    return chosen, Tried(name, fitted, frauds, chosen.mean, None, seconds)


def _check_time(resampler: Resampler, rows: FoldRows) -> None:
    """Refuse a resampler that would take longer than all others together.

    Raises:
      FraudError: there are too many rows for it.
    """
    most = max(len(fold.train) for fold in rows.folds)
    if resampler.compares_pairs and most > MOST_COMPARED:
        raise FraudError(
            f"{OPTION} {resampler}: compares every pair of {most:,} rows, which takes long; ask "
            "for it alone",
            Code.RESAMPLING_IMPOSSIBLE,
        )


def _labels(rows: FoldRows) -> list[Labels]:
    return [rows.examples.labels[fold.valid] for fold in rows.folds]
