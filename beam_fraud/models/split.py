"""Split rows into training, validation and held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.model_selection import train_test_split

from beam_fraud.errors import Code, FraudError

#: Share of validation rows without an explicit time.
VALIDATION_SHARE = 0.2
#: Share of held-out rows of a stratified split, as in published work.
HELD_OUT_SHARE = 0.3


@dataclass(frozen=True)
class Split:
    """Positions of rows, in time order."""

    #: int64: training rows.
    train: npt.NDArray[np.int64]
    #: int64: validation rows, which choose settings and threshold.
    valid: npt.NDArray[np.int64]
    #: int64: held-out rows, used for the report alone; empty if it uses the validation rows.
    held_out: npt.NDArray[np.int64]

    @property
    def refit(self) -> npt.NDArray[np.int64]:
        """int64: rows of the final fit, all but the held-out ones."""
        return np.sort(np.concatenate([self.train, self.valid]))


def split_by_time(event_time: pa.ChunkedArray, valid_from: datetime | None) -> Split:
    """Split by time: fit on earlier rows, validate on later ones.

    Args:
      event_time: timestamp[us, UTC][n], rising.
      valid_from: begin of the validation rows; None for the last fifth of the rows; rows of one
        time stay together.

    Raises:
      FraudError: a part would be empty.
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
            f"{last}); give another --valid-from",
            Code.DIVISION_IMPOSSIBLE,
        )
    rows = np.arange(len(times))
    return Split(rows[:start], rows[start:], rows[:0])


def split_stratified(labels: npt.NDArray[np.int8], seed: int) -> Split:
    """Split at random with equal shares of fraud: 30 % held out, a fifth of the rest validates.

    Args:
      labels: int8[n].
      seed: of the choice of rows.

    Raises:
      FraudError: a class has too few rows for all parts.
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
            f"--split stratified: {len(labels)} rows with {frauds} frauds are too few to divide",
            Code.CLASSES_MISSING,
        ) from None
    return Split(np.sort(train), np.sort(valid), np.sort(held_out))
