"""A simulation: its parameters and its table of transactions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import Code, UsageError
from beam_fraud.simulate.fraud import (
    NEW_TERMINALS,
    LabelledPurchases,
    commit_frauds,
    commit_new_frauds,
)
from beam_fraud.simulate.label_delay import LabelDelay
from beam_fraud.simulate.purchases import (
    MEAN_PER_DAY,
    SECONDS_PER_DAY,
    draw_customers,
    draw_purchases,
    terminals_in_reach,
)
from beam_fraud.simulate.seasons import FLAT, Seasons

#: Length of the sides of the plane of customers and terminals.
SIDE = 100.0
#: The handbook's radius of a customer's purchases.
RADIUS = 5.0
#: With few terminals, the radius grows until about this many are in reach on average.
TERMINALS_IN_REACH = 8
#: Share of frauds by the handbook's own rates of compromise.
FRAUD_RATE = 0.008
#: Maximum of rows of a table in memory.
MAX_TRANSACTIONS = 100_000_000
#: Ids of a seed begin at its multiple of this, so that seeds share no ids.
_IDS_OF_A_SEED = 1_000_000_000
MAX_SEED = 2**32 - 1

#: Schema of `simulate`'s result: the handbook's columns.
TRANSACTIONS = pa.schema(
    [
        pa.field("TRANSACTION_ID", pa.int64(), nullable=False),
        pa.field("TX_DATETIME", pa.timestamp("us"), nullable=False),
        pa.field("CUSTOMER_ID", pa.int64(), nullable=False),
        pa.field("TERMINAL_ID", pa.int64(), nullable=False),
        pa.field("TX_AMOUNT", pa.float64(), nullable=False),
        pa.field("TX_FRAUD", pa.int8(), nullable=False),
        pa.field("TX_FRAUD_SCENARIO", pa.int8(), nullable=False),
    ]
)
#: Column of the types of terminals, the last one where they are asked for.
TERMINAL_TYPE = pa.field("TERMINAL_TYPE", pa.string(), nullable=False)
#: Type of the terminals of new frauds.
NEW_TYPE = "new"
#: Schema of the result with delays of labels.
WITH_LABELLED_AT = TRANSACTIONS.append(pa.field("LABELLED_AT", pa.timestamp("us")))


@dataclass(frozen=True)
class Simulation:
    """Parameters of a simulation of about 2 x accounts x days transactions.

    Raises:
      UsageError: a parameter is out of range.
    """

    #: Number of days from `start` on.
    days: int = 90
    #: Number of customers, each with one card.
    accounts: int = 1000
    #: Number of terminals.
    merchants: int = 2000
    #: The same parameters and seed give the same table, two seeds share no id; up to `MAX_SEED`.
    seed: int = 0
    #: Share of frauds, above 0 and below 0.5.
    fraud_rate: float = FRAUD_RATE
    #: The first day, UTC.
    start: date = date(2024, 1, 1)
    #: Radius of customers in a plane of 100 x 100; None: 5, more with few terminals.
    radius: float | None = None
    #: Delay of labels; None labels every fraud at once.
    label_delay: LabelDelay | None = None
    #: Weekends, pay days and growth.
    seasons: Seasons = FLAT
    #: Types of terminals in the column TERMINAL_TYPE; None: no such column.
    merchant_types: int | None = None
    #: Day from which all frauds are of scenario 4; None: never.
    new_fraud: date | None = None

    def __post_init__(self) -> None:
        """Check the parameters."""
        for name in ("days", "accounts", "merchants"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"--{name} {getattr(self, name)}: must be at least 1", Code.OPTION_VALUE
                )
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed {self.seed}: must be from 0 to {MAX_SEED}", Code.OPTION_VALUE)
        if not 0 < self.fraud_rate < 0.5:
            raise UsageError(
                f"--fraud-rate {self.fraud_rate}: must be above 0 and below 0.5 (0.008 is 0.8 %)",
                Code.OPTION_VALUE,
            )
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise UsageError(f"radius {self.radius}: must be above 0", Code.OPTION_VALUE)
        if self.merchant_types is not None and self.merchant_types < 1:
            raise UsageError(
                f"--merchant-types {self.merchant_types}: must be at least 1", Code.OPTION_VALUE
            )
        expected = self.accounts * self.days * sum(MEAN_PER_DAY) / 2
        if not self.seasons.flat:
            # Before the quieter days are thinned out.
            last = min(self.days, (date.max - self.start).days)
            expected *= self.seasons.busiest(self.start, max(last, 1))
        if max(expected, self.merchants) > MAX_TRANSACTIONS:
            raise UsageError(
                f"--accounts {self.accounts} --days {self.days} --merchants {self.merchants}: "
                f"too much for one run (at most {MAX_TRANSACTIONS:,} transactions); "
                "make several files with different --seed and --start",
                Code.OPTION_VALUE,
            )
        if self.days > (date.max - self.start).days:
            raise UsageError(
                f"--days {self.days} from --start {self.start}: "
                f"ends after the year {date.max.year}",
                Code.OPTION_VALUE,
            )
        if self.new_fraud is not None and not (
            self.start <= self.new_fraud < self.start + timedelta(days=self.days)
        ):
            raise UsageError(
                f"--new-fraud {self.new_fraud}: must be one of the {self.days} days "
                f"from {self.start} on",
                Code.OPTION_VALUE,
            )

    @property
    def reach(self) -> float:
        """The effective radius."""
        if self.radius is not None:
            return self.radius
        return max(RADIUS, SIDE * math.sqrt(TERMINALS_IN_REACH / (math.pi * self.merchants)))


def simulate(spec: Simulation) -> pa.Table:
    """Simulate labelled card transactions.

    Customers and terminals are placed at random in a plane of 100 x 100. Customers differ in mean
    amount and in transactions a day and buy at terminals within their radius. Frauds are amounts
    too high (scenario 1), terminals compromised for four weeks (2) and customers compromised for
    two (3); see `fraud.commit_frauds`, which also says how the rate is met. Method: chapter 3 of
    "Reproducible Machine Learning for Credit Card Fraud Detection - Practical Handbook" (ULB).

    With delays of labels, TX_FRAUD is what is known when the last day ends: 0 for frauds that are
    labelled later. TX_FRAUD_SCENARIO has the truth, and LABELLED_AT when the label was known,
    null for rows that are not labelled as fraud. Everything else is as without delays.

    From the day of `spec.new_fraud` on, frauds are of another kind (scenario 4): small amounts of
    any customer at a few new terminals, whose TERMINAL_TYPE is `new`.

    Returns:
      A table of the schema `TRANSACTIONS`, or `WITH_LABELLED_AT`, and TERMINAL_TYPE last if asked
      for; ordered by time, which is in whole seconds and UTC; ids count from `seed` times a
      thousand million; amounts have two decimals. It may be empty if `spec` is very small.

    Raises:
      UsageError: no customer has a terminal in reach.

    Example:
      >>> simulate(Simulation(days=7, accounts=10, merchants=20)).column_names[:2]
      ['TRANSACTION_ID', 'TX_DATETIME']
    """
    rng = np.random.default_rng(spec.seed)
    terminals = rng.uniform(0, SIDE, (spec.merchants, 2))
    homes = rng.uniform(0, SIDE, (spec.accounts, 2))
    reach = terminals_in_reach(homes, terminals, spec.reach)
    if not len(reach.terminals):
        raise UsageError(
            f"no terminal lies within {spec.reach:g} of any customer: "
            "give more --merchants or --accounts, or another --seed",
            Code.OPTION_VALUE,
        )
    customers = draw_customers(spec.accounts, rng)
    if spec.seasons.flat:
        purchases = draw_purchases(customers, reach, spec.days, rng)
    else:
        customers = spec.seasons.more_active(customers, spec.start, spec.days)
        purchases = spec.seasons.thinned(
            draw_purchases(customers, reach, spec.days, rng),
            spec.accounts,
            spec.start,
            spec.days,
            rng,
        )
    labelled = commit_frauds(
        purchases,
        spec.fraud_rate,
        customers=spec.accounts,
        terminals=spec.merchants,
        days=spec.days,
        rng=rng,
    )
    if spec.new_fraud is not None:
        first = (spec.new_fraud - spec.start).days
        labelled = commit_new_frauds(labelled, first, spec.fraud_rate, spec.merchants, rng)
    return _table(labelled, spec)


def _table(labelled: LabelledPurchases, spec: Simulation) -> pa.Table:
    purchases, scenario = labelled.purchases, labelled.scenario
    first = np.datetime64(spec.start, "s").astype(np.int64)
    lowest = spec.seed * _IDS_OF_A_SEED
    times = (purchases.second + first) * 1_000_000
    columns: list[npt.NDArray[np.generic]] = [
        np.arange(lowest, lowest + len(scenario), dtype=np.int64),
        times,
        purchases.customer.astype(np.int64) + lowest,
        purchases.terminal.astype(np.int64) + lowest,
        # A division by 100 gives the double nearest to the decimal; a product with 0.01 may not.
        purchases.cents / 100,
        (scenario > 0).astype(np.int8),
        scenario,
    ]
    schema, unknown = TRANSACTIONS, np.ones(len(scenario), dtype=bool)
    if spec.label_delay is not None:
        labelled_at = np.zeros(len(scenario), dtype=np.int64)
        frauds = np.flatnonzero(scenario)
        # A generator of its own: the transactions are those of the same seed without delays.
        rng = np.random.default_rng([spec.seed, 1])
        delays = spec.label_delay.draw(labelled.campaign[frauds], rng)
        labelled_at[frauds] = times[frauds] + delays
        end = (first + spec.days * SECONDS_PER_DAY) * 1_000_000
        unknown[frauds] = labelled_at[frauds] > end
        columns[5] = np.where(unknown, np.int8(0), columns[5])
        schema, columns = WITH_LABELLED_AT, [*columns, labelled_at]
    if spec.merchant_types is not None:
        schema = schema.append(TERMINAL_TYPE)
        columns.append(_types(purchases.terminal, spec))
    arrays = [
        pa.array(c, type=f.type, mask=unknown if f.nullable else None)
        for c, f in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _types(terminal: npt.NDArray[np.int32], spec: Simulation) -> npt.NDArray[np.object_]:
    """Return the type of each row's terminal: `type_01`, the most frequent, and so on."""
    types = spec.merchant_types or 1
    names = np.array([*(f"type_{i + 1:02}" for i in range(types)), NEW_TYPE], dtype=object)
    # A generator of its own: the transactions are those of the same seed without types.
    rng = np.random.default_rng([spec.seed, 2])
    share = 1 / np.arange(1, types + 1)
    of_terminal = rng.choice(types, spec.merchants, p=share / share.sum())
    known: npt.NDArray[np.object_] = names[
        np.concatenate([of_terminal, np.full(NEW_TERMINALS, types)])[terminal]
    ]
    return known
