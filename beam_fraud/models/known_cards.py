"""Cards that are known to be compromised, and so are blocked and need no score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.duration import DAY

#: What a card that is never known is known from.
NEVER = np.iinfo(np.int64).max


def card_codes(transactions: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each card: int64[n], equal where the column `account_id` is."""
    codes = transactions.column("account_id").combine_chunks().dictionary_encode().indices
    return np.asarray(codes, dtype=np.int64)


def known_from(
    times: npt.NDArray[np.int64],
    cards: npt.NDArray[np.int64],
    frauds: npt.NDArray[np.bool_],
    delay: int,
) -> npt.NDArray[np.int64]:
    """The moment from which each card is known to be compromised.

    A fraud is found when its day has ended and labels have had their time. With a delay of whole
    days this is the rule of the fraud-detection handbook (`models.handbook_protocol`).

    Args:
      times: int64[n], event times in microseconds.
      cards: int64[n], a number for each card, from 0.
      frauds: bool[n], the rows by which a card can become known.
      delay: how long labels take, in microseconds.

    Returns:
      int64[highest card + 1] in microseconds, `NEVER` for a card without a fraud.

    Example:
      >>> times, cards = np.array([5, DAY + 5, 9]), np.array([0, 0, 1])
      >>> known = known_from(times, cards, np.array([True, True, False]), 7 * DAY)
      >>> int(known[0]) == 8 * DAY, int(known[1]) == NEVER
      (True, True)
    """
    known = np.full(int(cards.max(initial=-1)) + 1, NEVER)
    np.minimum.at(known, cards[frauds], (times[frauds] // DAY + 1) * DAY + delay)
    return known
