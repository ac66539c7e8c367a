"""How many transactions each labelled one stands for.

What a model flags is labelled; of the rest, an audit shows people a random share. A model that
learns from these labels alone learns what the one before it knew. Each fraud that the audit found
stands for `1 / probability` frauds (Horvitz and Thompson, 1952). A young fraud that is labelled
already stands for those of its age whose labels are still to come: `1 / share`, with the share that
is labelled by that age.

Rows without a label count as genuine, each once. Among them are the frauds that the weights stand
for, so a score of the fitted model approximates p / (1 + p) where p is the probability of fraud:
the order is that of p, and where frauds are rare the values agree. The alternative, to leave out
all rows that were not shown, would estimate the genuine majority from the few audited rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.models.label_delay import DelayEstimate, Floats, Ints
from beam_fraud.records.label_file import Labels

#: Share of labelled frauds below which an age says too little to be weighted.
_FEWEST_KNOWN = 0.25


@dataclass(frozen=True)
class SampleWeights:
    """Weights of n rows to learn from, and what they rest on."""

    #: float64[n], at least 1; above 1 for frauds alone.
    values: Floats
    #: Frauds that the audit found, and those of its time that were reported but not shown.
    audited: int
    reported: int

    @property
    def weighted(self) -> bool:
        """Return whether any row stands for others."""
        return bool((self.values > 1).any())

    def effective(self, labels: Labels) -> float:
        """Return the number of equally weighted frauds that say as much (Kish, 1965)."""
        frauds = self.values[labels == 1]
        return float(frauds.sum() ** 2 / (frauds**2).sum()) if len(frauds) else 0.0

    def repeats(self, seed: int) -> Ints | None:
        """Return the weights as whole numbers, int64[n], rounded at random; None if all are 1."""
        if not self.weighted:
            return None
        whole = np.floor(self.values)
        up = np.random.default_rng(seed).random(len(whole)) < self.values - whole
        return whole.astype(np.int64) + up


def audit_weights(labels: Labels, probabilities: Floats) -> SampleWeights:
    """Return weights that make up for the frauds among rows that were not shown to people.

    Some of these are reported by other ways, such as charge-backs. They count themselves, so the
    frauds of the audit stand for the others alone. What was reported of the time before the audit
    began, or after it ended, is none of these.

    Args:
      labels: int8[n], 1 is fraud, in the order of time.
      probabilities: float64[n]: the probability with which the row was shown to people; 1 if it
        was flagged, NaN if unknown or not shown.
    """
    values = np.ones(len(labels))
    fraud = labels == 1
    audit = probabilities < 1
    audited = fraud & audit
    reported = 0
    if audit.any():
        first, last = np.flatnonzero(audit)[[0, -1]]
        unseen_frauds = fraud & np.isnan(probabilities)
        reported = int(np.count_nonzero(unseen_frauds[first:last]))
    found = int(audited.sum())
    if found:
        beyond = 1 / probabilities[audited] - 1
        # Frauds that were not shown to people, and the part of them that was not reported either.
        unseen = float(beyond.sum())
        values[audited] = 1 + beyond * max(1 - reported / unseen, 0.0)
    return SampleWeights(values, found, reported)


def delay_weights(labels: Labels, ages: Ints, delays: DelayEstimate) -> tuple[Floats, int]:
    """Return weights that make up for frauds whose labels are still to come.

    Args:
      labels: int8[n], 1 is fraud.
      ages: int64[n], falling: microseconds from the event to the newest label.
      delays: how late labels come.

    Returns:
      float64[m], and m: the first rows, of which enough labels have come to say something.
    """
    known = delays.known(ages)
    count = int(np.count_nonzero(known >= _FEWEST_KNOWN))
    return np.where(labels[:count] == 1, 1 / known[:count], 1.0), count
