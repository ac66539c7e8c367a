"""Expected figures of simulated weeks against the truth, before and after frauds change."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from threadpoolctl import threadpool_limits

from beam_fraud.evaluation.quality.expected import expected_of
from beam_fraud.evaluation.quality.quality import Labelled, Quality, ScoredDays, quality_of
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.kinds import model_kind
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reliability import BINS, Reliability, bins_of
from beam_fraud.models.threshold import MostF1
from beam_fraud.models.training import Recipe, train
from beam_fraud.records.known_frauds import KnownFrauds
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.fraud import COMPROMISED_CUSTOMER, COMPROMISED_TERMINAL
from beam_fraud.simulate.label_delay import parse_label_delay
from beam_fraud.simulate.simulation import Simulation, simulate

#: A Monday, and the days of history, of training rows, and of validation rows among them.
START, HISTORY, TRAINING, VALIDATION = date(2024, 1, 1), 28, 56, 28
#: Weeks of the archive in which nothing has changed, and in which frauds are of a new kind.
SAME, CHANGED = 8, 3


@dataclass(frozen=True)
class Outcome:
    """Weeks of one seed."""

    quality: Quality
    #: float64[SAME, 2]: true precision and recall.
    truth: npt.NDArray[np.float64]
    #: float64[SAME, 2]: their standard errors: how far they vary where nothing changes.
    chance: npt.NDArray[np.float64]
    #: float64[SAME, 2]: expected by the true shares of fraud of the archive's other weeks, which
    #: are not known in time: the best that scores can tell.
    best: npt.NDArray[np.float64]

    @property
    def expected(self) -> npt.NDArray[np.float64]:
        """float64[SAME, 2]: expected precision and recall."""
        values = [
            [one.expected.precision.value, one.expected.recall.value]
            for one in self.quality.periods[:SAME]
            if one.expected is not None
        ]
        return np.array(values, dtype=np.float64)

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """float64[SAME, 2]: expected less true precision and recall."""
        return self.expected - self.truth

    @property
    def covered(self) -> float:
        """Share of the true figures that lie in the intervals."""
        inside = [
            figure.interval.low <= true <= figure.interval.high
            for one, (precision, recall) in zip(self.quality.periods, self.truth, strict=False)
            if one.expected is not None
            for figure, true in ((one.expected.precision, precision), (one.expected.recall, recall))
            if figure.interval is not None
        ]
        return float(np.mean(inside))

    @property
    def contradicted(self) -> tuple[int, int]:
        """Weeks that labels contradict, before and after the change."""
        wrong = [bool(one.contradicted) for one in self.quality.periods]
        return sum(wrong[:SAME]), sum(wrong[SAME:])


def outcome(seed: int, accounts: int, fraud_rate: float) -> Outcome:
    """Simulate, train, and score the weeks after; labels come late."""
    days = HISTORY + TRAINING + 7 * (SAME + CHANGED)
    spec = Simulation(
        days=days,
        accounts=accounts,
        merchants=2 * accounts,
        fraud_rate=fraud_rate,
        seed=seed,
        start=START,
        label_delay=parse_label_delay("median=7d,sigma=0.8"),
        new_fraud=START + timedelta(days=days - 7 * CHANGED),
    )
    rows = simulate(spec)
    truth = pc.greater(rows["TX_FRAUD_SCENARIO"], 0).cast(pa.int8())
    known_at = rows["LABELLED_AT"].cast(pa.int64()).fill_null(0).to_numpy()
    place = rows.column_names.index("TX_FRAUD")
    table = load_dataset(rows.set_column(place, "TX_FRAUD", truth), HANDBOOK).transactions
    times = event_micros(table)
    first, last = (
        int(np.searchsorted(times, micros(START + timedelta(days=day))))
        for day in (HISTORY, HISTORY + TRAINING)
    )
    valid_from = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(
        days=HISTORY + TRAINING - VALIDATION
    )
    kind = model_kind("hist_gradient_boosting", ("trees=60",))
    recipe = Recipe(kind=kind, rule=MostF1(), valid_from=valid_from)
    with threadpool_limits(1):
        trained = train(table.slice(first, last - first), HANDBOOK, recipe)
        after, times, known_at = table.slice(last), times[last:], known_at[last:]
        scores = predict_scores(trained.model, feature_matrix(after, trained.features))
    flagged = scores >= trained.threshold
    fraud = after["label"].to_numpy() == 1
    day = times // DAY
    counts = np.zeros((int(day.max() - day.min()) + 1, 2, BINS), np.int64)
    np.add.at(counts, (day - day.min(), flagged.astype(int), bins_of(scores)), 1)
    own = fraud & (known_at > 0)
    cards, merchants = (
        after[name].combine_chunks().dictionary_encode().indices.to_numpy()[own].astype(np.uint64)
        for name in ("account_id", "merchant_id")
    )
    frauds = KnownFrauds(
        *(day[own], times[own], known_at[own], flagged[own], scores[own]),
        *(np.ones(int(own.sum())), cards, merchants),
    )
    labelled = Labelled(frauds, np.ones(len(frauds)), micros(START + timedelta(days=days)))
    scored = ScoredDays(np.unique(day), counts, UTC)
    week = (day - day.min()) // 7
    together = campaigns(rows, after)
    figures = [
        (share(fraud, at & flagged, together), share(flagged, at & fraud, together))
        for at in (week == one for one in range(SAME))
    ]
    truth, chance = np.moveaxis(np.array(figures), 2, 0)
    of_week = np.stack([counts[7 * one : 7 * one + 7].sum(axis=0) for one in range(SAME)])
    own_frauds = np.stack(
        [np.bincount(bins_of(scores[(week == one) & fraud]), minlength=BINS) for one in range(SAME)]
    )
    best = by_other_weeks(of_week, own_frauds)
    return Outcome(quality_of(scored, trained.reliability, labelled), truth, chance, best)


def by_other_weeks(
    rows: npt.NDArray[np.int64], frauds: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return expected precision and recall, float64[n, 2], of each of n weeks by all others.

    Args:
      rows: int64[n, 2, BINS], passed and flagged rows by score.
      frauds: int64[n, BINS].
    """
    figures = []
    for one in range(len(rows)):
        others = np.arange(len(rows)) != one
        known = Reliability(
            rows[others].sum(axis=(0, 1)).astype(np.float64),
            frauds[others].sum(axis=0).astype(np.float64),
            together=1.0,
        )
        expected = expected_of(rows[one], known)
        figures.append([expected.precision.value, expected.recall.value])
    return np.array(figures, dtype=np.float64)


def campaigns(rows: pa.Table, after: pa.Table) -> npt.NDArray[np.int64]:
    """Return a number for the card, the terminal or the row that each of the last rows stands for.

    Frauds of a stolen card, or at a compromised terminal, are caught or missed together.
    """
    scenario = rows["TX_FRAUD_SCENARIO"].to_numpy()[-len(after) :]
    keys = np.arange(len(after))
    for kind, name in ((COMPROMISED_TERMINAL, "merchant_id"), (COMPROMISED_CUSTOMER, "account_id")):
        codes = after[name].combine_chunks().dictionary_encode().indices.to_numpy()
        keys = np.where(scenario == kind, -1 - 4 * codes.astype(np.int64) - kind, keys)
    return keys


def share(
    values: npt.NDArray[np.bool_], at: npt.NDArray[np.bool_], of: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Return the share of true values at some rows, and its standard error with rows in groups."""
    own = values[at]
    mean = float(own.mean())
    groups = np.unique(of[at], return_inverse=True)[1]
    sums = np.bincount(groups, own - mean)
    return mean, float(np.sqrt((sums**2).sum())) / len(own)


def micros(day: date) -> int:
    return micros_of(datetime(day.year, day.month, day.day, tzinfo=UTC))


@pytest.mark.soak
@pytest.mark.parametrize(("accounts", "seeds"), [(3000, 20), (12_000, 4)], ids=["bank", "large"])
def test_expected_figures_of_simulated_archives(accounts: int, seeds: int) -> None:
    first = int(os.environ.get("BEAM_FRAUD_QUALITY_FIRST", "500"))
    found = []
    for seed in range(first, first + int(os.environ.get("BEAM_FRAUD_QUALITY_SEEDS", str(seeds)))):
        one = outcome(seed, accounts, fraud_rate=0.05)
        found.append(one)
        for week in range(SAME):
            figures = zip(one.expected[week], one.truth[week], one.chance[week], strict=True)
            shown = ("{:.3f} {:.3f} +- {:.3f}".format(*figure) for figure in figures)
            print(f"{seed} week {week + 1}: expected and true precision, recall", *shown, sep="  ")
        before, after = one.contradicted
        print(
            f"{seed}: largest errors {np.abs(one.errors).max(axis=0).round(3)}, "
            f"root mean square {np.sqrt((one.errors**2).mean(axis=0)).round(3)}, "
            f"covered {one.covered:.2f}, contradicted weeks {before} before, {after} after; "
            f"{one.quality.assumption.holds}",
            flush=True,
        )
    errors = np.stack([one.errors for one in found])
    chance = np.stack([one.chance for one in found])
    within = (np.abs(errors) <= 0.05).mean(axis=(0, 1))
    bias, spread = errors.mean(axis=(0, 1)), np.sqrt((errors**2).mean(axis=(0, 1)))
    floor = np.sqrt(np.mean([(one.best - one.truth) ** 2 for one in found], axis=(0, 1)))
    nearest = np.mean([np.abs(one.best - one.truth) <= 0.05 for one in found], axis=(0, 1))
    print(f"within 0.05 {within}, mean {bias}, root mean square {spread}")
    print(
        f"by week {errors.mean(axis=0).round(3).tolist()}, chance of a week {chance.mean((0, 1))}"
    )
    print(f"by the truth of the other weeks: within 0.05 {nearest}, root mean square {floor}")
    assert within.mean() >= (0.95 if accounts < 12_000 else 1)
    assert np.mean([one.covered for one in found]) >= 0.9
    assert spread[1] <= 0.02 + floor[1]
    # The validation rows of an archive have chance of their own, the same for all of its weeks.
    assert (np.abs(bias) <= 0.01 + 0.05 / np.sqrt(len(found))).all()
    assert sum(one.contradicted[0] for one in found) <= 0.05 * len(found) * SAME
    assert all(one.quality.assumption.holds is False for one in found)
    assert all(one.contradicted[1] for one in found)
