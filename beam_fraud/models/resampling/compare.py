"""All resamplers tried on the validation rows, and the best taken if it is better than none."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from beam_fraud.errors import FraudError
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.base import Resampler
from beam_fraud.models.resampling.noise import gain_interval
from beam_fraud.models.resampling.resampled import Resampled
from beam_fraud.models.resampling.tried import Tried

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestResampled(Resampled):
    """Another kind, with whichever resampler is clearly better than none on validation rows.

    Rows as they are win unless the whole interval of a resampler's gain is above nothing: the
    best of several is above the others by luck alone.
    """

    #: What is tried beside no resampler at all.
    candidates: tuple[Resampler, ...] = ()

    name: ClassVar[str] = "resampled"

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose the resampler, and the kind's settings with it."""
        kind, plain, line = self._try(None, train, valid, seed)
        best, best_scores, at = replace(self, kind=kind, resampler=None), plain, 0
        tried = [line]
        for resampler in self.candidates:
            _log.info("trying --resample %s", resampler)
            start = time.perf_counter()
            try:
                kind, scores, line = self._try(resampler, train, valid, seed)
            except FraudError as error:
                seconds = round(time.perf_counter() - start, 3)
                tried.append(
                    Tried(str(resampler), None, None, None, None, seconds, reason=str(error))
                )
                continue
            line = replace(line, gain=gain_interval(valid.labels, plain, scores, seed))
            tried.append(line)
            if _better(line, tried[at]):
                best, best_scores = replace(self, kind=kind, resampler=resampler), scores
                at = len(tried) - 1
        tried[at] = replace(tried[at], chosen=True)
        return replace(best, tried=tuple(tried), candidates=()), best_scores

    def _try(
        self, resampler: Resampler | None, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[ModelKind, npt.NDArray[np.float64], Tried]:
        start = time.perf_counter()
        fitted_on = train if resampler is None else resampler.resample(train, seed)
        if resampler is None:
            kind, scores = self.kind.validate(train, valid, seed)
        else:
            kind, scores = resampler.validate(self.kind, train, fitted_on, valid, seed)
        line = Tried(
            "none" if resampler is None else str(resampler),
            len(fitted_on.labels),
            int(fitted_on.labels.sum()),
            float(average_precision_score(valid.labels, scores)),
            None,
            round(time.perf_counter() - start, 3),
        )
        return kind, scores, line


def _better(line: Tried, best: Tried) -> bool:
    if line.gain is None or line.average_precision is None or best.average_precision is None:
        return False
    return line.gain[0] > 0 and line.average_precision > best.average_precision
