"""Expected figures hold while scores mean what they meant, and labels or drift say when not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import numpy as np
import numpy.typing as npt
import pytest

from beam_fraud.evaluation.quality.quality import Labelled, Quality, ScoredDays, quality_of
from beam_fraud.models.reliability import BINS, Reliability, bins_of
from beam_fraud.monitoring.drift.report import Alarm
from beam_fraud.records.known_frauds import KnownFrauds
from beam_fraud.schema.duration import DAY

THRESHOLD = 0.6
#: Rows a week; the first day is a Monday.
ROWS, MONDAY = 40_000, 4


class World:
    """Weeks of scored rows, the truth, and labels that come late."""

    def __init__(
        self,
        seed: int,
        weeks: int = 8,
        *,
        new_kind_from: int | None = None,
        passed_later: float = 1.0,
    ) -> None:
        self.random = random = np.random.default_rng(seed)
        count = weeks * ROWS
        self.times = np.sort(random.integers(0, weeks * 7 * DAY, count)) + MONDAY * DAY
        self.fraud = random.random(count) < 0.01
        self.scores = np.where(self.fraud, random.beta(3, 2, count), random.beta(1, 20, count))
        if new_kind_from is not None:
            # The model does not see it: its scores are those of genuine rows.
            new = self.fraud & (self.week >= new_kind_from)
            self.scores[new] = random.beta(1, 20, int(new.sum()))
        self.flagged = self.scores >= THRESHOLD
        self.as_of = int((weeks * 7 + MONDAY) * DAY)
        delays = random.lognormal(np.log(5), 0.6, count) * DAY
        delays[~self.flagged] *= passed_later
        self.known_at = self.times + delays.astype(np.int64)
        self.known = self.fraud & (self.known_at <= self.as_of)

    @property
    def week(self) -> npt.NDArray[np.int64]:
        return (self.times // DAY - MONDAY) // 7

    def scored(self) -> ScoredDays:
        days = self.times // DAY
        rows = np.zeros((int(days.max() - days.min()) + 1, 2, BINS), np.int64)
        np.add.at(rows, (days - days.min(), self.flagged.astype(int), bins_of(self.scores)), 1)
        return ScoredDays(np.unique(days), rows, UTC)

    def labelled(self, known: npt.NDArray[np.bool_], weights: float = 1.0) -> Labelled:
        """Return the known frauds; passed ones stand for others."""
        own = np.arange(int(known.sum())).astype(np.uint64)
        flagged = self.flagged[known]
        times = self.times[known]
        chance = np.where(flagged, 1.0, 1 / weights)
        frauds = KnownFrauds(
            *(times // DAY, times, self.known_at[known], flagged, self.scores[known]),
            *(chance, own, own),
        )
        return Labelled(frauds, 1 / chance, self.as_of)

    def quality(self, *, labels: bool = True, alarms: tuple[Alarm, ...] = ()) -> Quality:
        labelled = self.labelled(self.known) if labels else None
        return quality_of(self.scored(), validated(), labelled, alarms)

    def truth(self, week: int) -> tuple[float, float]:
        own = self.week == week
        fraud, flagged = self.fraud[own], self.flagged[own]
        return float(fraud[flagged].mean()), float(flagged[fraud].mean())


def validated() -> Reliability:
    """Return the rows of earlier weeks by score."""
    world = World(1007, weeks=4)
    return Reliability.of(world.fraud.astype(np.int8), world.scores, 1.0)


ALARM = Alarm(
    what="unseen values of type",
    kind="unseen",
    measure="type",
    segment=None,
    since="1970-02-03",
    raised="1970-02-03",
    until=None,
    size=0.01,
    observed=0.01,
    expected=0.0,
    p=1e-9,
    weight=0.2,
    advice="",
)


@pytest.mark.parametrize("labels", [False, True])
def test_expected_figures_are_near_the_truth_and_cover_it(labels: bool) -> None:
    covered = []
    for seed in range(4):
        world = World(seed)
        for week, period in enumerate(world.quality(labels=labels).periods):
            assert period.expected is not None
            for figure, true in zip(
                (period.expected.precision, period.expected.recall), world.truth(week), strict=True
            ):
                assert figure.value == pytest.approx(true, abs=0.05)
                assert figure.interval is not None
                covered.append(figure.interval.low <= true <= figure.interval.high)
    assert np.mean(covered) > 0.88


def test_without_labels_the_assumption_is_not_checked() -> None:
    quality = World(0).quality(labels=False)
    assert quality.assumption.holds is None
    assert "validation rows" in quality.assumption.text
    assert quality.labels_as_of is None
    assert all(period.measured is None for period in quality.periods)


def test_an_alarm_of_drift_doubts_the_weeks_in_which_it_goes_on() -> None:
    quality = World(0).quality(alarms=(ALARM, replace(ALARM, kind="volume", since="1970-01-05")))
    assert [bool(period.doubts) for period in quality.periods] == [False] * 4 + [True] * 4
    assert quality.assumption.holds is False
    assert "unseen values of type" in quality.assumption.why
    ended = World(0).quality(alarms=(replace(ALARM, until="1970-02-04"),))
    assert sum(bool(period.doubts) for period in ended.periods) == 1


def test_young_figures_are_corrected_and_marked_or_withheld() -> None:
    world = World(1, passed_later=2.0)
    quality = world.quality()
    states = []
    for week, period in enumerate(quality.periods):
        measured = period.measured
        assert measured is not None
        states.append(measured.state)
        if measured.state == "immature":
            assert measured.precision.value is None
            assert measured.recall.value is None
            assert measured.frauds.value is None
            continue
        for figure, true in zip(
            (measured.precision, measured.recall), world.truth(week), strict=True
        ):
            assert figure.value == pytest.approx(true, abs=0.06)
    assert states[0] == "mature"
    assert "corrected" in states
    assert states == sorted(states, key=["mature", "corrected", "immature"].index)
    assert quality.assumption.holds
    assert quality.delay_median_days == pytest.approx(6.5, abs=1)


def test_labels_of_passed_frauds_that_come_later_do_not_raise_recall() -> None:
    world = World(2, passed_later=2.0)
    week, measured = next(
        (week, period.measured)
        for week, period in enumerate(world.quality().periods)
        if period.measured is not None and period.measured.state == "corrected"
    )
    own = world.known & (world.week == week)
    _, recall = world.truth(week)
    naive = float(world.flagged[own].mean())
    assert measured.recall.value is not None
    assert abs(measured.recall.value - recall) < abs(naive - recall)


@pytest.mark.parametrize(
    "seeds", [range(3), pytest.param(range(20), marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_labels_say_when_the_assumption_fails(seeds: range) -> None:
    held = 0
    for seed in seeds:
        held += World(seed).quality().assumption.holds is True
        drifted = World(seed, new_kind_from=4).quality()
        assert drifted.assumption.holds is False
        assert "frauds" in drifted.assumption.why
        assert not any(period.contradicted for period in drifted.periods[:3])
    assert held >= len(seeds) - 1


def test_a_bundle_without_validation_rows_learns_from_mature_weeks() -> None:
    world = World(4)
    quality = quality_of(world.scored(), None, world.labelled(world.known))
    assert quality.periods[0].expected is None
    last = quality.periods[-1].expected
    assert last is not None
    assert last.recall.value == pytest.approx(world.truth(7)[1], abs=0.06)
    assert "validation rows" in quality.warnings[0]
    nothing = quality_of(world.scored(), None)
    assert nothing.assumption.holds is None


def test_frauds_of_the_audit_stand_for_those_that_nobody_saw() -> None:
    world = World(3)
    seen = world.flagged | (world.random.random(len(world.times)) < 0.1)
    quality = quality_of(
        world.scored(), validated(), world.labelled(world.known & seen, weights=10.0)
    )
    unweighted = []
    for week, period in enumerate(quality.periods[:4]):
        assert period.measured is not None
        interval = period.measured.recall.interval
        assert interval is not None
        own = world.known & seen & (world.week == week)
        assert interval.low <= world.truth(week)[1] <= interval.high
        unweighted.append(float(world.flagged[own].mean()) <= interval.high)
    assert not all(unweighted)


def test_recall_is_withheld_where_nobody_labels_what_passed() -> None:
    world = World(5)
    quality = quality_of(world.scored(), validated(), world.labelled(world.known & world.flagged))
    first = quality.periods[0].measured
    assert first is not None
    assert first.recall.value is None
    assert first.precision.value is not None
    assert "audit" in quality.warnings[0]
