"""Flagged and audited rows become cases by account, once."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from beam_fraud.review.case import read_case
from beam_fraud.review.decisions import Decision, decide
from beam_fraud.review.opening import ROWS_AT_A_TIME, Opened, open_cases
from beam_fraud.review.sweep import sweep
from beam_fraud.storage.database.connection import sqlite_url, transaction
from beam_fraud.storage.database.review_tables import CASE_TRANSACTIONS, REVIEW_INBOX
from tests.reviewing import NOW, SETTINGS, audit, do, flag, ids, opened, queued, read, row


def close(url: str, case_id: str, version: int) -> None:
    do(url, decide, SETTINGS, case_id, version, "ann", Decision("genuine"), NOW)


def test_an_account_has_one_case_with_its_transactions(database: str) -> None:
    cases = opened(
        database,
        row("t1", "a", amount=100.0, score=0.5),
        row("t2", "a", amount=200.0, score=0.75),
        row("t3", "b", amount=10.0, score=0.9),
    )
    assert ids(cases) == ["a", "b"]
    first = cases[0]
    assert (first.transactions, first.undecided, first.amount) == (2, 2, 300.0)
    assert (first.expected_loss, first.max_score) == (200.0, 0.75)
    assert first.due_at == NOW + timedelta(seconds=SETTINGS.sla_seconds)
    assert first.seconds_left(NOW + timedelta(hours=5)) == -3600.0


def test_a_row_without_account_is_a_case_of_its_own(database: str) -> None:
    assert ids(opened(database, row("t1", None), row("t2", None))) == [None, None]


def test_a_refund_loses_nothing(database: str) -> None:
    [case] = opened(database, row("t1", amount=-50.0), row("t2", amount=10.0, score=0.5))
    assert (case.amount, case.expected_loss) == (-40.0, 5.0)
    [case] = opened(database, row("t3", amount=-50.0))
    assert (case.amount, case.expected_loss) == (-90.0, 5.0)


def test_later_rows_join_the_open_case_as_a_new_version(database: str) -> None:
    [before] = opened(database, row("t1"))
    [after] = opened(database, row("t2", amount=50.0))
    assert after.case_id == before.case_id
    assert after.version > before.version
    assert (after.transactions, after.amount) == (2, 150.0)


def test_rows_after_the_decision_open_another_case(database: str) -> None:
    [before] = opened(database, row("t1"))
    close(database, before.case_id, before.version)
    [after] = opened(database, row("t2"))
    assert (after.earlier_case_id, after.transactions) == (before.case_id, 1)
    case = read(database, read_case, after.case_id, NOW)
    assert [one.case_id for one in case.earlier] == [before.case_id]


def test_another_model_joins_the_transaction_where_it_is(database: str) -> None:
    [before] = opened(database, row("t1", score=0.5))
    [after] = opened(database, row("t1", score=0.8, model_id="m@2"))
    assert (after.case_id, after.transactions, after.max_score) == (before.case_id, 1, 0.8)
    assert ids(queued(database, model="m@2")) == ["a"]
    close(database, after.case_id, after.version)
    assert opened(database, row("t1", score=0.9, model_id="m@3")) == []


def test_rows_that_are_written_again_change_nothing(database: str) -> None:
    before = opened(database, row("t1"))
    assert opened(database, row("t1")) == before


def test_audited_rows_look_like_flagged_ones(database: str) -> None:
    audit(database, "t9", account="z")
    cases = opened(database, row("t1", "a", score=0.6, amount=50.0))
    assert sorted(map(str, ids(cases))) == ["a", "z"]
    [audited] = [case for case in cases if case.account_id == "z"]
    assert audited.max_score == 0.6
    [shown] = read(database, read_case, audited.case_id, NOW).transactions
    assert (shown.score, shown.decision) == (0.6, "review")
    with transaction(database) as connection:
        table = CASE_TRANSACTIONS.c
        known = connection.execute(select(table.transaction_id, table.probability))
        assert dict(known.tuples().all()) == {"t1": 1.0, "t9": 0.01}


def test_a_row_that_is_flagged_as_well_counts_as_flagged(database: str) -> None:
    audit(database, "t1")
    opened(database)
    opened(database, row("t1", model_id="m@2"))
    with transaction(database) as connection:
        assert connection.scalar(select(CASE_TRANSACTIONS.c.probability)) == 1.0


def test_the_sweep_goes_on_in_parts(database: str) -> None:
    for part in range(3):
        flag(database, *(row(f"t{part}{n}", f"a{n}") for n in range(4)))
    # A writer announced more at once.
    counts = []
    while (done := open_cases(database, SETTINGS, NOW, most=3)).more:
        counts.append(done.transactions)
    assert (counts, done.transactions) == ([3, 3, 3], 3)
    assert [case.transactions for case in queued(database)] == [3, 3, 3, 3]
    with transaction(database) as connection:
        assert connection.scalar(select(func.count()).select_from(REVIEW_INBOX)) == 0


def test_open_cases_are_found_by_account(tmp_path: Path) -> None:
    """A look through all open ones takes SQLite half a second where 240,000 are open."""
    url = sqlite_url(tmp_path / "review.db")
    flag(url, *(row(f"t{n}", f"a{n}") for n in range(4)))
    plans = list[str]()

    @event.listens_for(Engine, "before_cursor_execute")
    def explain(_: object, cursor: Any, statement: str, values: Any, *rest: object) -> None:
        if statement.startswith("SELECT") and "FROM cases" in statement:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.extend(str(step[3]) for step in cursor.fetchall() if " cases " in step[3])

    try:
        assert open_cases(url, SETTINGS, NOW).cases == 4
    finally:
        event.remove(Engine, "before_cursor_execute", explain)
    assert plans == ["SEARCH cases USING INDEX cases_account (account_id=?)"]


def test_while_many_rows_wait_the_database_is_free_for_as_long_as_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On SQLite no other can write while cases are opened."""
    left, spells, stop = 600, list[tuple[float, float]](), threading.Event()

    def slow(url: str, settings: object, now: datetime, *, most: int = ROWS_AT_A_TIME) -> Opened:
        nonlocal left
        begun, taken = time.monotonic(), min(most, left)
        time.sleep(0.002 * taken)
        spells.append((begun, time.monotonic()))
        left -= taken
        if not left:
            stop.set()
        return Opened(taken, taken, left > 0)

    monkeypatch.setattr("beam_fraud.review.sweep.open_cases", slow)
    sweep("sqlite://", SETTINGS, stop)
    # All at once would take 1.2 seconds.
    assert len(spells) > 4
    for (begun, ended), (after, _) in pairwise(spells):
        assert after - ended >= 0.9 * (ended - begun)


def test_many_processes_open_each_case_once(database: str) -> None:
    for part in range(8):
        flag(database, *(row(f"t{part}-{n}", f"a{n}") for n in range(50)))
    start, errors = threading.Barrier(6), list[BaseException]()

    def work() -> None:
        start.wait()
        try:
            for _ in range(20):
                open_cases(database, SETTINGS, NOW, most=50)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    cases = opened(database)
    assert [case.transactions for case in cases] == [8] * 50
    assert [case.undecided for case in cases] == [8] * 50
