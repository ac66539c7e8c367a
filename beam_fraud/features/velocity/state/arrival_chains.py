"""A batch of rows as chains, in each of which a key's rows arrived in the order of their times."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from beam_fraud.features.velocity.state.key_times import Frame, Integers

#: Rows in no order at all make more chains than this, which is for the caller to avoid.
MOST_CHAINS = 16


def arrival_chains(numbers: Integers, frame: Frame) -> tuple[Integers, list[Integers]]:
    """Split rows into chains; rows that are in order make one.

    A chain holds of each key the rows that are not before any earlier row outside the chains so
    far. What a row sees of a chain is the start of the key's part of it, by time as by arrival.

    Args:
      numbers: int64[n], `Frame.numbers` of rows in order of arrival.
      frame: theirs.

    Returns:
      int64[n]: all rows, ordered by slot, time and arrival; and the rows of each chain in that
      order, int64[m] each. If there are more than `MOST_CHAINS`, not all of them.

    Example:
      >>> frame = Frame.around(0, 15)
      >>> slots, times = np.array([1, 0, 1, 1]), np.array([5, 0, 4, 7])
      >>> order, chains = arrival_chains(frame.numbers(slots, times), frame)
      >>> order.tolist(), [chain.tolist() for chain in chains]
      ([1, 2, 0, 3], [[1, 0, 3], [2]])
    """
    order = np.argsort(numbers, kind="stable")
    slots = numbers[order] >> frame.bits
    if not ((order[1:] < order[:-1]) & (slots[1:] == slots[:-1])).any():
        return order, [order]
    by_arrival = np.argsort(numbers >> frame.bits, kind="stable")
    return order, list(islice(_chains(numbers, by_arrival), MOST_CHAINS + 1))


def _chains(numbers: Integers, rows: Integers) -> Iterator[Integers]:
    """Chains of rows that are ordered by slot and arrival."""
    while len(rows):
        along = numbers[rows]
        # The slot is the high part: a maximum never reaches into the next slot.
        in_chain = along == np.maximum.accumulate(along)
        yield rows[in_chain]
        rows = rows[~in_chain]


def seen_of_chain(chain: Integers, slots: Integers, rows: Integers) -> Integers:
    """How many rows of a chain come before a row's arrival, it included, up to its key.

    Args:
      chain: int64[m] of `arrival_chains`.
      slots: int64[n], of all rows in order of arrival.
      rows: int64[n], the rows that ask.

    Returns:
      int64[n].
    """
    arrivals = slots * len(slots) + np.arange(len(slots))
    return arrivals[chain].searchsorted(arrivals[rows], "right")
