"""A case shows what a person needs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event

from beam_fraud.errors import Code
from beam_fraud.review.case import (
    account_history,
    links,
    merchant_history,
    read_case,
    surroundings,
)
from beam_fraud.review.errors import MissingError
from beam_fraud.storage.database.connection import transaction, writing
from tests.failing import fails
from tests.reviewing import NOW, audit, opened, queued, read, row


def test_reasons_are_in_words(database: str) -> None:
    [case] = opened(
        database,
        row("t1", rules=["large", "fast"]),
        row("t2", rules=["large"], event_time=NOW, reasons=[]),
    )
    shown = read(database, read_case, case.case_id, NOW)
    first, second = shown.transactions
    assert (first.transaction_id, first.rules) == ("t1", ("large", "fast"))
    assert first.reason_lines == ("a high amount",)
    assert second.reason_lines == ()
    assert shown.rules == (("large", 2), ("fast", 1))
    with pytest.raises(MissingError):
        read(database, read_case, "nowhere", NOW)


def test_a_large_case_shows_what_could_cost_most(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_fraud.review.case.MOST", 2)
    [case] = opened(database, *(row(f"t{n}", amount=10.0 * (n % 3)) for n in range(4)))
    shown = read(database, read_case, case.case_id, NOW)
    assert [one.transaction_id for one in shown.transactions] == ["t1", "t2"]
    assert shown.queued.transactions == 4


def test_hostile_texts_are_printable(database: str) -> None:
    text = "a\u202eb\n<script>"
    reasons = [{"feature": "x", "value": 1.0, "contribution": 1.0, "text": text}]
    [case] = opened(database, row("t1", reasons=reasons))
    [one] = read(database, read_case, case.case_id, NOW).transactions
    assert one.reason_lines == ("a\\u202eb\\n<script>",)


def test_histories(database: str) -> None:
    audit(database, "t9")
    opened(
        database,
        *(row(f"t{n}", event_time=NOW - timedelta(days=n)) for n in range(4)),
        row("other", "b"),
    )
    history = read(database, account_history, "a")
    assert [one.transaction_id for one in history] == ["t3", "t2", "t1", "t9", "t0"]
    # Nothing tells which was audited.
    assert {one.decision for one in history} == {"review"}
    assert [one.transaction_id for one in read(database, account_history, "a", limit=2)] == [
        "t9",
        "t0",
    ]
    assert len(read(database, merchant_history, "shop")) == 6


def test_links_to_other_cases(database: str) -> None:
    opened(
        database,
        row("t1", "a", merchant_id="shop"),
        row("t2", "b", merchant_id="shop"),
        row("t3", "c", merchant_id="elsewhere"),
        row("t4", "d", merchant_id=None),
    )
    with writing(database) as connection:
        connection.exec_driver_sql("ALTER TABLE flagged_transactions ADD COLUMN device TEXT")
        connection.exec_driver_sql(
            "UPDATE flagged_transactions SET device = 'd1' WHERE transaction_id IN ('t1', 't4')"
        )
    [case] = queued(database, account="a")
    columns = ("merchant_id", "device")
    found = read(database, links, case.case_id, columns=columns)
    assert [(one.column, one.value, [case.account_id for case in one.cases]) for one in found] == [
        ("merchant_id", "shop", ["b"]),
        ("device", "d1", ["d"]),
    ]
    for wrong in ("devise", 'a"; DROP TABLE cases; --'):
        with fails(Code.COLUMN_MISSING, "links"):
            read(database, links, case.case_id, columns=(wrong,))


def test_few_statements_read_a_case_and_what_is_around_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops = [f"shop-{number}" for number in range(10)]
    later = {shop: NOW - timedelta(minutes=number) for number, shop in enumerate(shops)}
    opened(
        database,
        *(row(f"a-{shop}", "a", merchant_id=shop, event_time=later[shop]) for shop in shops),
        *(row(f"b-{shop}", "b", merchant_id=shop) for shop in shops[::3]),
        row("c", "c", merchant_id=shops[0], amount=1.0),
    )
    [case] = queued(database, account="a")
    asked: list[str] = []
    with transaction(database) as connection:
        event.listen(connection, "before_cursor_execute", lambda *given: asked.append(given[2]))
        shown = read_case(connection, case.case_id, NOW)
        # Nobody has done anything with it.
        assert len(asked) == 2
        around = surroundings(connection, shown, [("account", "a"), ("merchant", shops[0])])
    assert len(asked) == 5
    every = tuple(read(database, links, case.case_id))
    assert [one.value for one in every] == shops[::3]
    assert around.links == every
    histories = read(database, account_history, "a"), read(database, merchant_history, shops[0])
    # Of equal times, either may be first.
    assert [sorted(one.amount for one in marks) for marks in around.marks] == [
        sorted(one.amount for one in points) for points in histories
    ]
    assert [[one.event_time for one in marks] for marks in around.marks] == [
        [one.event_time for one in points] for points in histories
    ]
    monkeypatch.setattr("beam_fraud.review.case.MOST", 2)
    with transaction(database) as connection:
        part = read_case(connection, case.case_id, NOW)
        assert surroundings(connection, part, []).links == every
