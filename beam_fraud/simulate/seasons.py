"""The calendar of simulated traffic: weekends, pay days, and accounts that join over time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, UsageError
from beam_fraud.simulate.purchases import Customers, Purchases

#: Days of each month on which people have been paid.
PAY_DAYS = (25, 26, 27)
#: A weekday's index in `(days since 1970 + 3) % 7`: Monday is 0.
_SATURDAY = 5
#: Of every factor, so that a mistyped one does not fill the memory.
_LARGEST = 20.0


@dataclass(frozen=True)
class Seasons:
    """How the number of purchases and their amounts follow the calendar.

    Raises:
      UsageError: a factor is out of range.
    """

    #: Factor of the number of purchases on Saturdays and Sundays.
    weekend: float = 1.0
    #: Factor of the number of purchases, and of their amounts, on `PAY_DAYS`.
    pay_days: float = 1.0
    #: Growth of the number of accounts in a week, 0.02 for 2 %; they are all there on the last day.
    growth: float = 0.0

    def __post_init__(self) -> None:
        """Check the factors."""
        for option, factor in (("--weekend", self.weekend), ("--pay-days", self.pay_days)):
            if not 0 < factor <= _LARGEST:
                raise UsageError(
                    f"{option} {factor:g}: must be above 0 and at most {_LARGEST:g}",
                    Code.OPTION_VALUE,
                )
        if not 0 <= self.growth <= 1:
            raise UsageError(
                f"--growth {self.growth:g}: must be from 0 to 1 (0.02 is 2 % a week)",
                Code.OPTION_VALUE,
            )

    @property
    def flat(self) -> bool:
        """Return whether all days have equal weights."""
        return self == FLAT

    def busiest(self, start: date, days: int) -> float:
        """Return the largest factor of the number of purchases on a day."""
        return float(self._factors(start, days)[0].max())

    def more_active(self, customers: Customers, start: date, days: int) -> Customers:
        """Return customers who buy each day as often as on the busiest one; `thinned` follows."""
        return replace(customers, per_day=customers.per_day * self.busiest(start, days))

    def thinned(
        self, purchases: Purchases, accounts: int, start: date, days: int, rng: np.random.Generator
    ) -> Purchases:
        """Leave out purchases of quieter days and of accounts that have not joined.

        Args:
          purchases: those of `more_active` customers.
          accounts: number of customers.
          start: the first day.
          days: number of days.
          rng: random number generator.

        Returns:
          What is left, with the amounts of pay days raised.
        """
        factors, paid = self._factors(start, days)
        joined = self._joined(accounts, days, rng)
        day = purchases.day
        kept = rng.random(len(day)) < (factors / factors.max())[day]
        kept &= day >= joined[purchases.customer]
        cents = purchases.cents
        raised = np.rint(cents * self.pay_days).astype(np.int64)
        cents = np.where(paid[day], np.maximum(raised, 1), cents)
        return Purchases(
            purchases.second[kept], purchases.customer[kept], purchases.terminal[kept], cents[kept]
        )

    def _factors(
        self, start: date, days: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return the factor of each day, float64[days], and whether people have been paid."""
        dates = np.datetime64(start) + np.arange(days)
        weekend = (dates.astype(np.int64) + 3) % 7 >= _SATURDAY
        of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + 1
        paid = np.isin(of_month, PAY_DAYS)
        factors = np.where(weekend, self.weekend, 1.0) * np.where(paid, self.pay_days, 1.0)
        return factors, paid

    def _joined(
        self, accounts: int, days: int, rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Return the day on which each account joins, float64[accounts]; below 0 before the first.

        A share of (1 + growth)^((day - days) / 7) of the accounts has joined by a day.
        """
        if not self.growth:
            return np.full(accounts, -1.0)
        share = rng.random(accounts)
        share[0] = 0.0  # at least one from the first day on
        with np.errstate(divide="ignore"):
            joined: npt.NDArray[np.float64] = days + 7 * np.log(share) / math.log1p(self.growth)
        return joined


#: Every day alike.
FLAT = Seasons()
