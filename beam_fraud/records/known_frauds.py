"""The frauds of scored rows that a file of labels knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KnownFrauds:
    """n frauds with a label."""

    #: int64[n]: local day since 1970, and event time in microseconds.
    days: Ints
    times: Ints
    #: int64[n]: when the label was known; `NEVER` if unknown.
    known_at: Ints
    #: bool[n].
    flagged: Mask
    #: float64[n].
    scores: Floats
    #: float64[n]: the probability with which it was shown to people; NaN if unknown or not shown.
    probability: Floats
    #: uint64[n]: hashes of card and merchant; of the transaction where it has none.
    cards: Hashes
    merchants: Hashes

    def take(self, rows: Mask) -> KnownFrauds:
        """Return those where bool[n] holds."""
        return KnownFrauds(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[KnownFrauds]) -> KnownFrauds:
        """Return the frauds of all parts, at least one, in the order of time."""
        order = np.argsort(np.concatenate([part.times for part in parts]), kind="stable")
        names = [field.name for field in fields(cls)]
        columns = ([getattr(part, name) for part in parts] for name in names)
        return cls(*(np.concatenate(each)[order] for each in columns))

    def __len__(self) -> int:
        return len(self.times)
