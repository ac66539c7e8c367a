"""Counts as bytes add up to the counts of the rows, whatever the order and the division."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.monitoring.drift import counts
from beam_fraud.monitoring.drift.arrivals import Arrivals
from beam_fraud.monitoring.drift.statistics import DECISION
from beam_fraud.monitoring.drift.summary import Layout, Measure, Segments, Summary
from beam_fraud.operations.drift.live import until_now

AMOUNT = Measure("amount", "numeric", edges=(1.0, 2.5))
DECIDED = Measure(DECISION, "categorical", categories=("approve",))
COUNTRY = Segments("country", ("be",))
LAYOUT = Layout((AMOUNT, DECIDED), (COUNTRY,))
KEY = counts.key_of("cards@1", LAYOUT)
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0, 4), st.integers(0, 1)), min_size=1, max_size=40
)


def summary_of(rows) -> Summary:
    days, amounts, groups = (np.array(column) for column in zip(*rows, strict=True))
    places = {"amount": AMOUNT.places(amounts), DECISION: np.zeros(len(rows), np.intp)}
    return Summary.of_rows(LAYOUT, days, places, [groups])


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6), st.randoms())
def test_pieces_add_up_in_any_order_merged_or_not(parts, random):
    pieces = [counts.rows_piece(KEY, summary_of(part)) for part in parts]
    random.shuffle(pieces)
    half = len(pieces) // 2
    some = [counts.merged(pieces[:half], -10), *pieces[half:]] if half else pieces
    described = [counts.layout_piece(KEY, "cards@1", LAYOUT), *some]
    expected = summary_of([row for part in parts for row in part])
    for found in (described, counts.decoded(counts.encoded(described))):
        [one] = counts.counted(found)
        assert one.model_id == "cards@1"
        assert one.summary.days.tolist() == expected.days.tolist()
        assert np.array_equal(one.summary.counts, expected.counts)


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6), st.randoms())
def test_a_running_sum_is_that_of_the_pieces_of_now(parts, random):
    """Whatever is added, merged and dropped between two looks."""
    running = counts.RunningCounts()
    pieces = [counts.layout_piece(KEY, "cards@1", LAYOUT)]
    kept = list[list[tuple[int, float, int]]]()
    for part in parts:
        # Two that are equal count twice.
        for _ in range(random.randint(1, 2)):
            pieces.append(counts.rows_piece(KEY, summary_of(part)))
            kept.append(part)
        if random.random() < 0.5:
            pieces = [pieces[0], counts.merged(pieces[1:], -10)]
        elif len(kept) > 2 and random.random() < 0.5 and len(pieces) == len(kept) + 1:
            pieces, kept = [pieces[0], *pieces[2:]], kept[1:]
        running.update(pieces)
        assert not running.update(list(reversed(pieces)))
        with pytest.raises(ValueError, match=r"\w"):
            running.update([*pieces, b"R\xff"])
        whole = summary_of([row for one in kept for row in one])
        for found in (running.counted(), counts.counted(counts.decoded(running.encoded()))):
            [one] = found
            assert one.summary.days.tolist() == whole.days.tolist()
            assert np.array_equal(one.summary.counts, whole.counts)


def test_arrivals_are_merged_with_rows_and_are_no_rows():
    rows = counts.rows_piece(KEY, summary_of([(0, 1.0, 0)]))
    some, more = (
        counts.arrivals_piece(Arrivals(np.array(minutes), np.array(newest)))
        for minutes, newest in (([10, 11], [7, 9]), ([11, 12], [3, 5]))
    )
    both = counts.merged([counts.merged([rows, some], -10), more, rows], -10)
    assert counts.arrivals_in([both]) == Arrivals(np.array([10, 11, 12]), np.array([7, 9, 9]))
    [one] = counts.counted([counts.layout_piece(KEY, "cards@1", LAYOUT), both])
    assert int(one.summary.of(DECISION).sum()) == 2
    with pytest.raises(ValueError, match="minutes"):
        counts.arrivals_in([b"A" + msgspec.msgpack.encode(([1], []))])


def test_days_before_the_first_to_keep_are_dropped():
    piece = counts.rows_piece(KEY, summary_of([(0, 1.0, 0), (3, 1.0, 0)]))
    assert set(counts.days_in([counts.merged([piece], 2)])) == {3}


@pytest.mark.parametrize(
    "piece", [b"R\xff", b"L\x01", counts.rows_piece("other", summary_of([(0, 1.0, 0)]))]
)
def test_damaged_pieces_and_rows_without_a_layout_are_refused(piece):
    with pytest.raises(ValueError, match=r"\w"):
        counts.counted([piece])
    with pytest.raises(ValueError, match=r"\w"):
        counts.decoded(b"\x93")


def test_another_layout_takes_what_is_the_same():
    rows = [(0, 1.0, 0), (0, 3.0, 1), (1, 2.0, 0)]
    summary = summary_of(rows)
    other = Measure("score", "numeric", edges=(0.5,))
    wider = summary.within(Layout((DECIDED, other, AMOUNT), (COUNTRY,)))
    assert np.array_equal(wider.of("amount", 1), summary.of("amount", 1))
    assert wider.of("score").sum() == 0
    changed = Measure("amount", "numeric", edges=(1.0, 2.0))
    assert summary.within(Layout((changed, DECIDED))).of("amount").sum() == 0
    assert np.array_equal(summary.within(Layout((AMOUNT,))).of("amount"), summary.of("amount"))


def traffic(*rows_a_day: int) -> Summary:
    return summary_of([(day, 1.0, 0) for day, rows in enumerate(rows_a_day) for _ in range(rows)])


def test_a_day_is_over_when_later_rows_have_come():
    now = datetime(1970, 1, 2, 12, tzinfo=UTC)
    summary, complete = until_now(traffic(500, 200), now, UTC, idle=False)
    assert (summary.days.tolist(), complete) == ([0, 1], False)
    # A few rows with a clock that is ahead end no day.
    summary, complete = until_now(traffic(500, 200, 1), now, UTC, idle=False)
    assert (summary.days.tolist(), complete) == ([0, 1], False)


def test_days_of_a_source_that_has_stopped_end_by_the_clock():
    now = datetime(1970, 1, 5, 1, 30, tzinfo=UTC)
    summary, complete = until_now(traffic(500, 200), now, UTC, idle=True)
    assert (summary.days.tolist(), complete) == ([0, 1, 2, 3], True)
    assert summary.of(DECISION).sum(axis=1).tolist() == [500, 200, 0, 0]
    # Rows of long ago are no stream of the present.
    later = datetime(1970, 3, 1, tzinfo=UTC)
    assert until_now(traffic(500, 200), later, UTC, idle=True)[1] is False
