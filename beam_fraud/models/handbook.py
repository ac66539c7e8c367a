"""How the fraud-detection handbook measures a model on the days after it was trained.

"Reproducible Machine Learning for Credit Card Fraud Detection - Practical Handbook" (Le Borgne,
Siblini, Lebichot, Bontempi; ULB, 2022), chapters 4 and 5: a week of tests starts a week after the
training rows end, because labels come with that delay; cards that are known to be compromised are
not tested, as they are blocked by then; and people can look at a hundred cards a day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.schema.duration import DAY

#: Time of a card that is never known to be compromised.
NEVER = np.iinfo(np.int64).max


def card_codes(transactions: pa.Table) -> npt.NDArray[np.int64]:
    """Return a number for each card: int64[n], equal where the column `account_id` is.

    Each row without an account is a card of its own.
    """
    encoded = transactions.column("account_id").combine_chunks().dictionary_encode()
    cards = len(encoded.dictionary)
    codes = np.asarray(encoded.indices.fill_null(cards), dtype=np.int64)
    absent = np.flatnonzero(codes == cards)
    codes[absent] = cards + np.arange(len(absent))
    return codes


def known_from(
    times: npt.NDArray[np.int64],
    cards: npt.NDArray[np.int64],
    frauds: npt.NDArray[np.bool_],
    delay: int,
) -> npt.NDArray[np.int64]:
    """Return the time from which each card is known to be compromised.

    A fraud is known after the end of its day plus the label delay. With a delay of whole days this
    is the rule of the fraud-detection handbook (`models.handbook`).

    Args:
      times: int64[n], event times in microseconds.
      cards: int64[n], a number for each card, from 0.
      frauds: bool[n], the rows that can reveal a card.
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


#: Label delay: from the end of training to the first test day.
DELAY_DAYS = 7
#: Test days without an explicit end.
TEST_DAYS = 7
#: Cards checked per day.
CARDS = 100

Times = npt.NDArray[np.int64]
Cards = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Period:
    """Training and test period of a model, in microseconds since the epoch."""

    #: First event time that the model was fitted on.
    trained_from: int
    #: First event time of the tests, the start of a day.
    start: int
    #: First event time after the tests.
    stop: int


def period_after(trained_from: int, trained_to: int) -> Period:
    """Return the test week, which starts seven days after the last training day.

    Args:
      trained_from: first event time that it was fitted on, microseconds.
      trained_to: last event time that it was fitted on, microseconds.

    Example:
      >>> period_after(0, 7 * DAY - 1) == Period(0, 14 * DAY, 21 * DAY)
      True
    """
    start = (trained_to // DAY + 1 + DELAY_DAYS) * DAY
    return Period(trained_from, start, start + TEST_DAYS * DAY)


def rows_to_test(
    times: Times, cards: Cards, labels: Labels, period: Period
) -> npt.NDArray[np.bool_]:
    """Return which transactions are tested: those of cards not yet known to be compromised.

    On a day, a card is known if it had a fraud that is at least seven whole days old, counted from
    the start of training.

    Args:
      times: int64[n], event times in microseconds.
      cards: int64[n], a number for each card.
      labels: int8[n], 1 is fraud.
      period: the training and the test period.

    Returns:
      bool[n].
    """
    frauds = (labels == 1) & (times >= period.trained_from)
    known = known_from(times, cards, frauds, DELAY_DAYS * DAY)
    tested: npt.NDArray[np.bool_] = (times >= period.start) & (times < period.stop)
    return tested & (times < known[cards])


def card_precision(
    times: Times,
    cards: Cards,
    labels: Labels,
    scores: npt.NDArray[np.float64],
    most: int = CARDS,
) -> float | None:
    """Return card precision@k: the share of compromised cards among k a day, on average.

    Args:
      times: int64[n], event times in microseconds.
      cards: int64[n], a number for each card.
      labels: int8[n], 1 is fraud.
      scores: float64[n].
      most: k, the cards checked per day.

    Returns:
      The mean over the days that have transactions; None if none has.

    Example:
      >>> cards, labels = np.array([0, 1, 0, 1]), np.array([1, 0, 1, 1], dtype=np.int8)
      >>> times, scores = np.array([0, 1, DAY, DAY]), np.array([0.9, 0.1, 0.9, 0.1])
      >>> card_precision(times, cards, labels, scores, most=1)  # card 0, then card 1
      1.0
    """
    precisions = daily_card_precision(times, cards, labels, scores, most)
    return float(np.mean(precisions)) if precisions else None


def daily_card_precision(
    times: Times,
    cards: Cards,
    labels: Labels,
    scores: npt.NDArray[np.float64],
    most: int = CARDS,
) -> list[float]:
    """Card precision@k of each day that has transactions, in order.

    Each day the cards with the highest scores are checked; a card has the highest score and label
    of its transactions. A card found to be compromised is not checked again.

    Args:
      times: as for `card_precision`.
      cards: as for `card_precision`.
      labels: as for `card_precision`.
      scores: as for `card_precision`.
      most: as for `card_precision`.
    """
    days = times // DAY
    known = np.zeros(int(cards.max(initial=-1)) + 1, dtype=bool)
    precisions: list[float] = []
    for day in np.unique(days):
        rows = np.flatnonzero((days == day) & ~known[cards])
        of_day, place = np.unique(cards[rows], return_inverse=True)
        highest = np.full(len(of_day), -np.inf)
        np.maximum.at(highest, place, scores[rows])
        compromised = np.zeros(len(of_day), dtype=bool)
        np.logical_or.at(compromised, place, labels[rows] == 1)
        looked_at = np.argsort(-highest, kind="stable")[:most]
        detected = of_day[looked_at][compromised[looked_at]]
        precisions.append(len(detected) / most)
        known[detected] = True
    return precisions
