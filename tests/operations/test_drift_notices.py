"""Notices of alarms: each alarm once, those of a day together, none that is snoozed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select, update

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.snoozes import Snooze, lift, snooze
from beam_fraud.monitoring.drift.report import Alarm, DriftReport
from beam_fraud.operations.drift.notices import queue_alarms, snoozes_of, with_snoozes
from beam_fraud.storage.database.connection import sqlite_url, transaction, writing
from beam_fraud.storage.database.tables import DELIVERIES
from tests.monitoring.test_drift_alarms import report, traffic

CHANNELS = ("file:one", "file:two")


def alarm(what: str, since: str, raised: str, **changes: object) -> Alarm:
    alarm = Alarm(
        what=what,
        kind="unseen",
        measure=what.rpartition(" ")[2],
        segment=None,
        since=since,
        raised=raised,
        until=None,
        size=0.1,
        observed=0.1,
        expected=0.0,
        p=1e-6,
        weight=0.5,
        advice="Look.",
    )
    return replace(alarm, **changes)  # type: ignore[arg-type]


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = sqlite_url(tmp_path / "outbox.db")
    Outbox(url).begin()
    return url


@pytest.fixture(scope="module")
def empty() -> DriftReport:
    return report(traffic(0, 36))


def text(day: str, alarms: Sequence[Alarm]) -> str:
    return f"{day}: {', '.join(one.figure for one in alarms)}"


def texts(url: str) -> list[str]:
    query = select(DELIVERIES.c.text).where(DELIVERIES.c.channel == CHANNELS[0])
    with transaction(url) as connection:
        return sorted(connection.scalars(query))


def test_an_alarm_that_persists_is_one_notice(url, empty):
    first = [alarm("unseen a", "2024-03-01", "2024-03-02"), alarm("b", "2024-03-02", "2024-03-02")]
    found = replace(empty, alarms=tuple(first))
    sent = queue_alarms(url, CHANNELS, found, text)
    assert len(sent) == 2
    assert texts(url) == ["2024-03-02: unseen a, b"]
    # The next nights, of which one judges the first days a little differently.
    moved = (replace(first[0], since="2024-03-02", raised="2024-03-03"), first[1])
    for alarms in (first, moved, first):
        assert queue_alarms(url, CHANNELS, replace(empty, alarms=tuple(alarms)), text) == sent
    assert texts(url) == ["2024-03-02: unseen a, b"]
    with writing(url) as connection:
        connection.execute(update(DELIVERIES).values(state="sent"))
    assert queue_alarms(url, CHANNELS, found, text) == set()
    # Another figure, another segment, and the same figure again after its end are other alarms.
    others = (
        alarm("c", "2024-03-05", "2024-03-05"),
        replace(first[0], segment="country=BE", raised="2024-03-05"),
        alarm("unseen a", "2024-03-20", "2024-03-21"),
    )
    queue_alarms(url, CHANNELS, replace(empty, alarms=(*first, *others)), text)
    assert texts(url) == [
        "2024-03-02: unseen a, b",
        "2024-03-05: c, unseen a of country=BE",
        "2024-03-21: unseen a",
    ]


def test_a_notice_says_its_alarms_to_programs_as_well(url, empty):
    found = replace(empty, alarms=(alarm("unseen a", "2024-03-01", "2024-03-02"),))
    queue_alarms(url, CHANNELS[:1], found, text)
    with transaction(url) as connection:
        event = msgspec.json.decode(connection.scalar(select(DELIVERIES.c.event)))
    [told] = event["drift"]["alarms"]
    assert told == {
        "what": "unseen a",
        "segment": None,
        "since": "2024-03-01",
        "raised": "2024-03-02",
    }


def snoozed(value: str) -> Snooze:
    return Snooze("figure", value, datetime.now(UTC) + timedelta(days=3))


@pytest.mark.parametrize(
    ("value", "quiet"),
    [
        ("unseen values of type", {"unseen values of type"}),
        ("unseen values of type of c=BE", {"unseen values of type of c=BE"}),
        (
            "type",
            {"unseen values of type", "unseen values of type of c=BE", "distribution of type"},
        ),
        ("volume", {"volume"}),
        ("nothing", set()),
    ],
)
def test_a_snooze_hides_its_figure_or_feature_alone(empty, value, quiet):
    unseen = alarm("unseen values of type", "2024-03-01", "2024-03-01", measure="type")
    alarms = (
        unseen,
        replace(unseen, segment="c=BE"),
        replace(unseen, what="distribution of type", kind="profile"),
        replace(unseen, what="missing values of age", kind="missing", measure="age"),
        replace(unseen, what="volume", kind="volume", measure="volume"),
        replace(unseen, what="volume", kind="volume", measure="volume", segment="c=BE"),
    )
    found = with_snoozes(replace(empty, alarms=alarms), [snoozed(value)])
    assert {one.figure for one in found.alarms if one.snoozed_until} == quiet
    assert {one.figure for one in found.loud_alarms} == {one.figure for one in alarms} - quiet
    assert len(found.open_alarms) == len(alarms)


def test_a_snoozed_alarm_is_told_when_the_snooze_ends(url, empty):
    alarms = (alarm("a", "2024-03-01", "2024-03-02"), alarm("b", "2024-03-02", "2024-03-02"))
    found = replace(empty, alarms=alarms)
    now = datetime.now(UTC)
    with writing(url) as connection:
        snooze(connection, [snoozed("a"), Snooze("account", "b", now + timedelta(days=1))], now)
    queue_alarms(url, CHANNELS, with_snoozes(found, snoozes_of(url)), text)
    assert texts(url) == ["2024-03-02: b"]
    with writing(url) as connection:
        assert lift(connection, "figure", "a", now)
    queue_alarms(url, CHANNELS, with_snoozes(found, snoozes_of(url)), text)
    assert texts(url) == ["2024-03-02: a", "2024-03-02: b"]


def test_a_place_without_a_database_has_no_snoozes(tmp_path):
    assert snoozes_of(sqlite_url(tmp_path / "outbox.db")) == []
    assert not (tmp_path / "outbox.db").exists()
