"""Add three kinds of fraud to genuine purchases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from beam_fraud.simulate.purchases import Purchases

#: The codes of TX_FRAUD_SCENARIO; 0 is a genuine transaction.
HIGH_AMOUNT, COMPROMISED_TERMINAL, COMPROMISED_CUSTOMER = 1, 2, 3
#: Share of each scenario in all frauds; the handbook's data have 7, 61 and 32 per cent.
MIX = {HIGH_AMOUNT: 1 / 16, COMPROMISED_TERMINAL: 10 / 16, COMPROMISED_CUSTOMER: 5 / 16}
#: The code of frauds of another kind, which begin on a day.
NEW_KIND = 4
#: Terminals of new frauds; their numbers follow those of all others.
NEW_TERMINALS = 20
#: Range of the amounts of new frauds, in hundredths.
_SMALL_AMOUNT = (100, 1500)
#: Days that a terminal stays compromised.
TERMINAL_DAYS = 28
#: Days that a customer's card data are misused.
CUSTOMER_DAYS = 14
#: Share of a compromised customer's transactions that are fraud.
STOLEN_SHARE = 1 / 3
#: Factor of the amounts of stolen cards.
STOLEN_FACTOR = 5


@dataclass(frozen=True)
class LabelledPurchases:
    """n transactions in the order of time, each with the scenario it belongs to."""

    #: The transactions, the amounts of stolen cards raised.
    purchases: Purchases
    #: int8[n]: 0 for a genuine transaction, else 1, 2 or 3.
    scenario: npt.NDArray[np.int8]
    #: int64[n]: a number for the compromise that a fraud belongs to; of a high amount, its own.
    campaign: npt.NDArray[np.int64]


def commit_frauds(
    purchases: Purchases,
    fraud_rate: float,
    *,
    customers: int,
    terminals: int,
    days: int,
    rng: np.random.Generator,
) -> LabelledPurchases:
    """Turn about `fraud_rate` of the purchases into frauds.

    Customers (scenario 3) and terminals (scenario 2) are compromised at random until the scenario
    has its part of the rate, then the threshold for amounts (scenario 1) is set so that it has
    its own. A transaction belongs to one scenario, the highest that applies: of what is left by 3
    and 2, those of scenario 1 are exactly the ones above the threshold (at the default rate and
    population about 220, as in the handbook).

    Args:
      purchases: n genuine transactions.
      fraud_rate: target share of frauds; met to within about one compromised customer and one
        compromised terminal.
      customers: number of customers.
      terminals: number of terminals.
      days: number of days.
      rng: random number generator.
    """
    n = len(purchases.second)
    scenario = np.zeros(n, dtype=np.int8)
    targets = {kind: share * fraud_rate * n for kind, share in MIX.items()}

    stolen = rng.random(n) < STOLEN_SHARE
    thefts = _spells(purchases.customer, purchases.day, customers, days, CUSTOMER_DAYS, rng)
    misused = _compromised(
        thefts,
        stolen,
        targets[COMPROMISED_CUSTOMER],
        rng,
    )
    scenario[misused] = COMPROMISED_CUSTOMER

    skimmings = _spells(purchases.terminal, purchases.day, terminals, days, TERMINAL_DAYS, rng)
    skimmed = _compromised(
        skimmings,
        ~misused,
        targets[COMPROMISED_TERMINAL],
        rng,
    )
    scenario[skimmed] = COMPROMISED_TERMINAL

    rest = np.flatnonzero(scenario == 0)
    cents = purchases.cents[rest]
    scenario[rest[cents > _threshold(cents, targets[HIGH_AMOUNT])]] = HIGH_AMOUNT

    raised = np.where(misused, purchases.cents * STOLEN_FACTOR, purchases.cents)
    # Three kinds of campaigns with numbers of their own.
    campaign = np.where(misused, 3 * thefts, np.where(skimmed, 3 * skimmings + 1, 0))
    single = scenario == HIGH_AMOUNT
    campaign[single] = 3 * np.flatnonzero(single) + 2
    return LabelledPurchases(replace(purchases, cents=raised), scenario, campaign)


def _spells(
    owner: npt.NDArray[np.int32],
    day: npt.NDArray[np.int64],
    owners: int,
    days: int,
    length: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Number the periods of `length` days of each owner, int64[n].

    An owner's periods are contiguous and the first may begin before the first day, so frauds are as
    frequent at the beginning as later.
    """
    phase = rng.integers(0, length, owners)
    per_owner = (days + 2 * length - 2) // length
    return owner * np.int64(per_owner) + (day + phase[owner]) // length


def _compromised(
    spell: npt.NDArray[np.int64],
    eligible: npt.NDArray[np.bool_],
    target: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Return about `target` eligible rows of randomly chosen periods, bool[n]."""
    sizes = np.bincount(spell[eligible])
    order = rng.permutation(len(sizes))
    total = np.concatenate([[0], np.cumsum(sizes[order])])
    after = min(int(np.searchsorted(total, target)), len(order))
    before = max(after - 1, 0)
    chosen = after if abs(total[after] - target) < abs(total[before] - target) else before
    hit = np.zeros(len(sizes) + 1, dtype=np.bool_)
    hit[order[:chosen]] = True
    # Periods after the last eligible one have no size and index the False at the end.
    selected: npt.NDArray[np.bool_] = hit[np.minimum(spell, len(sizes))] & eligible
    return selected


def _threshold(cents: npt.NDArray[np.int64], target: float) -> int:
    """Return the amount exceeded by about `target` amounts, at least one if there are two."""
    if len(cents) < 2:
        return int(cents.max(initial=0))
    above = min(max(round(target), 1), len(cents) - 1)
    return int(np.partition(cents, -above - 1)[-above - 1])


def commit_new_frauds(
    labelled: LabelledPurchases,
    first_day: int,
    fraud_rate: float,
    terminals: int,
    rng: np.random.Generator,
) -> LabelledPurchases:
    """Replace the frauds from a day on by small amounts at new terminals (scenario 4).

    The earlier kinds end: their transactions from that day on are left out.

    Args:
      labelled: n transactions.
      first_day: the day of the change, from 0.
      fraud_rate: share of the remaining rows of those days that become frauds.
      terminals: number of terminals; those of new frauds have the numbers that follow.
      rng: random number generator.

    Returns:
      The transactions that are left, in order.
    """
    kept = (labelled.purchases.day < first_day) | (labelled.scenario == 0)
    purchases = Purchases(
        *(
            values[kept]
            for values in (
                labelled.purchases.second,
                labelled.purchases.customer,
                labelled.purchases.terminal,
                labelled.purchases.cents,
            )
        )
    )
    chosen = (purchases.day >= first_day) & (rng.random(len(purchases.second)) < fraud_rate)
    n = int(chosen.sum())
    terminal, cents = purchases.terminal.copy(), purchases.cents.copy()
    terminal[chosen] = terminals + rng.integers(0, NEW_TERMINALS, n)
    cents[chosen] = rng.integers(*_SMALL_AMOUNT, n)
    scenario, campaign = labelled.scenario[kept], labelled.campaign[kept]
    scenario[chosen] = NEW_KIND
    # Each terminal of theirs is one campaign, with a number above all others.
    campaign[chosen] = campaign.max(initial=0) + 1 + terminal[chosen]
    return LabelledPurchases(replace(purchases, terminal=terminal, cents=cents), scenario, campaign)
