"""Alarms: raised by changes, quiet over weekends, growth and pay days, on drawn counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from beam_fraud.monitoring.drift.judgement import MIN_HISTORY, judge
from beam_fraud.monitoring.drift.report import DriftReport, Monitored, report_of
from beam_fraud.monitoring.drift.summary import Layout, Measure, Summary

HOUR = Measure("hour", "numeric", tuple(map(float, range(23))))
DECISION = Measure("decision", "categorical", categories=("approve", "review", "decline"))
FLAGGED = Measure("flagged", "categorical", categories=("passed", "flagged"))
SCORE = Measure("score", "numeric", (0.1, 0.2, 0.5, 0.9))
AGE = Measure("age", "numeric", (1.0, 2.0, 3.0))
TYPE = Measure("type", "categorical", categories=("a", "b"))
LAYOUT = Layout((HOUR, DECISION, FLAGGED, SCORE, AGE, TYPE))
#: A Monday.
FIRST_DAY = 19_723
DAYS = 80
CHANGE = 70
RATE = 1 / 30


def traffic(seed: int, days: int = DAYS) -> Summary:
    """Draw days of about 3,000 rows, fewer at weekends, with 2 % more each week and pay days."""
    random = np.random.default_rng(seed)
    day = np.arange(days)
    volume = 3000 * np.where(day % 7 >= 5, 0.6, 1.0) * 1.02 ** (day / 7)
    volume *= np.where((day % 30 >= 24) & (day % 30 <= 26), 1.4, 1.0)
    # Rows come in accounts of about five: counts spread more than those of independent rows.
    rows = 5 * random.poisson(volume / 5)
    shares = {
        "hour": np.r_[np.full(24, 1 / 24), 0],
        "decision": np.r_[0.98, 0.02, 0, 0, 0],
        "flagged": np.r_[0.98, 0.02, 0, 0],
        "score": np.r_[0.7, 0.2, 0.07, 0.02, 0.01, 0],
        "age": np.r_[0.25, 0.25, 0.25, 0.24, 0.01],
        "type": np.r_[0.6, 0.4, 0, 0],
    }
    counts = np.zeros((days, 1, LAYOUT.width), np.int64)
    for name, share in shares.items():
        for at, n in enumerate(rows.tolist()):
            counts[at, 0, LAYOUT.spans[name]] = 5 * random.multinomial(n // 5, share)
    return Summary(LAYOUT, FIRST_DAY + day, counts)


def changed(summary: Summary, measure: str, move: tuple[int, int], share: float) -> Summary:
    """Move a share of the rows of a bin to another from the day of the change on."""
    counts = summary.counts.copy()
    span = LAYOUT.spans[measure]
    source, target = span.start + move[0], span.start + move[1]
    moved = np.rint(counts[CHANGE:, 0, source] * share).astype(np.int64)
    counts[CHANGE:, 0, source] -= moved
    counts[CHANGE:, 0, target] += moved
    return replace(summary, counts=counts)


def report(summary: Summary, **options: object) -> DriftReport:
    reference = {m.name: summary.of(m.name)[:28].sum(axis=0) for m in (SCORE, AGE, TYPE)}
    return report_of(
        Monitored("m@1", summary, reference, {"age": 0.5, "type": 0.1}), RATE, **options
    )


def test_weekends_growth_and_pay_days_raise_no_more_alarms_than_stated():
    found = [judge(traffic(seed, 95), RATE) for seed in range(10)]
    days = sum(int(one.judged.sum()) for one in found)
    assert days == 600
    assert sum(len(one.findings) for one in found) <= days * RATE


@pytest.mark.parametrize(
    ("measure", "move", "share", "kind", "what"),
    [
        ("type", (0, 2), 0.02, "unseen", "unseen values of type"),
        ("age", (0, 4), 0.3, "missing", "missing values of age"),
        ("flagged", (0, 1), 0.06, "share", "flag rate"),
        ("age", (0, 3), 0.9, "profile", "distribution of age"),
        ("hour", (12, 13), 1.0, "profile", "distribution of hour"),
    ],
)
def test_a_change_raises_its_alarm_within_two_days(measure, move, share, kind, what):
    for seed in range(4):
        day = np.datetime64(FIRST_DAY + CHANGE, "D")
        alarms = report(changed(traffic(seed), measure, move, share)).alarms
        late = [one for one in alarms if one.raised >= str(day)]
        [own] = [one for one in late if one.what == what and one.kind == kind]
        assert own.raised in {str(day), str(day + 1)}
        assert own.since <= own.raised
        assert own.until is None
        assert own.advice


def test_lost_rows_are_a_change_of_volume():
    summary = traffic(0)
    counts = summary.counts.copy()
    counts[CHANGE:] = 0
    alarms = report(replace(summary, counts=counts), complete=True).alarms
    [volume] = [one for one in alarms if one.kind == "volume"]
    assert volume.raised == str(np.datetime64(FIRST_DAY + CHANGE, "D"))
    assert volume.size < 0


def test_an_unfinished_last_day_is_not_judged():
    summary = traffic(0)
    counts = summary.counts.copy()
    counts[-1] //= 10
    counts[-1, 0, LAYOUT.spans["hour"]][20:] = 0
    found = report(replace(summary, counts=counts))
    assert not found.alarms
    assert [window.judged for window in found.windows[-2:]] == [True, False]


def test_days_before_five_weeks_are_history():
    found = report(traffic(0, MIN_HISTORY))
    assert not any(window.judged for window in found.windows)
    assert report(traffic(0), since="2024-03-15").windows[-7].judged is False


def test_an_alarm_weighs_what_the_score_depends_on():
    summary = changed(changed(traffic(1), "age", (0, 4), 0.5), "type", (0, 2), 0.1)
    weights = {one.measure: one.weight for one in report(summary).alarms if one.kind != "reference"}
    assert weights["age"] == 0.5
    assert weights["type"] == 0.1


def test_values_far_from_the_training_rows_are_an_alarm_without_history():
    summary = traffic(0, 14)
    counts = summary.counts.copy()
    counts[7:, 0, LAYOUT.spans["age"]] = counts[7:, 0, LAYOUT.spans["age"]][:, [3, 3, 3, 3, 4]]
    counts[7:, 0, LAYOUT.spans["age"].start : LAYOUT.spans["age"].start + 2] = 0
    reference = {"age": summary.of("age").sum(axis=0)}
    found = report_of(Monitored("m@1", replace(summary, counts=counts), reference, {}), RATE)
    [alarm] = found.alarms
    assert (alarm.kind, alarm.measure, alarm.until) == ("reference", "age", None)
