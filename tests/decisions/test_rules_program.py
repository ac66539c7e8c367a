"""Compiled rules agree with the reference, row by row."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from beam_fraud.decisions.rules import program
from beam_fraud.decisions.rules.condition import vocabulary
from beam_fraud.decisions.rules.expression import read_condition
from beam_fraud.decisions.rules.large_lists import (
    LargeNumbers,
    LargeTexts,
    ListValues,
    list_values,
)
from beam_fraud.decisions.rules.numeric_program import NumericProgram
from beam_fraud.decisions.rules.program import ABSENT, Program, TextCodes
from beam_fraud.decisions.rules.rule import Rule, RuleSet
from beam_fraud.decisions.rules.text_index import UNKNOWN
from beam_fraud.decisions.rules.toml import rules_from_toml
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.schema.schema import EVENT_TIME, FeatureColumn, Schema
from beam_fraud.schema.velocity import Velocity
from tests.rule_reference import Row, holds

SCHEMA = Schema(
    name="shop",
    roles={
        "event_time": "t",
        "account_id": "card",
        "merchant_id": "shop",
        "amount": "price",
        "currency": "cur",
    },
    features=(
        FeatureColumn("risk", missing="allow"),
        FeatureColumn("mcc", "categorical", missing="allow"),
    ),
    velocity=(Velocity(("device",), ("1h",), ("count", "std")),),
)
FEATURES = FeatureSet(SCHEMA, {"mcc": ("a", "b")})
NAMES = vocabulary(SCHEMA, scored=True)
SOME, MANY, ROUND = ("a", "c", "x"), tuple(f"{n}" for n in range(40)), (0.0, 1.0)
LISTS: dict[str, ListValues] = {"some": SOME, "many": MANY, "round": ROUND}
HASH = IdHash.random()
#: The same lists in the form of large ones.
IN_ARRAYS: dict[str, ListValues] = {
    "some": LargeTexts.of(SOME, HASH),
    "many": LargeTexts.of(MANY, HASH),
    "round": LargeNumbers.of(ROUND),
}

NUMBERS = st.sampled_from([None, -1.0, 0.0, 0.5, 1.0, 2.0, 1e308, math.inf])
TEXTS = st.sampled_from([None, "", "a", "b", "c", "x", "ü", "17", "a" * 40])
ROWS = st.lists(
    st.fixed_dictionaries(
        {name: NUMBERS if kind == "number" else TEXTS for name, kind in NAMES.items()}
    ),
    max_size=12,
)

_NUMBER_NAMES = [name for name, kind in NAMES.items() if kind == "number"]
_TEXT_NAMES = [name for name, kind in NAMES.items() if kind == "text"]


def _numbers() -> st.SearchStrategy[str]:
    leaves = st.one_of(
        st.sampled_from(_NUMBER_NAMES), st.sampled_from(["0", "1", "2.5", "1e308", "-1"])
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({' '.join(t)})"),
            inner.map(lambda text: f"(-{text})"),
        ),
        max_leaves=4,
    )


def _conditions() -> st.SearchStrategy[str]:
    comparison = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    equality = st.sampled_from(["==", "!="])
    texts = st.sampled_from(_TEXT_NAMES)
    written = st.sampled_from(["'a'", "'ü'", "''", "'nowhere'"])
    within = st.sampled_from(["in", "not in"])
    leaves = st.one_of(
        st.tuples(_numbers(), comparison, _numbers()),
        st.tuples(_numbers(), comparison, _numbers(), comparison, _numbers()),
        st.tuples(texts, equality, st.one_of(texts, written)),
        st.tuples(written, equality, st.one_of(texts, written)),
        st.tuples(texts, within, st.sampled_from(["some", "many", "['a', 'ü']", "('b',)"])),
        st.tuples(_numbers(), within, st.sampled_from(["round", "[1, 2.5]", "[-1]"])),
        st.tuples(_numbers(), within, st.just(str([float(n) for n in range(20)]))),
        st.tuples(st.one_of(texts, _numbers()), st.sampled_from(["is None", "is not None"])),
        st.tuples(st.sampled_from(["True", "False"])),
    ).map(" ".join)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(
                lambda t: f"({''.join(t)})"
            ),
            inner.map(lambda text: f"(not ({text}))"),
        ),
        max_leaves=6,
    )


def batch_of(rows: list[Row]) -> tuple[pa.RecordBatch, np.ndarray]:
    """Transactions with their velocity features, and their scores."""
    columns: dict[str, pa.Array] = {}
    for name, kind in NAMES.items():
        values = [row[name] for row in rows]
        if kind == "number":
            columns[name] = pa.array(
                np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            )
        else:
            columns[name] = pa.array(values, pa.string())
    # Those two come of the time alone: noon of a Monday, unless a row says otherwise.
    times = [_time(row["is_weekend"] == 1.0, row["is_night"] == 1.0) for row in rows]
    columns["event_time"] = pa.array(times, pa.int64()).cast(EVENT_TIME)
    scores = np.asarray(columns.pop("score"))
    for name in ("is_weekend", "is_night"):
        del columns[name]
    return pa.RecordBatch.from_pydict(columns), scores


def _time(weekend: bool, night: bool) -> int:
    monday = 4 * 86_400
    return (monday + weekend * 5 * 86_400 + (0 if night else 12) * 3_600) * 1_000_000


def as_seen(row: Row) -> Row:
    return row | {name: float(row[name] == 1.0) for name in ("is_weekend", "is_night")}


def rule_set(*conditions: str, lists: Mapping[str, ListValues] = LISTS) -> RuleSet:
    return RuleSet(
        tuple(
            Rule(f"r{number}", read_condition(text, NAMES, lists), "review")
            for number, text in enumerate(conditions)
        )
    )


@settings(max_examples=300, deadline=None)
@given(conditions=st.lists(_conditions(), min_size=1, max_size=4), rows=ROWS)
def test_compiled_rules_hold_for_the_rows_that_the_definition_names(
    conditions: list[str], rows: list[Row]
) -> None:
    rules = rule_set(*conditions)
    transactions, scores = batch_of(rows)
    block = feature_matrix(transactions, FEATURES)
    fired = Program(rules, FEATURES).fired(transactions, block, scores)
    expected = [[holds(rule.condition, as_seen(row)) for row in rows] for rule in rules.rules]
    assert fired.holds.tolist() == expected
    assert fired.counts == [sum(row) for row in expected]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(conditions=st.lists(_conditions(), min_size=1, max_size=2), rows=ROWS)
def test_rules_hold_for_values_as_they_do_for_columns(
    conditions: list[str], rows: list[Row]
) -> None:
    rules = rule_set(*conditions)
    transactions, scores = batch_of(rows)
    compiled = NumericProgram.of(rules.rules, FEATURES)
    assume(compiled is not None)
    assert compiled is not None
    times = np.asarray(transactions.column("event_time").view(pa.int64())).tolist()
    values = [
        {**row, "event_time": time}
        for row, time in zip(transactions.to_pylist(), times, strict=True)
    ]
    # Absent numbers of columns are NaN, those of values None; velocity features are always NaN.
    computed = [{name: row[name] for name in SCHEMA.velocity[0].names} for row in values]
    block = feature_matrix(transactions, FEATURES)
    by_columns = Program(rules, FEATURES).fired(transactions, block, scores)
    assert compiled.holds(values, computed, scores) == by_columns.holds.tolist()
    by_values = Program(rules, FEATURES).fired_of_rows(values, computed, block, scores)
    assert by_values.holds.tolist() == by_columns.holds.tolist()


@settings(max_examples=300, deadline=None)
@given(
    conditions=st.lists(_conditions(), min_size=1, max_size=4),
    rows=ROWS,
    repeated=st.sampled_from([1, 100]),
)
def test_lists_in_arrays_decide_as_their_values_do(
    conditions: list[str], rows: list[Row], repeated: int
) -> None:
    plain, rules = rule_set(*conditions), rule_set(*conditions, lists=IN_ARRAYS)
    rows = rows * repeated
    transactions, scores = batch_of(rows)
    block = feature_matrix(transactions, FEATURES)
    fired = Program(plain, FEATURES).fired(transactions, block, scores)
    for sent in (rules, pickle.loads(pickle.dumps(rules, 2))):
        again = Program(sent, FEATURES).fired(transactions, block, scores)
        assert again.holds.tolist() == fired.holds.tolist()


@given(
    values=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1),
    further=st.lists(st.text("aAbB \0", max_size=2)),
)
def test_every_text_of_a_list_in_arrays_is_found_and_no_other(
    values: list[str], further: list[str]
) -> None:
    values = list(dict.fromkeys([*values, *further[::2]]))
    looked_up = [None, "", *values, *further, *(text.swapcase() for text in values)]
    column = pa.array(["left out", *looked_up], pa.string()).slice(1)
    index = LargeTexts.of(values, HASH).index
    among = [text in values for text in looked_up]
    assert index.contains(column, HASH.of(column)).tolist() == among
    places = [values.index(text) if text in values else UNKNOWN for text in looked_up]
    assert index.codes(column).tolist() == places


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    further=st.lists(st.floats()),
)
def test_every_number_of_a_list_in_arrays_is_found_and_no_other(
    values: list[float], further: list[float]
) -> None:
    looked_up = [0.0, -0.0, *values, *further]
    numbers = LargeNumbers.of(list(dict.fromkeys(values)))
    expected = [number in values and not math.isnan(number) for number in looked_up]
    assert numbers.contains(np.array(looked_up)).tolist() == expected
    assert bool(numbers.contains(looked_up[0])) == expected[0]


def test_lists_in_arrays_are_equal_if_their_values_are() -> None:
    texts = [[f"m{n}" for n in range(5_000)] for _ in range(2)]
    one, other = (list_values(values, IdHash.random()) for values in texts)
    assert isinstance(one, LargeTexts)
    assert (one, hash(one)) == (other, hash(other))
    assert one != list_values([*texts[0], "x"], HASH)
    # The same bytes, divided otherwise.
    assert list_values(["xx", *texts[0]], HASH) != list_values(["x", "x" + texts[0][0]], HASH)
    first, second = (list_values([0.5 * n for n in range(size)], HASH) for size in (5_000, 5_001))
    assert first != second
    assert first == list_values([0.5 * n for n in range(5_000)], HASH)
    assert list_values(texts[0][:10], HASH) == tuple(texts[0][:10])


def test_conditions_of_texts_are_not_compiled_for_numbers() -> None:
    for text in ("currency == 'EUR'", "amount in round", "amount > 1 and merchant_id is None"):
        assert NumericProgram.of(rule_set(text).rules, FEATURES) is None
    assert NumericProgram.of(rule_set("amount > 1 and score / amount is None").rules, FEATURES)


def test_a_missing_value_makes_every_comparison_false_and_not_of_it_true() -> None:
    conditions = ("risk > 1", "risk != 1", "risk not in [1, 2]", "not risk > 1", "1 / risk < 9")
    texts = ("mcc == 'a'", "mcc != 'a'", "mcc not in some", "not mcc == 'a'", "mcc == currency")
    row = dict.fromkeys(NAMES) | {"amount": 1.0, "currency": "a"}
    transactions, scores = batch_of([row])
    program = Program(rule_set(*conditions, *texts), FEATURES)
    fired = program.fired(transactions, feature_matrix(transactions, FEATURES), scores)
    assert fired.holds[:, 0].tolist() == [False, False, False, True, False] * 2


def test_rules_know_calendar_features_outside_the_model() -> None:
    features = replace(FEATURES, order=("amount",))
    row = dict.fromkeys(NAMES) | {"amount": 1.0, "is_night": 1.0}
    transactions, scores = batch_of([row])
    program = Program(rule_set("is_night == True", "is_weekend == 1"), features)
    fired = program.fired(transactions, feature_matrix(transactions, features), scores)
    assert fired.holds[:, 0].tolist() == [True, False]


def test_common_parts_of_rules_are_computed_once() -> None:
    together = Program(rule_set("amount > 1 and risk > 2", "risk > 2 or amount > 1"), FEATURES)
    alone = Program(rule_set("amount > 1 and risk > 2"), FEATURES)
    assert len(together._steps) == len(alone._steps) + 1


def test_rules_travel_to_workers() -> None:
    text = "[[list]]\nname = 'l'\nvalues = ['a']\n"
    text += "[[rule]]\nname = 'r'\nwhen = 'mcc in l'\ndecision = 'review'\n"
    rules = rules_from_toml(text, NAMES)
    assert pickle.loads(pickle.dumps(rules)) == rules


@pytest.mark.parametrize("rows", [3, 300, 5_000])
def test_texts_are_found_whether_few_or_many_are_known(rows: int) -> None:
    known = [f"m{n}" for n in range(1_000)]
    codes = TextCodes(known)
    given_ = [None, "m999", "", "m1000", *(f"m{n}" for n in range(rows))]
    column = pa.array(["left out", *given_], pa.string()).slice(1)
    expected = [
        ABSENT if text is None else known.index(text) if text in known else UNKNOWN
        for text in given_[:50]
    ]
    assert codes.of(column)[:50].tolist() == expected
    assert len(codes.of(column)) == len(given_)


def test_texts_with_equal_hashes_stay_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real collision is too rare, so the hash here is the length alone."""
    monkeypatch.setattr(program, "_FEW_ROWS", 0)
    monkeypatch.setattr(
        IdHash,
        "of",
        lambda self, column: np.array([len(t.as_py() or "") for t in column], dtype=np.uint64),
    )
    column = pa.array(["aa", "bb", None, "ccc"])
    assert TextCodes(["bb", "a", "dddd", *(f"{n:09}" * n for n in range(1, 20))]).of(
        column
    ).tolist() == [UNKNOWN, 0, ABSENT, UNKNOWN]
    assert TextCodes(["aa", "bb", *(f"{n:04}" for n in range(20))]).of(column).tolist() == [
        0, 1, ABSENT, UNKNOWN,
    ]  # fmt: skip

    texts = LargeTexts.of(["aa", "cc", "x"], HASH)
    assert not texts.index.distinct
    assert texts.index.contains(column, HASH.of(column)).tolist() == [True, False, False, False]
    texts = LargeTexts.of(["bb", "x"], HASH)
    assert texts.index.distinct
    assert texts.index.contains(column, HASH.of(column)).tolist() == [False, True, False, False]


def test_a_rule_names_a_column_within_another_by_its_path() -> None:
    schema = replace(
        SCHEMA, features=(FeatureColumn("card.country", "categorical", missing="allow"),)
    )
    names = vocabulary(schema, scored=False)
    condition = read_condition("card.country == 'x' and amount > 1", names, {})
    rules = RuleSet((Rule("abroad", condition, "review"),))
    rows = pa.record_batch({"card.country": ["x", "y", "x"], "amount": [2.0, 2.0, 1.0]})
    features = FeatureSet(schema, {"card.country": ()})
    fired = Program(rules, features).fired(rows, np.zeros((3, 1)), np.zeros(3))
    assert fired.holds.tolist() == [[True, False, False]]


def staged(percent: float, name: str = "staged") -> RuleSet:
    text = f'[[rule]]\nname = "{name}"\nwhen = "amount > 0"\ndecision = "review"\n'
    return rules_from_toml(f"{text}rollout = {percent}", NAMES)


def chosen(rules: RuleSet, accounts: Sequence[str | None]) -> npt.NDArray[np.bool_]:
    rows = [dict.fromkeys(NAMES) | {"amount": 1.0, "account_id": one} for one in accounts]
    transactions, scores = batch_of(rows)
    block = feature_matrix(transactions, FEATURES)
    return Program(rules, FEATURES).fired(transactions, block, scores).holds[0]


ACCOUNTS = [f"{number:05}" for number in range(20_000)]


def test_a_rollout_takes_its_share_of_accounts_and_growing_adds_some() -> None:
    before = np.zeros(len(ACCOUNTS), dtype=bool)
    for percent in (0.1, 2.5, 10, 50, 99.9, 100):
        now = chosen(staged(percent), ACCOUNTS)
        share = percent / 100
        assert abs(now.mean() - share) <= 4 * math.sqrt(share * (1 - share) / len(ACCOUNTS))
        assert not (before & ~now).any()
        before = now
    assert before.all()


def test_rules_take_different_accounts_and_each_the_same_ones_for_ever() -> None:
    one, other = chosen(staged(10), ACCOUNTS), chosen(staged(10, "other"), ACCOUNTS)
    assert abs((one & other).mean() - 0.01) < 0.004
    # Accounts that were taken once stay taken, by every version.
    assert np.flatnonzero(one)[:6].tolist() == [1, 4, 6, 11, 23, 33]
    # Whatever the block, and a missing account never.
    assert [chosen(staged(10), [account])[0] for account in ACCOUNTS[:40]] == one[:40].tolist()
    assert not chosen(staged(99.9), [None]).any()
    assert chosen(staged(100), [None]).all()


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, percent=st.sampled_from([0.5, 33.3, 80.0]))
def test_a_few_rows_as_values_are_taken_as_columns_are(rows: list[Row], percent: float) -> None:
    transactions, scores = batch_of(rows)
    block = feature_matrix(transactions, FEATURES)
    compiled = Program(staged(percent), FEATURES)
    by_columns = compiled.fired(transactions, block, scores)
    values = transactions.to_pylist()
    by_values = compiled.fired_of_rows(values, [{} for _ in values], block, scores)
    assert by_values.holds.tolist() == by_columns.holds.tolist()
