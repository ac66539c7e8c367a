"""Entries of lists, alone or by two people, reach the list that rules name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from beam_fraud.decisions.lists.changes import read_history
from beam_fraud.errors import Code
from beam_fraud.review.audit_log import entries
from beam_fraud.review.errors import ConflictError, MissingError
from beam_fraud.review.list_requests import (
    ListEntry,
    apply_requests,
    approve,
    ask,
    refuse,
    requests,
)
from tests.failing import fails
from tests.reviewing import NOW, SETTINGS, do, opened, read, row

UNTIL = NOW + timedelta(days=30)
ENTRY = ListEntry("merchant", "shop", "block", "many frauds", UNTIL)
BOTH = replace(SETTINGS, second_person=frozenset({"block"}))


def test_an_entry_reaches_its_list(database: str, tmp_path: Path) -> None:
    [case] = opened(database, row("t1"))
    do(database, ask, SETTINGS, "ann", ENTRY, NOW, case_id=case.case_id)
    assert apply_requests(database, tmp_path) == 1
    [change] = read_history(tmp_path, "blocked_merchants")
    assert (change.value, change.action, change.who, change.until, change.reason) == (
        "shop",
        "add",
        "ann",
        UNTIL,
        "many frauds",
    )
    [request] = read(database, requests, case_id=case.case_id)
    assert (request.state, request.decided_by) == ("applied", "ann")
    assert apply_requests(database, tmp_path) == 0


def test_a_second_person_has_to_approve(database: str, tmp_path: Path) -> None:
    opened(database, row("t1"))
    request = do(database, ask, BOTH, "ann", ENTRY, NOW)
    assert request.state == "waiting"
    assert apply_requests(database, tmp_path) == 0
    with fails(Code.CASE_CONFLICT, "another person"):
        do(database, approve, BOTH, request.request_id, "ann", NOW)
    do(database, approve, BOTH, request.request_id, "lead", NOW)
    with fails(Code.CASE_CONFLICT, "approved already"):
        do(database, refuse, BOTH, request.request_id, "ann", UNTIL)
    assert apply_requests(database, tmp_path) == 1
    # What needs no second person is in force at once.
    watched = replace(ENTRY, action="watch")
    assert do(database, ask, BOTH, "ann", watched, NOW).state == "approved"
    assert [one.action for one in read(database, entries)] == [
        "watch_asked",
        "block_approved",
        "block_asked",
    ]
    assert "shop" not in str(read(database, entries))


def test_a_refused_request_is_never_listed(database: str, tmp_path: Path) -> None:
    opened(database, row("t1"))
    request = do(database, ask, BOTH, "ann", ENTRY, NOW)
    do(database, refuse, BOTH, request.request_id, "lead", NOW)
    assert apply_requests(database, tmp_path) == 0
    with pytest.raises(ConflictError):
        do(database, approve, BOTH, request.request_id, "cleo", UNTIL)
    with pytest.raises(MissingError):
        do(database, approve, BOTH, "nothing", "lead", NOW)


def test_a_repeated_transaction_asks_once(database: str) -> None:
    opened(database, row("t1"))
    for _ in range(2):
        do(database, ask, SETTINGS, "ann", ENTRY, NOW)
    assert len(read(database, requests)) == len(read(database, entries)) == 1


def test_a_list_from_elsewhere_says_so(database: str, tmp_path: Path) -> None:
    opened(database, row("t1"))
    (tmp_path / "blocked_merchants.toml").write_text("[table]\n")
    do(database, ask, SETTINGS, "ann", ENTRY, NOW)
    assert apply_requests(database, tmp_path) == 0
    [request] = read(database, requests, state="failed")
    assert "blocked_merchants.toml" in str(request.error)


def test_what_cannot_be_listed(database: str) -> None:
    opened(database, row("t1"))
    for wrong in (
        replace(ENTRY, value=""),
        replace(ENTRY, reason=" "),
        replace(ENTRY, value="a\0"),
        replace(ENTRY, value="x" * 1_001),
        replace(ENTRY, until=NOW),
    ):
        with fails(Code.REVIEW_VALUE, "list entry"):
            do(database, ask, SETTINGS, "ann", wrong, NOW)
