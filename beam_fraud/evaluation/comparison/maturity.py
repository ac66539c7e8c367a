"""Estimate the share of frauds among compared rows whose labels are still to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.rows import Ints
from beam_fraud.models.label_delay import WAITED_FOR, DelayEstimate
from beam_fraud.schema.duration import DAY


@dataclass(frozen=True)
class Maturity:
    """How ripe the labels are that figures count."""

    #: Minimum age of the counted rows, days; None counts rows of every age.
    waited_days: float | None
    #: Newest label or event, ISO 8601, UTC: the moment up to which labels are known.
    as_of: str
    #: Where the delay of labels comes from: `labelled_at`, or "unknown".
    delay: str
    #: Labelled frauds with times, on which the estimate rests.
    measured_frauds: int
    #: Estimated median of the delay, days; None if unknown.
    median_days: float | None
    #: Estimated days after which 95 % of the frauds are labelled; None if unknown.
    advised_days: float | None
    #: Estimated share of the frauds of the counted rows that have no label yet; None if unknown.
    unknown_share: float | None
    #: Expected number of frauds of the counted rows, labelled or not; None if unknown.
    expected_frauds: float | None


def maturity_of(
    estimate: DelayEstimate | None,
    measured: int,
    ages: Ints,
    rows: Ints,
    frauds: int,
    *,
    waited: int | None,
    as_of: str,
) -> Maturity:
    """Estimate which share of the frauds of the counted rows is still unknown.

    The share of frauds among transactions is taken as steady over the rows, so that the share of
    unknown ones needs no frauds of the newest days, which are the ones that are missing.

    Args:
      estimate: delays of labels; None if unknown.
      measured: labelled frauds behind the estimate.
      ages: int64[k], ages of groups of counted rows, microseconds.
      rows: int64[k], their rows.
      frauds: labelled frauds of the counted rows.
      waited: minimum age of the counted rows, microseconds; None counts all.
      as_of: the moment up to which labels are known.
    """
    days = None if waited is None else waited / DAY
    if estimate is None or not rows.sum():
        return Maturity(days, as_of, "unknown", measured, None, None, None, None)
    known = float(np.average(estimate.known(ages), weights=rows))
    return Maturity(
        waited_days=days,
        as_of=as_of,
        delay="labelled_at",
        measured_frauds=measured,
        median_days=estimate.quantile(0.5) / DAY,
        advised_days=float(np.ceil(estimate.quantile(WAITED_FOR) / DAY)),
        unknown_share=1 - known,
        expected_frauds=frauds / known if known else None,
    )
