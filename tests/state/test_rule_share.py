"""A rule that fires on too many rows is muted for the rest of the window; no other rule is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.features.event_clock import EventClock
from beam_fraud.sources.raw import origin_of
from beam_fraud.state.rule_share import MutedRule, RuleShareShard, muted_in
from tests.ruled import RULES, THRESHOLDS, decided
from tests.shard_host import Event, Host, newest_row

WINDOW = 10
REMEMBERED = 25
LIMIT = 0.4
FEWEST = 5

VIP, WIDE, NARROW = (True, False, False), (False, True, False), (False, False, True)
NONE = (False, False, False)


def shard(limit: float = LIMIT, fewest: int = FEWEST) -> RuleShareShard:
    created = RuleShareShard(3, RULES, THRESHOLDS, limit, REMEMBERED, WINDOW, fewest, newest_row())
    created.restore([])
    return created


def taken(host: RuleShareShard, batch: pa.RecordBatch) -> pa.RecordBatch:
    (rows,) = host.take(batch).rows
    return rows


def test_a_rule_has_no_effect_from_the_row_that_exceeds_its_share() -> None:
    fires = [WIDE, NONE, NONE, NONE, WIDE, NONE, WIDE, WIDE]
    rows = taken(shard(), decided(range(8), fires))
    # 2 of 5 are just 40 %, 3 of 7 more.
    assert rows["rules"].to_pylist() == [["wide"], [], [], [], ["wide"], [], [], []]
    assert rows["decision"].to_pylist() == [
        "decline",
        *["approve"] * 3,
        "decline",
        *["approve"] * 3,
    ]
    assert rows["flagged"].to_pylist() == [True, False, False, False, True, False, False, False]
    assert muted_in(rows) == [MutedRule("wide", 0, 3, fired=3, rows=7)]
    assert origin_of(rows).source == "t:0"
    assert rows.schema.names[-1] == "@features"


def test_decisions_of_the_model_and_other_rules_stay() -> None:
    fires = [WIDE] * 6 + [(False, True, True), WIDE, WIDE, (True, True, False)]
    scores = [0.0] * 7 + [0.5, 0.95, 0.5]
    rows = taken(shard(), decided([1] * 10, fires, scores))
    assert rows["decision"].to_pylist()[6:] == ["review", "review", "decline", "approve"]
    assert rows["rules"].to_pylist()[6:] == [["narrow"], [], [], ["vip"]]


def test_few_rows_mute_no_rule() -> None:
    rows = taken(shard(), decided([1] * 4, [WIDE] * 4))
    assert rows["decision"].to_pylist() == ["decline"] * 4
    assert muted_in(rows) == []


def test_an_approving_rule_is_never_muted() -> None:
    rows = taken(shard(), decided([1] * 9, [VIP] * 9, [0.95] * 9))
    assert rows["decision"].to_pylist() == ["approve"] * 9
    assert muted_in(rows) == []


def test_a_rule_in_shadow_is_never_muted_and_counts_for_nothing() -> None:
    tried = replace(RULES.rules[1], name="tried", mode="shadow")
    rules = RuleSet((*RULES.rules, tried))
    host = RuleShareShard(
        0, rules, THRESHOLDS, LIMIT, REMEMBERED, WINDOW, FEWEST, clock=newest_row()
    )
    batch = decided([1] * 9, [NONE] * 9)
    place = batch.schema.get_field_index("shadow_rules")
    shadow = pa.array([["tried"]] * 9, pa.list_(pa.string()))
    batch = batch.set_column(place, batch.schema.field(place), shadow)
    rows = taken(host, batch)
    assert rows["shadow_rules"].to_pylist() == [["tried"]] * 9
    # As the rows of a server, which come as values.
    holds = np.zeros((4, 9), dtype=bool)
    holds[3] = True
    silenced, muted, delta = host.count(np.ones(9, dtype=np.int64), holds)
    assert not silenced.any()
    assert muted == []
    assert b"tried" not in delta.data
    # Rows of muted rules keep their rules in shadow.
    wide = decided([1] * 9, [WIDE] * 9)
    wide = wide.set_column(place, wide.schema.field(place), shadow)
    rows = taken(shard(), wide)
    assert rows["rules"].to_pylist()[-1] == []
    assert rows["shadow_rules"].to_pylist() == [["tried"]] * 9


def test_a_rule_may_fire_on_its_share() -> None:
    host = shard(limit=0.5)
    rows = taken(host, decided([1] * 20, [WIDE, NONE] * 10))
    # One of one is more than half, but it is only believed from the fifth row on: 3 of 5.
    assert rows["rules"].to_pylist()[4:] == [[]] * 16
    host = shard(limit=0.5)
    rows = taken(host, decided([1] * 20, [NONE, WIDE] * 10))
    assert rows["rules"].to_pylist() == [[], ["wide"]] * 10


def test_a_new_window_unmutes_and_each_sends_one_notice() -> None:
    host = shard()
    first = taken(host, decided([1] * 6, [WIDE] * 6))
    again = taken(host, decided([2] * 6, [WIDE] * 6))
    later = taken(host, decided([10] * 6, [WIDE] * 6))
    assert [[m.window for m in muted_in(rows)] for rows in (first, again, later)] == [[0], [], [10]]
    assert again["rules"].to_pylist() == [[]] * 6
    assert later["rules"].to_pylist() == [["wide"]] * 4 + [[]] * 2


def test_a_row_that_is_later_than_all_windows_counts_in_the_oldest() -> None:
    host = shard()
    taken(host, decided([100], [NONE]))
    rows = taken(host, decided([3, 9, 1, 4, 7, 2], [WIDE] * 6))
    assert muted_in(rows) == [MutedRule("wide", 70, 3, fired=5, rows=5)]
    assert list(host._windows) == [100, 70]


def test_windows_expire() -> None:
    host = shard()
    for time in range(0, 10_000, 7):
        taken(host, decided([time], [WIDE]))
        assert len(host._windows) <= 4
    assert host.needed_from == (9_996 - REMEMBERED) // WINDOW * WINDOW


@dataclass(frozen=True)
class Arrived:
    time: int
    fires: tuple[bool, ...]
    score: float


ARRIVED = st.lists(
    st.builds(
        Arrived,
        st.integers(-40, 60),
        st.tuples(*[st.sampled_from([False, False, True])] * 3),
        st.sampled_from([0.1, 0.5, 0.9]),
    ),
    max_size=60,
)


def batch_of(rows: list[Arrived]) -> pa.RecordBatch:
    return decided(
        [row.time for row in rows], [row.fires for row in rows], [row.score for row in rows]
    )


def by_the_definition(rows: list[Arrived]) -> list[tuple[str, list[str]]]:
    """Return the rows' results one at a time."""
    counts: dict[int, tuple[int, list[int], set[str]]] = {}
    newest, result = -(1 << 62), []
    for row in rows:
        newest = max(newest, row.time)
        window = max(row.time, newest - REMEMBERED) // WINDOW
        seen, fired, muted = counts.get(window, (0, [0, 0, 0], set()))
        seen += 1
        standing = []
        for number, rule in enumerate(RULES.rules):
            fired[number] += row.fires[number]
            if seen >= FEWEST and fired[number] > LIMIT * seen and rule.raises:
                muted.add(rule.name)
            standing.append(row.fires[number] and rule.name not in muted)
        counts[window] = (seen, fired, muted)
        one = decided([row.time], [standing], [row.score])
        result.append((one["decision"][0].as_py(), one["rules"][0].as_py()))
    return result


@settings(max_examples=150, deadline=None)
@given(rows=ARRIVED, cuts=st.lists(st.integers(0, 60)), data=st.data())
def test_muted_rows_do_not_depend_on_batches_and_restores(
    rows: list[Arrived], cuts: list[int], data: st.DataObject
) -> None:
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    pieces = [rows[a:b] for a, b in pairwise(bounds)]
    host = Host(lambda clock: shard())
    for piece in pieces:
        event = Event(0.0, batch_of(piece))
        if data.draw(st.booleans(), "fails"):
            host.fail([event])
        host.bundle([event])
        if data.draw(st.booleans(), "tidied"):
            host.merge(8)
            host.drop()
            host.restore()
    result = [
        (decision, names)
        for batch in host.rows
        for decision, names in zip(
            batch["decision"].to_pylist(), batch["rules"].to_pylist(), strict=True
        )
    ]
    assert result == by_the_definition(rows)
    muted = [muted for batch in host.rows for muted in muted_in(batch)]
    whole = shard().take(batch_of(rows)).rows
    assert sorted(map(repr, muted)) == sorted(repr(m) for batch in whole for m in muted_in(batch))


def test_one_row_years_ahead_mutes_no_rule_for_ever() -> None:
    year = 365 * 24 * 3_600 * 1_000_000
    host = Host(lambda clock: RuleShareShard(3, RULES, THRESHOLDS, 0.5, 3_600, 600, 20))
    host.bundle([Event(0.0, decided([1, 20 * year], [NONE, WIDE]))])
    for start in range(0, 20_000, 1_000):
        times = range(start, start + 1_000, 2)
        # A burst in one window, which mutes the rule there and only there.
        fires = [WIDE if 5_400 <= time < 6_000 or time % 100 == 0 else NONE for time in times]
        host.bundle([Event(0.0, decided(times, fires))])
        host.merge(4)
        host.drop()
        host.restore()
    muted = [each for batch in host.rows for each in muted_in(batch)]
    assert [(each.rule, each.window) for each in muted] == [("wide", 5_400)]
    assert len(host.shard._windows) < 20
    total = sum(len(batch) for batch in host.rows)
    assert total == 2 + 10_000


def test_counts_of_an_earlier_version_up_to_a_row_years_ahead_are_restored() -> None:
    year = 365 * 24 * 3_600 * 1_000_000
    old = msgspec.msgpack.encode([20 * year, {600: [4, {"wide": 1}, []], 20 * year: [1, {}, []]}])
    created = RuleShareShard(3, RULES, THRESHOLDS, 0.5, 3_600, 600, 20)
    created.restore([old])
    rows = taken(created, decided(range(1_200, 2_400), [NONE] * 1_199 + [WIDE]))
    assert rows["rules"].to_pylist()[-1] == ["wide"]
    assert set(created._windows) == {600, 1_200, 1_800, 20 * year}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(1, 1), (4, 3)]),
    st.lists(
        st.tuples(
            st.integers(0, 80), st.sampled_from([NONE, VIP, WIDE, NARROW, (False, True, True)])
        ),
        max_size=80,
    ),
)
def test_a_row_by_itself_counts_as_a_batch_of_one(
    blocks: tuple[int, int], rows: list[tuple[int, tuple[bool, ...]]]
) -> None:
    one, batch = (
        RuleShareShard(3, RULES, THRESHOLDS, LIMIT, REMEMBERED, WINDOW, FEWEST, EventClock(*blocks))
        for _ in range(2)
    )
    for time, fires in rows:
        silenced, muted, delta = batch.count(np.array([time]), np.array(fires)[:, None])
        assert one.count_one(time, fires) == (silenced[:, 0].tolist(), muted, delta)
