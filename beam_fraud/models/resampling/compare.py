"""All resamplers tried on the validation rows, and the best taken if it is better than none."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import FraudError
from beam_fraud.models.choosing import Chosen, choose
from beam_fraud.models.examples import FoldRows
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.resampling.base import OPTION, Resampler
from beam_fraud.models.resampling.noise import gain_interval
from beam_fraud.models.resampling.resampled import rows_fitted_on, with_resampler
from beam_fraud.models.resampling.tried import Tried
from beam_fraud.monitoring.activity import doing

Labels = npt.NDArray[np.int8]
#: Rows up to which ways that look at every pair of rows are tried beside others.
MOST_COMPARED = 60_000
_log = logging.getLogger(__name__)


def compare(
    kind: ModelKind, resamplers: Sequence[Resampler], rows: FoldRows, seed: int
) -> tuple[Chosen, tuple[Tried, ...]]:
    """Choose between resamplers, and none, by the validation rows of folds.

    Rows as they are win unless the whole interval of a resampler's gain is above nothing: the
    best of several is above the others by luck alone.

    Args:
      kind: what is trained.
      resamplers: what is tried beside none.
      rows: of each fold.
      seed: of everything random.

    Returns:
      The kind with the resampler that was taken, if any, and what each of them did.
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
    """Refuse what would take longer than all the rest together.

    Raises:
      FraudError: it would.
    """
    most = max(len(fold.train) for fold in rows.folds)
    if resampler.compares_pairs and most > MOST_COMPARED:
        raise FraudError(
            f"{OPTION} {resampler}: compares every pair of {most:,} rows, which takes long; ask "
            "for it alone"
        )


def _labels(rows: FoldRows) -> list[Labels]:
    return [rows.examples.labels[fold.valid] for fold in rows.folds]
