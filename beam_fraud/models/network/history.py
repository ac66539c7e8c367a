"""Figures of a network after each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

#: Keras' bound on probabilities, without which a certain error would have infinite loss.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Counted:
    """Figures of a network on n rows; a row is flagged above a score of 0.5."""

    #: Binary cross-entropy, mean over the rows.
    loss: float
    #: Frauds that were not flagged.
    fn: int
    #: Genuine rows that were flagged.
    fp: int
    #: Genuine rows that were not flagged.
    tn: int
    #: Frauds that were flagged.
    tp: int

    @property
    def precision(self) -> float | None:
        """Frauds among the flagged; None if nothing is flagged."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Flagged among the frauds; None if there are none."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    def __str__(self) -> str:
        return f"{self.tp} of {self.tp + self.fn} frauds flagged and {self.fp} genuine rows"

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures by name, JSON-compatible."""
        return {**vars(self), "precision": self.precision, "recall": self.recall}


@dataclass(frozen=True)
class Epoch:
    """One epoch."""

    #: Number, from 1.
    epoch: int
    #: Training rows as they passed: with dropout, by weights that changed meanwhile; the loss has
    #: the rows' weights.
    training: Counted
    #: Rows scored after the epoch, without dropout, with weight 1; None without such rows.
    validation: Counted | None = None
    #: Average precision on them.
    average_precision: float | None = None

    def __str__(self) -> str:
        seen = f"epoch {self.epoch}: loss {self.training.loss:.3g}, {self.training}"
        if self.validation is None:
            return seen
        ranked = f", average precision {self.average_precision:.3f}"
        return f"{seen}; validation: loss {self.validation.loss:.3g}, {self.validation}{ranked}"

    def to_dict(self) -> dict[str, object]:
        """Return the figures by name, JSON-compatible."""
        validation = self.validation and self.validation.to_dict()
        return {
            "epoch": self.epoch,
            "training": self.training.to_dict(),
            "validation": validation,
            "average_precision": self.average_precision,
        }


def count(labels: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> Counted:
    """Compare float32[n] scores of rows that all weigh 1 with float32[n] labels, 0 or 1."""
    bounded = np.clip(scores.astype(np.float64), _EPSILON, 1 - _EPSILON)
    losses = np.where(labels == 1, -np.log(bounded), -np.log1p(-bounded))
    flagged, fraud = scores > 0.5, labels == 1
    tp, fp = int((flagged & fraud).sum()), int((flagged & ~fraud).sum())
    fn, tn = int(fraud.sum()) - tp, int((~fraud).sum()) - fp
    return Counted(float(losses.mean()), fn=fn, fp=fp, tn=tn, tp=tp)


def encode_history(validated: tuple[Epoch, ...], fitted: tuple[Epoch, ...]) -> bytes:
    """Encode the epochs of both fits as JSON.

    Args:
      validated: epochs of the fit with validation rows.
      fitted: epochs of the fit on all rows, whose network is the model.
    """
    epochs = {
        "validated": [epoch.to_dict() for epoch in validated],
        "fitted": [epoch.to_dict() for epoch in fitted],
    }
    return msgspec.json.format(msgspec.json.encode(epochs), indent=1)
