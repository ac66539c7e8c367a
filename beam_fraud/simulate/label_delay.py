"""When the label of a simulated fraud is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, UsageError
from beam_fraud.schema.duration import DAY, SECOND, microseconds


@dataclass(frozen=True)
class LabelDelay:
    """A log-normal delay from a fraud to its label.

    All frauds of a campaign, the compromise of a card or a terminal, have the same delay: it is one
    person who complains, or one investigation.
    """

    #: Median, microseconds.
    median: int
    #: Standard deviation of the logarithm.
    sigma: float

    def draw(
        self, campaigns: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Return a delay for each of n frauds, int64[n] microseconds in whole seconds.

        Args:
          campaigns: int64[n], the campaign of each.
          rng: random number generator.
        """
        distinct, places = np.unique(campaigns, return_inverse=True)
        delays = self.median * np.exp(self.sigma * rng.standard_normal(len(distinct)))
        # A century at most: sums of times stay in int64.
        seconds = np.minimum(delays / SECOND, 36_500 * DAY / SECOND).astype(np.int64)
        whole: npt.NDArray[np.int64] = seconds[places] * SECOND
        return whole


def parse_label_delay(text: str) -> LabelDelay:
    """Parse `median=7d,sigma=1`.

    Raises:
      UsageError: it has another form.

    Example:
      >>> parse_label_delay("median=1d,sigma=0.5")
      LabelDelay(median=86400000000, sigma=0.5)
    """
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        if set(fields) != {"median", "sigma"}:
            raise ValueError(text)
        median, sigma = microseconds(fields["median"]), float(fields["sigma"])
        if not 0 <= sigma < math.inf or not median:
            raise ValueError(text)
    except (UsageError, ValueError):
        raise UsageError(
            f"--label-delay {text}: must be median=DURATION,sigma=N, as in median=7d,sigma=1",
            Code.OPTION_VALUE,
        ) from None
    return LabelDelay(median, sigma)
