"""Figures of the review as rows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from beam_fraud.review.decisions import Decision, decide
from beam_fraud.review.figures import (
    backlog,
    figures_csv,
    money_saved,
    precision,
    time_to_decision,
    workload,
)
from beam_fraud.review.queue import QueuedCase
from beam_fraud.review.teamwork import claim, snooze
from tests.reviewing import NOW, SETTINGS, audit, do, opened, queued, read, row

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def of_account(url: str, account: str) -> QueuedCase:
    [case] = queued(url, account=account)
    return case


@pytest.fixture
def filled(database: str) -> str:
    """Six cases, of which three are decided, one is claimed and one is snoozed."""
    audit(database, "t9", account="z")
    opened(
        database,
        *(
            row(
                f"t{n}",
                f"a{n}",
                rules=["large", "=x"] if n < 2 else ["large"],
                decision="decline" if n == 0 else "review",
                model_id="m@1" if n < 2 else "m@2",
            )
            for n in range(5)
        ),
    )
    decided = (("a0", "ann", "fraud", 1), ("a1", "ann", "fraud", 2), ("a2", "bob", "genuine", 9))
    for account, who, verdict, hours in decided:
        case = of_account(database, account)
        decision, at = Decision(verdict), NOW + hours * HOUR  # type: ignore[arg-type]
        do(database, decide, SETTINGS, case.case_id, case.version, who, decision, at)
    audited = of_account(database, "z")
    do(
        database,
        decide,
        SETTINGS,
        audited.case_id,
        audited.version,
        "bob",
        Decision("genuine"),
        NOW + 3 * HOUR,
    )
    do(database, claim, SETTINGS, of_account(database, "a3").case_id, "ann", NOW)
    case = of_account(database, "a4")
    do(database, snooze, SETTINGS, case.case_id, case.version, "ann", NOW, until=NOW + DAY)
    return database


def test_backlog(filled: str) -> None:
    rows = read(filled, backlog, NOW).to_pylist()
    assert [(one["state"], one["cases"], one["expected_loss"]) for one in rows] == [
        ("free", 0, 0.0),
        ("claimed", 1, 50.0),
        ("snoozed", 1, 50.0),
    ]
    later = read(filled, backlog, NOW + 2 * DAY).to_pylist()
    assert (later[0]["cases"], later[0]["overdue"], later[0]["oldest_hours"]) == (2, 2, 48.0)
    assert later[1]["oldest_hours"] is None


def test_time_to_decision(filled: str) -> None:
    [day] = read(filled, time_to_decision, NOW, NOW + DAY).to_pylist()
    assert day == {
        "day": "2024-05-02",
        "closed": 4,
        "median_hours": 2.5,
        "p90_hours": pytest.approx(7.2),
        "in_time": 0.75,
    }
    assert read(filled, time_to_decision, NOW - DAY, NOW).num_rows == 0


def test_precision_leaves_audited_rows_out(filled: str) -> None:
    def shares(by: str) -> dict[str, float]:
        rows = read(filled, precision, NOW, NOW + DAY, by).to_pylist()
        assert all(one["low"] <= one["precision"] <= one["high"] for one in rows)
        return {one["name"]: one["precision"] for one in rows}

    assert shares("model") == {"m@1": 1.0, "m@2": 0.0}
    assert shares("rule") == {"=x": 1.0, "large": pytest.approx(2 / 3)}
    assert shares("reviewer") == {"ann": 1.0, "bob": 0.0}


def test_money_saved(filled: str) -> None:
    assert read(filled, money_saved, NOW, NOW + DAY).to_pylist() == [
        {"day": "2024-05-02", "frauds": 2, "amount": 200.0, "declined": 100.0}
    ]


def test_workload(database: str) -> None:
    # One a day, two on the weekday of tomorrow.
    for ago in range(1, 9):
        number = 2 if ago % 7 == 6 else 1
        rows = [row(f"t{ago}-{n}", f"a{ago}-{n}") for n in range(number)]
        opened(database, *rows, now=NOW - ago * DAY)
    rows = read(database, workload, NOW, capacity_per_day=1.5, days=3).to_pylist()
    assert [one["day"] for one in rows] == ["2024-05-03", "2024-05-04", "2024-05-05"]
    assert [one["expected"] for one in rows] == [2.0, 1.0, 1.0]
    assert [one["backlog"] for one in rows] == [9.5, 9.0, 8.5]


def test_csv_holds_no_formula(filled: str) -> None:
    text = figures_csv(read(filled, precision, NOW, NOW + DAY, "rule")).decode()
    assert text.splitlines()[0] == '"name","fraud","genuine","unsure","precision","low","high"'
    assert '"\'=x",2,0,0,1,' in text
