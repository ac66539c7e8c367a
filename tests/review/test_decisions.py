"""Verdicts are labels; a case is decided once, by one person, who has seen all of it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import select

from beam_fraud.errors import Code
from beam_fraud.review.audit_log import entries, verify
from beam_fraud.review.case import read_case
from beam_fraud.review.decisions import Decision, bulk_close, decide, reopen
from beam_fraud.review.errors import ConflictError, MissingError
from beam_fraud.review.queue import Filters, next_case
from beam_fraud.review.teamwork import claim
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.tables import LABELS
from tests.failing import fails
from tests.reviewing import NOW, SETTINGS, audit, do, flag, opened, queued, read, row

LATER = NOW + timedelta(hours=1)
FRAUD = Decision("fraud", reason="stolen", comment="called the customer")


def labels(url: str) -> list[tuple[object, ...]]:
    table = LABELS.c
    query = select(
        table.transaction_id, table.label, table.labelled_by, table.reason, table.probability
    )
    with transaction(url) as connection:
        ordered = query.order_by(table.transaction_id, table.labelled_at, table.labelled_by)
        return list(connection.execute(ordered).tuples())


def test_a_verdict_on_a_case_labels_its_transactions_and_closes_it(database: str) -> None:
    audit(database, "t3")
    [case] = opened(database, row("t1"), row("t2"))
    do(database, decide, SETTINGS, case.case_id, case.version, "ann", FRAUD, NOW)
    assert labels(database) == [
        ("t1", 1, "ann", "stolen", 1.0),
        ("t2", 1, "ann", "stolen", 1.0),
        ("t3", 1, "ann", "stolen", 0.01),
    ]
    case_now = read(database, read_case, case.case_id, NOW)
    queue = case_now.queued
    assert (queue.state, queue.verdict, queue.closed_by) == ("closed", "fraud", "ann")
    assert [note.text for note in case_now.notes] == ["called the customer"]
    assert [one.action for one in case_now.timeline] == ["opened", "decided"]
    assert case_now.transactions[0].labels[0].labelled_by == "ann"


def test_verdicts_by_transaction(database: str) -> None:
    [case] = opened(database, row("t1"), row("t2"), row("t3"))
    version, left = case.version, []
    decisions = (
        Decision("fraud", transactions=["t1"]),
        Decision("genuine", transactions=["t2"]),
        Decision("unsure"),
    )
    for minute, decision in enumerate(decisions):
        moment = NOW + timedelta(minutes=minute)
        version = do(database, decide, SETTINGS, case.case_id, version, "ann", decision, moment)
        left += [one.undecided for one in queued(database)]
    assert left == [2, 1]
    assert [one.verdict for one in queued(database, state="closed")] == ["mixed"]
    # Who is unsure labels nothing.
    assert [(key, label) for key, label, *_ in labels(database)] == [("t1", 1), ("t2", 0)]


def test_what_cannot_be_decided(database: str) -> None:
    [case] = opened(database, row("t1"))
    opened(database, row("t2", "b"))
    for code, match, decision in (
        (Code.REVIEW_VALUE, "stolen", Decision("genuine", reason="stolen")),
        (Code.REVIEW_VALUE, "nonsense", Decision("fraud", reason="nonsense")),
        (Code.REVIEW_VALUE, "not of it", Decision("fraud", transactions=["t2"])),
        (Code.REVIEW_VALUE, "not of it", Decision("fraud", transactions=[])),
        (Code.REVIEW_VALUE, "comment", Decision("fraud", comment="x" * 20_000)),
    ):
        with fails(code, match):
            do(database, decide, SETTINGS, case.case_id, case.version, "ann", decision, NOW)
    with pytest.raises(MissingError):
        do(database, decide, SETTINGS, "nowhere", 1, "ann", FRAUD, NOW)
    assert labels(database) == []
    assert read(database, entries) == []
    assert queued(database, account="a") == [case]


def test_the_second_of_two_people_is_told(database: str) -> None:
    [case] = opened(database, row("t1"))
    do(database, decide, SETTINGS, case.case_id, case.version, "ann", FRAUD, NOW)
    for version in (case.version, case.version + 1):
        with pytest.raises(ConflictError):
            do(database, decide, SETTINGS, case.case_id, version, "bob", FRAUD, LATER)
    assert len(labels(database)) == 1


def test_a_transaction_that_is_repeated_decides_once(database: str) -> None:
    """As after a commit of which the answer was lost."""
    [case] = opened(database, row("t1"))
    versions = {
        do(database, decide, SETTINGS, case.case_id, case.version, "ann", FRAUD, NOW)
        for _ in range(2)
    }
    assert len(versions) == 1
    assert len(read(database, entries)) == 1
    assert len(read(database, read_case, case.case_id, NOW).notes) == 1


def test_nobody_decides_on_what_somebody_else_has_claimed(database: str) -> None:
    [case] = opened(database, row("t1"))
    do(database, claim, SETTINGS, case.case_id, "ann", NOW)
    with fails(Code.CASE_CONFLICT, "ann works on it"):
        do(database, decide, SETTINGS, case.case_id, case.version, "bob", FRAUD, NOW)
    # The claim has expired.
    do(database, decide, SETTINGS, case.case_id, case.version, "bob", FRAUD, LATER)


def test_nobody_decides_on_rows_that_they_have_not_seen(database: str) -> None:
    [case] = opened(database, row("t1"))
    opened(database, row("t2"))
    with fails(Code.CASE_CONFLICT, "has changed"):
        do(database, decide, SETTINGS, case.case_id, case.version, "ann", FRAUD, NOW)


def test_a_reopened_case_keeps_its_labels_and_gets_others(database: str) -> None:
    [case] = opened(database, row("t1"))
    version = do(database, decide, SETTINGS, case.case_id, case.version, "ann", FRAUD, NOW)
    version = do(
        database, reopen, SETTINGS, case.case_id, version, "lead", LATER, comment="customer called"
    )
    [again] = queued(database)
    assert (again.case_id, again.undecided, again.verdict) == (case.case_id, 1, None)
    much_later = LATER + timedelta(hours=1)
    do(database, decide, SETTINGS, case.case_id, version, "bob", Decision("genuine"), much_later)
    assert [(label, who) for _, label, who, *_ in labels(database)] == [(1, "ann"), (0, "bob")]
    [shown] = read(database, read_case, case.case_id, NOW).transactions
    assert [one.labelled_by for one in shown.labels] == ["bob", "ann"]


def test_a_case_is_not_reopened_beside_another_of_its_account(database: str) -> None:
    [case] = opened(database, row("t1"))
    version = do(database, decide, SETTINGS, case.case_id, case.version, "ann", FRAUD, NOW)
    [other] = opened(database, row("t2"))
    with fails(Code.CASE_CONFLICT, other.case_id):
        do(database, reopen, SETTINGS, case.case_id, version, "ann", LATER, comment="why")


def test_many_cases_at_once(database: str) -> None:
    cases = opened(database, *(row(f"t{n}", f"a{n}") for n in range(4)))
    do(database, claim, SETTINGS, cases[0].case_id, "bob", NOW)
    seen = {case.case_id: case.version for case in cases} | {cases[1].case_id: 99, "nowhere": 1}
    decision = Decision("genuine", comment="a test of the bank")
    result = do(database, bulk_close, SETTINGS, seen, "ann", decision, NOW)
    assert sorted(result.closed) == sorted(case.case_id for case in cases[2:])
    assert set(result.conflicts) == {cases[0].case_id, cases[1].case_id, "nowhere"}
    assert len(labels(database)) == 2
    with fails(Code.REVIEW_VALUE, "comment"):
        do(database, bulk_close, SETTINGS, seen, "ann", Decision("genuine"), LATER)


def work_through(url: str, who: str) -> None:
    """Decide cases until the queue is empty, as a person who takes the first one each time."""
    seconds = 0
    while True:
        seconds += 1
        moment = NOW + timedelta(seconds=seconds)
        case = read(url, next_case, Filters(), moment, who)
        if case is None:
            return
        try:
            if seconds % 2:
                do(url, claim, SETTINGS, case.case_id, who, moment)
            do(url, decide, SETTINGS, case.case_id, case.version, who, FRAUD, moment)
        except ConflictError:
            pass


def test_eight_processes_decide_each_case_once(database: str) -> None:
    for part in range(2):
        flag(database, *(row(f"t{n}-{part}", f"a{n}") for n in range(24)))
    opened(database)
    context = multiprocessing.get_context("forkserver")
    # Imported once, not by each process.
    context.set_forkserver_preload([__name__])
    people = [context.Process(target=work_through, args=(database, f"p{n}")) for n in range(8)]
    for one in people:
        one.start()
    for one in people:
        one.join(120)
    assert [one.exitcode for one in people] == [0] * 8
    assert queued(database) == []
    found = labels(database)
    assert Counter(key for key, *_ in found) == {
        f"t{n}-{part}": 1 for n in range(24) for part in range(2)
    }
    decided = [one for one in read(database, entries, limit=10_000) if one.action == "decided"]
    assert Counter(one.case_id for one in decided).most_common(1)[0][1] == 1
    assert len(decided) == 24
    assert read(database, verify) == len(read(database, entries, limit=10_000))
