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

from beam_fraud.duration import DAY
from beam_fraud.models.known_cards import known_from

#: How long labels take: from the end of training to the first test day.
DELAY_DAYS = 7
#: Days that are tested where no end is given.
TEST_DAYS = 7
#: Cards that are looked at in a day.
CARDS = 100

Times = npt.NDArray[np.int64]
Cards = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Period:
    """Which transactions test a model, in microseconds of the epoch."""

    #: First event time that the model was fitted on.
    trained_from: int
    #: First event time of the tests, the start of a day.
    start: int
    #: First event time after the tests.
    stop: int


def period_after(trained_from: int, trained_to: int) -> Period:
    """The week that starts seven days after the last day that a model was fitted on.

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
    """Which transactions are tested: those of cards that are not yet known to be compromised.

    On a day, a card is known if it had a fraud from the start of training on that is at least
    seven whole days old.

    Args:
      times: int64[n], event times in microseconds.
      cards: int64[n], a number for each card.
      labels: int8[n], 1 is fraud.
      period: what the model was fitted on and is tested on.

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
    """Card precision@k: the share of compromised cards among those looked at, a day on average.

    Args:
      times: int64[n], event times in microseconds.
      cards: int64[n], a number for each card.
      labels: int8[n], 1 is fraud.
      scores: float64[n].
      most: k, the cards that are looked at in a day.

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

    Each day the cards with the highest scores are looked at, a card standing for its transactions
    with their highest score and label. A card that was found is looked at no more.

    Args:
      times: see `card_precision`, as all others.
      cards: see there.
      labels: see there.
      scores: see there.
      most: see there.
    """
    days = times // DAY
    found = np.zeros(int(cards.max(initial=-1)) + 1, dtype=bool)
    precisions: list[float] = []
    for day in np.unique(days):
        rows = np.flatnonzero((days == day) & ~found[cards])
        of_day, place = np.unique(cards[rows], return_inverse=True)
        highest = np.full(len(of_day), -np.inf)
        np.maximum.at(highest, place, scores[rows])
        compromised = np.zeros(len(of_day), dtype=bool)
        np.logical_or.at(compromised, place, labels[rows] == 1)
        looked_at = np.argsort(-highest, kind="stable")[:most]
        detected = of_day[looked_at][compromised[looked_at]]
        precisions.append(len(detected) / most)
        found[detected] = True
    return precisions
