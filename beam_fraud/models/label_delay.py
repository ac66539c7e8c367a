"""How late labels come: the distribution of the delay from a fraud to its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Share of frauds whose labels an advised maturity waits for.
WAITED_FOR = 0.95
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
