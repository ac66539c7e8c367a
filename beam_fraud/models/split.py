"""Which rows a model is fitted on, and which rows choose."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.model_selection import train_test_split

from beam_fraud.errors import FraudError

#: Share of the rows that choose, where no time is given.
VALIDATION_SHARE = 0.2
#: Share of the rows that a stratified split holds out, as published work does.
HELD_OUT_SHARE = 0.3


@dataclass(frozen=True)
class Split:
    """Positions of rows, in time order."""

    #: int64: rows that the candidate is fitted on.
    train: npt.NDArray[np.int64]
    #: int64: rows that settings and threshold are chosen on.
    valid: npt.NDArray[np.int64]
    #: int64: rows that are reported on and nothing else; none where the validation rows are.
    held_out: npt.NDArray[np.int64]

    @property
    def refit(self) -> npt.NDArray[np.int64]:
        """int64: rows that the final model is fitted on, all but the held-out ones."""
        return np.sort(np.concatenate([self.train, self.valid]))


def split_by_time(event_time: pa.ChunkedArray, valid_from: datetime | None) -> Split:
    """Earlier rows to fit on, later rows to choose on.

    Args:
      event_time: timestamp[us, UTC][n], rising.
      valid_from: the first moment of the later rows; None is the last fifth of the rows, and rows
        of the same moment stay together.

    Raises:
      FraudError: one of the parts would be empty.
    """
    times = np.asarray(event_time.cast(pa.int64()).to_numpy())
    if valid_from is None:
        at = times[int(len(times) * (1 - VALIDATION_SHARE))]
        start = int(np.searchsorted(times, at, side="left"))
        start = start or int(np.searchsorted(times, at, side="right"))
    else:
        moment = pa.scalar(valid_from, event_time.type).cast(pa.int64()).as_py()
        start = int(np.searchsorted(times, moment, side="left"))
    if not 0 < start < len(times):
        first, last = (value.as_py().isoformat() for value in pc.min_max(event_time).values())
        raise FraudError(
            f"no time divides the rows into earlier and later ones (they are from {first} to "
            f"{last}); give another --valid-from"
        )
    rows = np.arange(len(times))
    return Split(rows[:start], rows[start:], rows[:0])


def split_stratified(labels: npt.NDArray[np.int8], seed: int) -> Split:
    """Random rows with equal shares of fraud: 30 % held out, and a fifth of the rest chooses.

    Args:
      labels: int8[n].
      seed: of the choice of rows.

    Raises:
      FraudError: there are too few rows of a class to have some in every part.
    """
    try:
        rest, held_out = train_test_split(
            np.arange(len(labels)), test_size=HELD_OUT_SHARE, stratify=labels, random_state=seed
        )
        train, valid = train_test_split(
            rest, test_size=VALIDATION_SHARE, stratify=labels[rest], random_state=seed
        )
    except ValueError:
        frauds = int(labels.sum())
        raise FraudError(
            f"--split stratified: {len(labels)} rows with {frauds} frauds are too few to divide"
        ) from None
    return Split(np.sort(train), np.sort(valid), np.sort(held_out))
