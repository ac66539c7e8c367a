"""How late labels come, and which share of frauds is still unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.rows import Floats, Ints
from beam_fraud.schema.duration import DAY

#: Share of frauds whose labels an advised maturity waits for.
_WAITED_FOR = 0.95
#: Minimum of labelled frauds with times for an estimate.
_FEWEST = 20


@dataclass(frozen=True)
class DelayEstimate:
    """The distribution of the delay from a fraud to its label, corrected for labels to come."""

    #: int64[k], rising: distinct delays, microseconds.
    delays: Ints
    #: float64[k]: share of frauds that are labelled after at most that delay.
    shares: Floats

    def known(self, ages: Ints) -> Floats:
        """Return the expected share of labelled frauds among rows of these ages, float64[n].

        Args:
          ages: int64[n], microseconds from the event to the newest label.
        """
        places = np.searchsorted(self.delays, ages, side="right")
        return np.append(0.0, self.shares)[places]

    def quantile(self, share: float) -> int:
        """Return the delay after which a share of the frauds is labelled."""
        place = int(np.searchsorted(self.shares, share))
        return int(self.delays[min(place, len(self.delays) - 1)])


def estimate_delays(delays: Ints, ages: Ints) -> DelayEstimate | None:
    """Estimate the distribution of delays from the frauds that are labelled so far.

    A fraud is seen only if its delay is at most its age, so short delays are seen too often. The
    estimate is the product limit in reversed time of right-truncated data (Lynden-Bell, 1971;
    Lagakos, Barraj and De Gruttola, "Nonparametric analysis of truncated survival data, with
    application to AIDS", 1988). Delays longer than the oldest row are beyond it: they count as if
    there were none.

    Args:
      delays: int64[n], from the event to the label.
      ages: int64[n], from the event to the newest label; at least the delay.

    Returns:
      The estimate; None with fewer than 20 frauds.
    """
    if len(delays) < _FEWEST:
        return None
    ordered = np.sort(np.maximum(delays, 0))
    distinct, counts = np.unique(ordered, return_counts=True)
    # Frauds that were labelled by this delay and were old enough to show a label as late.
    at_risk = np.cumsum(counts) - np.searchsorted(np.sort(ages), distinct, side="left")
    survived = 1 - counts / np.maximum(at_risk, counts)
    # One fraud alone at risk says nothing, and would make all shorter delays impossible.
    survived = np.where((survived <= 0) & (np.arange(len(distinct)) > 0), 1.0, survived)
    after = np.cumprod(survived[::-1])[::-1]
    return DelayEstimate(distinct, np.append(after[1:], 1.0))


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
        advised_days=float(np.ceil(estimate.quantile(_WAITED_FOR) / DAY)),
        unknown_share=1 - known,
        expected_frauds=frauds / known if known else None,
    )
