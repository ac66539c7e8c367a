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

from beam_fraud.evaluation.quality.quality import Labelled, Quality, ScoredDays, quality_of
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.kinds import model_kind
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reliability import BINS, bins_of
from beam_fraud.models.threshold import MostF1
from beam_fraud.models.training import Recipe, train
from beam_fraud.records.known_frauds import KnownFrauds
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of
from beam_fraud.schema.presets import HANDBOOK
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

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """float64[SAME, 2]: expected less true precision and recall."""
        values = [
            [one.expected.precision.value, one.expected.recall.value]
            for one in self.quality.periods[:SAME]
            if one.expected is not None
        ]
        return np.array(values, dtype=np.float64) - self.truth

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
    true = [
        [fraud[(week == one) & flagged].mean(), flagged[(week == one) & fraud].mean()]
        for one in range(SAME)
    ]
    return Outcome(quality_of(scored, trained.reliability, labelled), np.array(true))


def micros(day: date) -> int:
    return micros_of(datetime(day.year, day.month, day.day, tzinfo=UTC))


@pytest.mark.soak
def test_expected_figures_of_twenty_simulated_archives() -> None:
    first = int(os.environ.get("BEAM_FRAUD_QUALITY_FIRST", "500"))
    found = []
    for seed in range(first, first + int(os.environ.get("BEAM_FRAUD_QUALITY_SEEDS", "20"))):
        one = outcome(seed, accounts=3000, fraud_rate=0.05)
        found.append(one)
        largest, (before, after) = np.abs(one.errors).max(axis=0), one.contradicted
        print(
            f"{seed}: largest error of precision {largest[0]:.3f}, of recall {largest[1]:.3f}, "
            f"root mean square {np.sqrt((one.errors**2).mean(axis=0)).round(3).tolist()}, "
            f"covered {one.covered:.2f}, contradicted weeks {before} before, {after} after; "
            f"{one.quality.assumption.holds}",
            flush=True,
        )
    errors = np.abs(np.concatenate([one.errors for one in found]))
    print(f"within 0.05: {(errors <= 0.05).mean(axis=0)}, means {errors.mean(axis=0)}")
    assert (errors <= 0.05).mean() >= 0.95
    assert np.mean([one.covered for one in found]) >= 0.9
    assert sum(one.contradicted[0] for one in found) <= 0.05 * len(found) * SAME
    assert all(one.quality.assumption.holds is False for one in found)
    assert all(one.contradicted[1] for one in found)
