"""The queue: filters, order, pages and counts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from beam_fraud.errors import Code
from beam_fraud.review import queue
from beam_fraud.review.decisions import Decision, decide
from beam_fraud.review.errors import MissingError
from beam_fraud.review.kept_answers import KeptAnswers
from beam_fraud.review.queue import Count, Filters, Page, counted_page, next_case
from beam_fraud.review.saved_views import SavedView, delete_view, save_view, views
from beam_fraud.review.teamwork import assign, claim, snooze
from tests.failing import fails
from tests.reviewing import NOW, SETTINGS, do, flag, ids, opened, queued, read, row

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def filled(database: str) -> str:
    """Six accounts, each with a higher expected loss than the one before."""
    opened(
        database,
        *(
            row(
                f"t{n}",
                f"acc{n}",
                amount=100.0 * (n + 1),
                score=0.5 + n / 20,
                merchant_id=f"shop{n % 2}",
                rules=["large"] if n < 3 else ["fast", "large"],
                model_id="m@1" if n < 5 else "m@2",
            )
            for n in range(6)
        ),
    )
    return database


def page_of(url: str, **named: object) -> Page:
    return read(url, counted_page, Filters(), NOW, **named)[0]


def case_of(url: str, account: str) -> queue.QueuedCase:
    [case] = queued(url, account=account, state="all")
    return case


@pytest.mark.parametrize("rare", [0, 2_000])
def test_filters(filled: str, rare: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_RARE", rare or 2)
    assert ids(queued(filled)) == ["acc5", "acc4", "acc3", "acc2", "acc1", "acc0"]
    assert ids(queued(filled, account="acc3")) == ["acc3"]
    assert ids(queued(filled, merchant="shop1")) == ["acc5", "acc3", "acc1"]
    assert ids(queued(filled, rule="fast")) == ["acc5", "acc4", "acc3"]
    assert ids(queued(filled, rule="fast", merchant="shop0")) == ["acc4"]
    assert ids(queued(filled, model="m@2")) == ["acc5"]
    assert ids(queued(filled, amount_from=300.0, amount_to=400.0)) == ["acc3", "acc2"]
    assert ids(queued(filled, score_from=0.7)) == ["acc5", "acc4"]
    assert queued(filled, opened_from=LATER) == []
    assert len(queued(filled, opened_to=NOW)) == 6
    assert queued(filled, merchant="nowhere") == []


def test_search_finds_ids(filled: str) -> None:
    case = case_of(filled, "acc4")
    assert ids(queued(filled, search="t4")) == ["acc4"]
    assert ids(queued(filled, search=case.case_id[:6])) == ["acc4"]
    assert len(queued(filled, search="acc")) == 6
    assert ids(queued(filled, search="shop1")) == ["acc5", "acc3", "acc1"]
    for nothing in ("", "%", "acc_", "_", "a\0", "\ud800", "'; DROP TABLE cases; --"):
        assert queued(filled, search=nothing) == []


def test_states(filled: str) -> None:
    for account, work in (("acc0", claim), ("acc1", snooze), ("acc2", decide)):
        case = case_of(filled, account)
        if work is claim:
            do(filled, claim, SETTINGS, case.case_id, "ann", NOW)
        elif work is snooze:
            do(filled, snooze, SETTINGS, case.case_id, 1, "ann", NOW, until=LATER)
        else:
            do(filled, decide, SETTINGS, case.case_id, 1, "ann", Decision("fraud"), NOW)
    assert ids(queued(filled)) == ["acc5", "acc4", "acc3", "acc0"]
    assert ids(queued(filled, state="free")) == ["acc5", "acc4", "acc3"]
    assert ids(queued(filled, state="claimed")) == ["acc0"]
    assert ids(queued(filled, claimed_by="ann")) == ["acc0"]
    assert ids(queued(filled, state="snoozed")) == ["acc1"]
    assert ids(queued(filled, state="closed")) == ["acc2"]
    assert ids(queued(filled, state="closed", verdict="fraud")) == ["acc2"]
    assert len(queued(filled, state="all")) == 6
    assert queued(filled, state="overdue") == []
    # Claims and snoozes end by themselves.
    assert ids(queued(filled, state="free", now=LATER)) == ["acc5", "acc4", "acc3", "acc1", "acc0"]
    tomorrow = NOW + timedelta(days=1)
    assert len(queued(filled, state="overdue", now=tomorrow)) == 5
    assert all(case.claimed_by is None for case in queued(filled, now=tomorrow))


def test_assigned_to_somebody_or_nobody(filled: str) -> None:
    case = case_of(filled, "acc3")
    do(filled, assign, SETTINGS, case.case_id, case.version, "lead", NOW, to="ann")
    assert ids(queued(filled, assigned_to="ann")) == ["acc3"]
    assert ids(queued(filled, assigned_to="")) == ["acc5", "acc4", "acc2", "acc1", "acc0"]


@pytest.mark.parametrize("sort", ["loss", "age"])
def test_pages_hold_each_case_once(database: str, sort: queue.Sort) -> None:
    for part in range(3):
        # Many with equal keys.
        flag(database, *(row(f"t{part}-{n}", f"a{part}-{n}") for n in range(7)))
        opened(database, now=NOW + timedelta(minutes=part))
    seen: list[str] = []
    after = None
    while True:
        page = page_of(database, sort=sort, after=after, limit=4)
        seen += [case.case_id for case in page.cases]
        if page.next is None:
            break
        after = page.next
    assert len(seen) == len(set(seen)) == 21
    if sort == "age":
        oldest = page_of(database, sort="age").cases
        assert [case.opened_at for case in oldest] == sorted(case.opened_at for case in oldest)


def test_a_cursor_of_another_queue_is_refused(filled: str) -> None:
    page = page_of(filled, limit=2)
    for cursor in (page.next, "x", "", "AAAA", "W10"):
        with fails(Code.REVIEW_VALUE, "queue"):
            page_of(filled, sort="age", after=cursor)


def test_counts_stop(filled: str) -> None:
    for filters, most, count in (
        (Filters(), 6, Count(6, False)),
        (Filters(), 5, Count(5, True)),
        (Filters(state="all"), 6, Count(6, False)),
        (Filters(rule="large"), 5, Count(5, True)),
        (Filters(merchant="?"), 5, Count(0, False)),
    ):
        for limit in (2, 50):
            assert read(filled, counted_page, filters, NOW, most=most, limit=limit)[1] == count


def test_the_next_case_is_one_that_nobody_else_has(filled: str) -> None:
    do(filled, claim, SETTINGS, case_of(filled, "acc5").case_id, "ann", NOW)
    for who, account in (("ann", "acc5"), ("bob", "acc4")):
        following = read(filled, next_case, Filters(), NOW, who)
        assert following is not None
        assert following.account_id == account
    assert read(filled, next_case, Filters(account="acc5"), NOW, "bob") is None


def test_saved_views(database: str) -> None:
    opened(database, row("t"))
    own = SavedView("ann", "mine", Filters(state="all", amount_from=5.0, opened_from=NOW), "age")
    everyone = SavedView("", "all", Filters())
    for view in (own, everyone):
        do(database, save_view, view)
    assert read(database, views, "ann") == [everyone, own]
    assert read(database, views, "bob") == [everyone]
    with fails(Code.REVIEW_VALUE, "view"):
        do(database, save_view, SavedView("ann", " ", Filters()))
    do(database, delete_view, "ann", "mine")
    with pytest.raises(MissingError):
        do(database, delete_view, "ann", "mine")


def test_a_long_queue_is_not_counted_for_each_page(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(most: int) -> Count:
        return read(filled, counted_page, Filters(), NOW, limit=2, most=most)[1]

    assert (count(4), count(6)) == (Count(4, True), Count(6, False))
    first, second, *_ = queued(filled)
    for case in (first, second):
        do(filled, decide, SETTINGS, case.case_id, case.version, "eva", Decision("fraud"), NOW)
    # The long one stays long for some seconds; what has been counted to its end is counted again.
    assert (count(4), count(6)) == (Count(4, True), Count(4, False))
    monkeypatch.setattr(queue, "_are_many", KeptAnswers[bool](60.0, 10))
    assert count(4) == Count(4, False)


@pytest.mark.parametrize("near", [0, 5_000])
def test_a_case_that_has_just_come_is_found_by_a_filter_that_was_asked_before(
    filled: str, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which condition few cases meet, and whether they come late, stays the answer for a while.
    monkeypatch.setattr(queue, "_RARE", 1)
    monkeypatch.setattr(queue, "_NEAR", near)
    filters: tuple[dict[str, object], ...] = (
        {"merchant": "shop1"},
        {"amount_to": 200.0},
        {"merchant": "shop1", "score_to": 0.6},
    )
    assert [ids(queued(filled, **one)) for one in filters] == [
        ["acc5", "acc3", "acc1"],
        ["acc1", "acc0"],
        ["acc1"],
    ]
    new = (row(f"n{n}", f"new{n}", amount=20.0 - n, merchant_id="shop1") for n in range(2))
    opened(filled, *new)
    assert [ids(queued(filled, **one)) for one in filters] == [
        ["acc5", "acc3", "acc1", "new0", "new1"],
        ["acc1", "acc0", "new0", "new1"],
        ["acc1", "new0", "new1"],
    ]
