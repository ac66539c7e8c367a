"""Genuine purchases: who buys where, when and for how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Candidate pairs processed at once; bounds memory, not the result.
_PAIRS_PER_BLOCK = 2_000_000


@dataclass(frozen=True)
class Reach:
    """The terminals of each of n customers, as concatenated lists."""

    #: int64[n + 1]: customer i's terminals are `terminals[starts[i]:starts[i + 1]]`.
    starts: npt.NDArray[np.int64]
    #: int32[m]: indices of terminals.
    terminals: npt.NDArray[np.int32]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Return int64[n]: number of terminals in reach of each customer."""
        return np.diff(self.starts)


def terminals_in_reach(
    customers: npt.NDArray[np.float64], terminals: npt.NDArray[np.float64], radius: float
) -> Reach:
    """Find the terminals at a distance of at most `radius` from each customer.

    The plane is divided into strips as high as the radius, terminals are sorted by strip and x, and
    only those of three strips between x - radius and x + radius are measured.

    Args:
      customers: float64[n, 2], coordinates, none negative.
      terminals: float64[m, 2], likewise.
      radius: above zero, in the unit of the coordinates.
    """
    # Wide enough that no search in one strip touches terminals of the next.
    width = max(customers[:, 0].max(), terminals[:, 0].max()) + 2 * radius + 1
    strip = np.floor(terminals[:, 1] / radius)
    order = np.lexsort((terminals[:, 0], strip))
    position = (strip * width + terminals[:, 0])[order]
    nearby = np.floor(customers[:, 1] / radius)[:, None] + np.array([-1.0, 0.0, 1.0])
    centre = nearby * width + customers[:, :1]
    # Slightly more than the radius, for rounding of positions; the distance decides.
    margin = radius * (1 + 1e-9)
    first = np.searchsorted(position, centre - margin, side="left")
    count = np.searchsorted(position, centre + margin, side="right") - first

    block = max(1, int(_PAIRS_PER_BLOCK // max(1.0, count.sum(axis=1).mean())))
    sizes, in_reach = [], []
    for start in range(0, len(customers), block):
        part = slice(start, start + block)
        counts = count[part].ravel()
        ends = np.cumsum(counts)
        candidate = np.arange(ends[-1]) + np.repeat(first[part].ravel() - (ends - counts), counts)
        terminal = order[candidate]
        customer = np.repeat(np.arange(len(counts) // 3), count[part].sum(axis=1))
        away = customers[part][customer] - terminals[terminal]
        near = (away**2).sum(axis=1) <= radius**2
        sizes.append(np.bincount(customer[near], minlength=len(counts) // 3))
        in_reach.append(terminal[near].astype(np.int32))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return Reach(starts, np.concatenate(in_reach))


SECONDS_PER_DAY = 86_400
#: Range of customers' mean amounts; the spread (standard deviation) is half the mean.
MEAN_AMOUNT = (5.0, 100.0)
#: Range of customers' mean number of transactions a day.
MEAN_PER_DAY = (0.0, 4.0)
#: Standard deviation, in seconds, of the time of day; its mean is noon.
TIME_OF_DAY_SPREAD = 20_000.0


@dataclass(frozen=True)
class Customers:
    """Profiles of n customers."""

    #: float64[n]: mean amount.
    mean_amount: npt.NDArray[np.float64]
    #: float64[n]: mean number of transactions a day.
    per_day: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Purchases:
    """n transactions in the order of time."""

    #: int64[n]: seconds after the start of the first day.
    second: npt.NDArray[np.int64]
    #: int32[n]: index of the customer.
    customer: npt.NDArray[np.int32]
    #: int32[n]: index of the terminal.
    terminal: npt.NDArray[np.int32]
    #: int64[n]: amount in hundredths, at least 1.
    cents: npt.NDArray[np.int64]

    @property
    def day(self) -> npt.NDArray[np.int64]:
        """int64[n]: days after the first."""
        return self.second // SECONDS_PER_DAY


def draw_customers(n: int, rng: np.random.Generator) -> Customers:
    """Draw the profiles of n customers, uniformly in the handbook's ranges."""
    return Customers(rng.uniform(*MEAN_AMOUNT, n), rng.uniform(*MEAN_PER_DAY, n))


def draw_purchases(
    customers: Customers, reach: Reach, days: int, rng: np.random.Generator
) -> Purchases:
    """Draw all purchases of some days; a customer with no terminal in reach makes none.

    The number a day is Poisson: the number of all days is drawn, then the day of each. The time
    of day is normal around noon, truncated to the day. The amount is normal; where that is
    negative, uniform between 0 and twice the mean. The terminal is any one in reach.
    """
    expected = np.where(reach.sizes > 0, customers.per_day * days, 0.0)
    customer = np.repeat(np.arange(len(expected), dtype=np.int32), rng.poisson(expected))
    second = rng.integers(0, days, len(customer)) * SECONDS_PER_DAY
    second += _times_of_day(len(customer), rng)
    cents = _amounts_in_cents(customers.mean_amount[customer], rng)
    choice = (rng.random(len(customer)) * reach.sizes[customer]).astype(np.int64)
    terminal = reach.terminals[reach.starts[customer] + choice]
    order = _time_order(second)
    return Purchases(second[order], customer[order], terminal[order], cents[order])


def _times_of_day(n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    times = rng.normal(SECONDS_PER_DAY / 2, TIME_OF_DAY_SPREAD, n)
    outside = np.flatnonzero((times < 0) | (times >= SECONDS_PER_DAY))
    # Three in a hundred fall outside and are redrawn, so this ends after a few rounds.
    while len(outside):
        again = rng.normal(SECONDS_PER_DAY / 2, TIME_OF_DAY_SPREAD, len(outside))
        times[outside] = again
        outside = outside[(again < 0) | (again >= SECONDS_PER_DAY)]
    return times.astype(np.int64)


def _amounts_in_cents(
    mean: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    amount = rng.normal(mean, mean / 2)
    negative = np.flatnonzero(amount < 0)
    amount[negative] = rng.uniform(0.0, 2 * mean[negative])
    return np.maximum(np.rint(amount * 100), 1).astype(np.int64)


def _time_order(second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    # Sorting (time, position) packed into one integer is several times as fast as a stable argsort.
    packed = (second << 32) | np.arange(len(second))
    packed.sort()
    return packed & 0xFFFFFFFF
