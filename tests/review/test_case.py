"""A case shows what a person needs."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from sqlalchemy import event

from beam_fraud.review.case import read_case
from beam_fraud.review.errors import MissingError
from beam_fraud.review.surroundings import (
    absent_links,
    history_of,
    surroundings,
)
from beam_fraud.schema.stages import LINKED_VALUE
from beam_fraud.sinks.linked_values import write_linked_values
from beam_fraud.storage.database.connection import transaction
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
    history = read(database, history_of, ("account", "a"))
    assert [one.transaction_id for one in history] == ["t3", "t2", "t1", "t9", "t0"]
    # Nothing tells which was audited.
    assert {one.decision for one in history} == {"review"}
    newest = read(database, history_of, ("account", "a"), limit=2)
    assert [one.transaction_id for one in newest] == ["t9", "t0"]
    assert len(read(database, history_of, ("merchant", "shop"))) == 6


def link(url: str, name: str, values: dict[str, str]) -> None:
    """Write values of a declared column as a run does."""
    rows = [
        {"transaction_id": key, "event_time": NOW, "name": name, "value": value}
        for key, value in values.items()
    ]
    write_linked_values(url, pa.RecordBatch.from_pylist(rows, schema=LINKED_VALUE))


def linked(url: str, account: str, *columns: str) -> list[tuple[str, str, list[str | None]]]:
    """Return what an account's case shares with others, and the accounts of those."""
    with transaction(url) as connection:
        [case] = queued(url, account=account)
        shown = read_case(connection, case.case_id, NOW)
        around = surroundings(connection, shown, [], columns)
    return [
        (one.column, one.value, [case.account_id for case in one.cases]) for one in around.links
    ]


def test_links_to_other_cases(database: str) -> None:
    opened(
        database,
        row("t1", "a", merchant_id="shop"),
        row("t2", "b", merchant_id="shop"),
        row("t3", "c", merchant_id="elsewhere"),
        row("t4", "d", merchant_id=None),
        row("t5", "e", merchant_id=None),
    )
    link(database, "device_id", {"t1": "d1", "t4": "d1", "t5": "d\0 1", "unseen": "d1"})
    link(database, "ip", {"t1": "d1", "t3": "10.0.0.1", "t5": "10.0.0.1"})
    # In the order of the declaration; a value of another column is another value.
    assert linked(database, "a", "ip", "device_id") == [
        ("merchant_id", "shop", ["b"]),
        ("device_id", "d1", ["d"]),
    ]
    assert linked(database, "c", "device_id", "ip") == [("ip", "10.0.0.1", ["e"])]
    assert linked(database, "a") == [("merchant_id", "shop", ["b"])]
    # What is written again changes nothing, and another value replaces the first.
    link(database, "device_id", {"t1": "d2", "t4": "d1"})
    assert linked(database, "a", "device_id") == [("merchant_id", "shop", ["b"])]
    assert read(database, absent_links, ("ip", "device_id")) is None
    for wrong, hint in (("devise_id", "did you mean 'device_id'"), ('a"; --', "device_id, ip")):
        warning = read(database, absent_links, ("ip", wrong))
        assert warning is not None
        assert warning.startswith(f"--link {wrong}: ")
        assert hint in warning


def test_a_value_that_many_have_links_the_newest(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = [f"c{number:02}" for number in range(45)]
    opened(
        database,
        *(row(f"t-{one}", one, merchant_id=None, event_time=NOW) for one in accounts),
    )
    write_linked_values(
        database,
        pa.RecordBatch.from_pylist(
            [
                {
                    "transaction_id": f"t-{one}",
                    "event_time": NOW - timedelta(hours=number),
                    "name": name,
                    "value": "same" if name == "ip" else f"own {one}",
                }
                for number, one in enumerate(accounts)
                for name in ("ip", *(f"x{n}" for n in range(10)))
            ],
            schema=LINKED_VALUE,
        ),
    )
    # Ten values more, in two statements.
    columns = (*(f"x{n}" for n in range(10)), "ip")
    assert linked(database, "c40", *columns) == [("ip", "same", accounts[:10])]
    monkeypatch.setattr("beam_fraud.review.surroundings._LINKED_VALUES", 3)
    with transaction(database) as connection:
        [case] = queued(database, account="c40")
        around = surroundings(connection, read_case(connection, case.case_id, NOW), [], columns)
    assert around.values == (("ip", "same"), ("x0", "own c40"), ("x1", "own c40"))
    assert [one.more for one in around.links] == [True]


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
    assert [(one.column, one.value) for one in around.links] == [
        ("merchant_id", shop) for shop in shops[::3]
    ]
    of_b, of_c = (queued(database, account=one)[0].case_id for one in ("b", "c"))
    # Of equal times, either may be first.
    assert {case.case_id for case in around.links[0].cases} == {of_b, of_c}
    drawn = ("account", "a"), ("merchant", shops[0])
    histories = [read(database, history_of, one) for one in drawn]
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
        assert surroundings(connection, part, []).links == around.links
