"""Figures of all traffic hold the truth where those of labelled rows alone do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.evaluation.traffic import SeenRows, estimate
from beam_fraud.records.label_file import UNKNOWN

Floats = npt.NDArray[np.float64]


class World:
    """Transactions of accounts, of which some are defrauded; a model finds some of the frauds."""

    def __init__(self, seed: int, rows: int = 60_000, audited: str = "5%") -> None:
        random = np.random.default_rng(seed)
        accounts = random.integers(0, rows // 20, rows)
        defrauded = random.random(rows // 20) < 0.03
        self.fraud = defrauded[accounts] & (random.random(rows) < 0.4)
        high, low = random.beta(3, 2, rows), random.beta(1, 12, rows)
        self.scores = np.where(self.fraud, high, low)
        flagged = self.scores >= 0.6
        lane = AuditLane.parse(audited)
        chosen = lane.chosen(pa.array([f"{seed}:{row}" for row in range(rows)]))
        self.recall = float((self.fraud & flagged).sum() / self.fraud.sum())
        seen = flagged | chosen
        self.seen = SeenRows(
            flagged=flagged[seen],
            labels=self.fraud[seen].astype(np.int8),
            scores=self.scores[seen],
            probability=np.where(flagged[seen], 1.0, lane.probability),
            accounts=accounts[seen].astype(np.int64),
        )


@pytest.mark.parametrize(
    ("seeds", "least"), [(20, 17), pytest.param(100, 90, marks=pytest.mark.soak)]
)
def test_the_true_recall_is_in_the_interval_and_the_naive_one_is_not(
    seeds: int, least: int
) -> None:
    held = naive = 0
    error = list[float]()
    for seed in range(seeds):
        world = World(seed)
        traffic = estimate(world.seen, count=20)
        interval = traffic.recall.interval
        assert interval is not None
        assert traffic.unweighted_recall is not None
        held += interval.low <= world.recall <= interval.high
        naive += interval.low <= traffic.unweighted_recall <= interval.high
        error.append(1 / (traffic.recall.value or np.nan) - 1 / world.recall)
    assert held >= least
    assert naive == 0
    # The estimated number of frauds is unbiased, and with it the inverse of recall.
    assert abs(np.mean(error)) < 4 * np.std(error) / np.sqrt(seeds)


def test_the_average_precision_is_that_of_all_rows() -> None:
    held = 0
    for seed in range(5):
        world = World(seed, audited="20%")
        traffic = estimate(world.seen, count=200)
        interval = traffic.average_precision.interval
        assert interval is not None
        held += interval.low <= average_precision_score(world.fraud, world.scores) <= interval.high
    assert held >= 4


def test_what_is_seen_whole_is_known() -> None:
    world = World(0, audited="100%")
    traffic = estimate(world.seen, count=100)
    assert traffic.recall.value == pytest.approx(world.recall)
    assert traffic.recall.interval is not None
    assert traffic.recall.interval.low == pytest.approx(world.recall)
    assert traffic.recall.interval.high == pytest.approx(world.recall)
    assert traffic.average_precision.value == pytest.approx(
        average_precision_score(world.fraud, world.scores)
    )
    assert traffic.frauds.value == pytest.approx(world.fraud.sum())
    assert traffic.transactions == len(world.fraud)


def test_an_audit_without_a_fraud_still_bounds_recall() -> None:
    world = World(0, rows=20_000, audited="0.5%")
    genuine = world.seen.flagged | (world.seen.labels == 0)
    seen = replace(
        world.seen,
        **{name: getattr(world.seen, name)[genuine] for name in vars(world.seen)},
    )
    traffic = estimate(seen)
    assert traffic.recall.value == 1.0
    assert traffic.recall.interval is not None
    # Up to 3.7 frauds may have been there, each of which stands for 200.
    caught = int((seen.labels[seen.flagged] == 1).sum())
    assert traffic.recall.interval.low == pytest.approx(caught / (caught + 3.689 * 200), rel=0.01)
    assert traffic.average_precision.interval is None
    assert any("the audit is small" in warning for warning in traffic.warnings)


def test_an_audit_bounds_the_recall_of_a_model_that_catches_nothing() -> None:
    world = World(0)
    left = ~world.seen.flagged | (world.seen.labels == 0)
    seen = replace(
        world.seen, **{name: getattr(world.seen, name)[left] for name in vars(world.seen)}
    )
    known = estimate(seen, count=20).recall
    assert known.interval is not None
    assert (known.value, known.interval.low, known.interval.high) == (0.0, 0.0, 0.0)
    # Of flagged rows without a label, a few may be frauds.
    some = np.where(seen.flagged & (np.arange(len(seen.labels)) % 3 == 0), UNKNOWN, seen.labels)
    partly = estimate(replace(seen, labels=some.astype(np.int8)), count=20).recall
    assert partly.interval is not None
    assert partly.value == partly.interval.low == 0.0
    assert 0.0 < partly.interval.high < 0.2


def test_missing_labels_are_made_up_for_and_said() -> None:
    world = World(3, audited="20%")
    random = np.random.default_rng(0)
    held = 0
    for _ in range(20):
        labels = world.seen.labels.copy()
        labels[random.random(len(labels)) < 0.3] = UNKNOWN
        traffic = estimate(replace(world.seen, labels=labels), count=20)
        assert traffic.recall.interval is not None
        held += traffic.recall.interval.low <= world.recall <= traffic.recall.interval.high
    assert held >= 17
    assert sum("have no label" in warning for warning in traffic.warnings) == 2
    nothing = estimate(
        replace(world.seen, labels=np.where(world.seen.flagged, world.seen.labels, UNKNOWN))
    )
    assert nothing.recall.value is None
    assert any("no audited transaction has a label" in warning for warning in nothing.warnings)


def test_rows_of_several_shares_stand_for_as_many() -> None:
    few, many = World(5, audited="5%").seen, World(6, audited="40%").seen
    together = SeenRows(
        **{
            name: np.concatenate([getattr(few, name), getattr(many, name)])
            for name in ("flagged", "labels", "scores", "probability", "accounts")
        }
    )
    missed = [estimate(one, count=20).missed.value for one in (few, many)]
    assert estimate(together, count=20).missed.value == pytest.approx(sum(map(float, missed)))
