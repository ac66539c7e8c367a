"""Alarms: raised by changes, quiet over weekends, growth and pay days, on drawn counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from beam_fraud.monitoring.drift.judgement import MIN_HISTORY, judge
from beam_fraud.monitoring.drift.report import DriftReport, Monitored, report_of
from beam_fraud.monitoring.drift.statistics import LATENESS_EDGES
from beam_fraud.monitoring.drift.summary import Layout, Measure, Summary

HOUR = Measure("hour", "numeric", tuple(map(float, range(23))))
DECISION = Measure("decision", "categorical", categories=("approve", "review", "decline"))
FLAGGED = Measure("flagged", "categorical", categories=("passed", "flagged"))
SCORE = Measure("score", "numeric", (0.1, 0.2, 0.5, 0.9))
AGE = Measure("age", "numeric", (1.0, 2.0, 3.0))
TYPE = Measure("type", "categorical", categories=("a", "b"))
FLAGGED_HOUR = Measure("flagged_hour", "numeric", tuple(map(float, range(23))))
LETTERS = Measure("dead_letters", "categorical", categories=("missing_amount", "wrong_type"))
LATENESS = Measure("lateness", "numeric", LATENESS_EDGES)
LAYOUT = Layout((HOUR, DECISION, FLAGGED, FLAGGED_HOUR, SCORE, AGE, TYPE, LETTERS, LATENESS))
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
        "flagged_hour": np.r_[np.full(24, 0.02 / 24), 0.98],
        "lateness": np.r_[0.9, 0.06, 0.02, 0.01, 0.01, 0, 0, 0, 0],
    }
    counts = np.zeros((days, 1, LAYOUT.width), np.int64)
    for name, share in shares.items():
        for at, n in enumerate(rows.tolist()):
            counts[at, 0, LAYOUT.spans[name]] = 5 * random.multinomial(n // 5, share)
    letters = random.poisson(rows[:, None] * [0.002, 0.001])
    counts[:, 0, LAYOUT.spans["dead_letters"].start :][:, :2] = letters
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
        ("lateness", (0, 4), 0.04, "late", "late rows"),
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


@pytest.mark.parametrize(("reason", "place"), [("wrong_type", 1), ("other reasons", 2)])
def test_more_dead_letters_are_an_alarm_of_their_reason(reason, place):
    summary = traffic(3)
    counts = summary.counts.copy()
    counts[CHANGE:, 0, LAYOUT.spans["dead_letters"].start + place] += 60
    alarms = report(replace(summary, counts=counts)).alarms
    assert {one.what for one in alarms} == {"dead letters", f"dead letters of {reason}"}
    assert {one.raised for one in alarms} == {str(np.datetime64(FIRST_DAY + CHANGE, "D"))}
    records = {one.what: one for one in report(replace(summary, counts=counts)).records}
    assert records[f"dead letters of {reason}"].share > 0.015
    assert 0.002 < records["dead letters"].earlier < 0.006


def outage(summary: Summary, hour: int, until: int) -> Summary:
    """Return the summary whose last day has no rows from an hour on, and ends at another one."""
    counts = summary.counts.copy()
    for name in ("hour", "flagged_hour"):
        start = LAYOUT.spans[name].start
        counts[-1, 0, start + hour : start + 24] = 0
    for name in ("decision", "flagged", "score", "age", "type", "lateness", "dead_letters"):
        counts[-1, 0, LAYOUT.spans[name]] = counts[-1, 0, LAYOUT.spans[name]] * hour // until
    return replace(summary, counts=counts)


def test_an_outage_is_an_alarm_on_the_same_day():
    summary = outage(traffic(0), 10, 14)
    last = str(np.datetime64(FIRST_DAY + DAYS - 1, "D"))
    now = datetime.fromisoformat(f"{last}T14:30:00+00:00")
    found = report(summary, now=now)
    [alarm] = found.alarms
    assert (alarm.kind, alarm.raised, alarm.until) == ("hour", last, None)
    assert alarm.what in {f"volume at {hour}:00" for hour in (10, 11, 12, 13)}
    assert found.windows[-1].judged is False
    assert [one.rows for one in found.hours[10:14]] == [0, 0, 0, 0]
    assert found.hours[11].usual_rows > 100
    assert [one.over for one in found.hours] == [hour < 14 for hour in range(24)]
    # Without the time, the rows say that the day has ended at ten.
    assert not report(summary).alarms


def test_an_hour_with_more_flagged_rows_is_an_alarm():
    summary = traffic(0)
    counts, span = summary.counts.copy(), LAYOUT.spans["flagged_hour"]
    random = np.random.default_rng(1)
    rows = counts[:, 0, LAYOUT.spans["hour"]][:, :24]
    counts[:, 0, span.start : span.start + 24] = random.binomial(rows, 0.12)
    assert not report(replace(summary, counts=counts)).alarms
    # Hours with fewer than a hundred rows are not judged.
    hour = int(rows[CHANGE].argmax())
    counts[CHANGE, 0, span.start + hour] *= 5
    [alarm] = report(replace(summary, counts=counts)).alarms
    assert alarm.what == f"flag rate at {hour:02d}:00"
    assert alarm.raised == alarm.until == str(np.datetime64(FIRST_DAY + CHANGE, "D"))
    assert alarm.observed == pytest.approx(5 * alarm.expected, rel=0.5)


def test_days_without_rows_up_to_now_are_an_outage():
    now = datetime.fromisoformat(f"{np.datetime64(FIRST_DAY + DAYS + 2, 'D')}T02:00:00+00:00")
    alarms = report(traffic(0), now=now).alarms
    first = str(np.datetime64(FIRST_DAY + DAYS, "D"))
    assert {"volume", "volume by hour"} <= {
        "volume by hour" if one.kind == "hour" else one.what for one in alarms
    }
    assert {one.raised for one in alarms if one.kind in ("volume", "hour")} == {first}


def test_hours_of_a_day_on_which_clocks_change_are_not_judged():
    # 31 March 2024 has no hour from two to three in Brussels.
    days = 91
    start = LAYOUT.spans["hour"].start
    # Three times as many rows: enough on a Sunday.
    counts = 3 * traffic(0, days).counts
    assert str(np.datetime64(FIRST_DAY + days - 1, "D")) == "2024-03-31"
    counts[-1, 0, start + 2] = 0
    summary = replace(traffic(0, days), counts=counts)
    reference = {m.name: summary.of(m.name)[:28].sum(axis=0) for m in (SCORE, AGE, TYPE)}
    monitored = Monitored("m@1", summary, reference, {}, zone=ZoneInfo("Europe/Brussels"))
    assert not [one for one in report_of(monitored, RATE).alarms if one.kind == "hour"]
    utc = replace(monitored, zone=UTC)
    [missing] = [one for one in report_of(utc, RATE).alarms if one.kind == "hour"]
    assert missing.what == "volume at 02:00"


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
