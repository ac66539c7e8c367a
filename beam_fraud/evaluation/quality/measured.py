"""Precision and recall by the frauds that are known so far.

Of a young period they are few: their number is divided by the share of frauds that are labelled at
such an age (`models/label_delay.py`), of flagged rows and of others apart, because people look at
flagged rows soon and charge-backs take weeks. A period of which less than a quarter is known has no
figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from beam_fraud.evaluation.bootstrap import COVERED, Interval
from beam_fraud.evaluation.rows import Floats, Ints
from beam_fraud.evaluation.traffic import Estimate
from beam_fraud.models.label_delay import WAITED_FOR, DelayEstimate, estimate_delays
from beam_fraud.models.reliability import frauds_together
from beam_fraud.records.known_frauds import KnownFrauds
from beam_fraud.records.label_file import NEVER

_Z = float(norm.ppf((1 + COVERED) / 2))
#: Share of known frauds below which a period has no figures.
FEWEST_KNOWN = 0.25
State = Literal["mature", "corrected", "immature"]


@dataclass(frozen=True)
class Delays:
    """How late labels come at a moment: of passed and of flagged frauds."""

    #: The moment, microseconds: later labels do not count.
    as_of: int
    #: Of all frauds, of passed ones, of flagged ones; None with too few labels that have times.
    every: DelayEstimate | None
    passed: DelayEstimate | None
    flagged: DelayEstimate | None

    @classmethod
    def of(cls, frauds: KnownFrauds, as_of: int) -> Delays:
        """Estimate the delays by the labels that are known at a moment."""
        timed = (frauds.known_at != NEVER) & (frauds.known_at <= as_of) & (frauds.times <= as_of)

        def estimate(rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> DelayEstimate | None:
            times = frauds.times[rows]
            return estimate_delays(frauds.known_at[rows] - times, as_of - times)

        every = estimate(timed)
        passed, flagged = estimate(timed & ~frauds.flagged), estimate(timed & frauds.flagged)
        return cls(as_of, every, passed or every, flagged or every)

    def known(self, times: Ints) -> tuple[float, float]:
        """Return the share of labelled frauds among passed and flagged ones of these times."""
        ages = self.as_of - times
        shares = []
        for delays in (self.passed, self.flagged):
            if delays is None:
                shares.append(1.0)
            else:
                known = np.where(ages > 0, delays.known(np.maximum(ages, 0)), 0.0)
                shares.append(float(known.mean()))
        return shares[0], shares[1]


@dataclass(frozen=True)
class Measured:
    """Figures of a period by the frauds that are known."""

    #: `mature`, `corrected` for labels to come, or `immature`: then there are no figures.
    state: State
    #: Estimated share of the period's frauds that are labelled; None if times are unknown.
    known: float | None
    #: Known frauds.
    known_frauds: int
    #: Their number, corrected for labels to come and for frauds among rows that people were not
    #: shown.
    frauds: Estimate
    precision: Estimate
    recall: Estimate


def measured_of(
    frauds: KnownFrauds, weights: Floats, flagged: int, delays: Delays, times: Ints
) -> Measured:
    """Return the measured figures of a period.

    The intervals cover the true figures of the period: they have the chance of which labels have
    come, frauds of one campaign together, and of which rows were audited.

    Args:
      frauds: its n known frauds.
      weights: float64[n]: how many frauds each stands for, by the audit lane.
      flagged: its flagged rows.
      delays: how late labels come.
      times: moments spread evenly over the period, microseconds.
    """
    shares = np.array(delays.known(times))
    sides = [weights[~frauds.flagged], weights[frauds.flagged]]
    sums = np.array([float(side.sum()) for side in sides])
    none = Estimate(None, None)
    if shares.min() < FEWEST_KNOWN:
        share = None if delays.every is None else float(shares.min())
        return Measured("immature", share, len(frauds), none, none, none)
    together = frauds_together(np.zeros(len(frauds), np.int64), [frauds.cards, frauds.merchants])
    totals = sums / shares
    # Labels to come: each campaign is known or not. Audit: each found fraud stands for others.
    spreads = totals * (1 - shares) / shares * together
    spreads += [float((side * (side - 1)).sum()) for side in sides] / shares**2
    caught = float(totals[1])
    total = float(totals.sum())
    precision, recall = none, none
    if flagged:
        value = min(caught / flagged, 1.0)
        precision = Estimate(float(value), _around(value, spreads[1] / flagged**2))
    if total > 0:
        value = caught / total
        variance = ((1 - value) ** 2 * spreads[1] + value**2 * spreads[0]) / total**2
        recall = Estimate(float(value), _around(value, variance))
    known = float(sums.sum()) / total if total > 0 else float(shares.min())
    spread = _Z * float(np.sqrt(spreads.sum()))
    mature = shares.min() >= WAITED_FOR
    return Measured(
        "mature" if mature else "corrected",
        None if delays.every is None else known,
        len(frauds),
        Estimate(total, Interval(max(total - spread, float(len(frauds))), total + spread)),
        precision,
        recall,
    )


def _around(value: float, variance: float) -> Interval:
    spread = _Z * float(np.sqrt(variance))
    return Interval(max(float(value) - spread, 0.0), min(float(value) + spread, 1.0))
