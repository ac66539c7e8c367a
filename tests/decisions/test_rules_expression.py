"""Conditions are parsed and checked, never executed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.decisions.rules.condition import (
    All,
    Among,
    Any,
    Arithmetic,
    Column,
    Compare,
    Kind,
    Missing,
    Not,
    Number,
    Text,
    columns_of,
)
from beam_fraud.decisions.rules.expression import ConditionError, read_condition

NAMES: dict[str, Kind] = {
    "amount": "number",
    "score": "number",
    "is_night": "number",
    "account_count_1h": "number",
    "account_id": "text",
    "merchant_id": "text",
    "währung": "text",
}
LISTS = {"trusted": ("m1", "m2"), "round": (100.0, 200.0)}
AMOUNT, MERCHANT = Column("amount", "number"), Column("merchant_id", "text")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("amount > 2", Compare(">", AMOUNT, Number(2.0))),
        (
            "1 < amount <= 2",
            All((Compare("<", Number(1.0), AMOUNT), Compare("<=", AMOUNT, Number(2.0)))),
        ),
        ("amount * 2 > 1", Compare(">", Arithmetic("*", AMOUNT, Number(2.0)), Number(1.0))),
        ("not amount is None", Not(Missing(AMOUNT, negated=False))),
        ("amount is not None", Missing(AMOUNT, negated=True)),
        ("merchant_id in trusted", Among(MERCHANT, ("m1", "m2"), negated=False)),
        ("merchant_id not in ['a', 'a']", Among(MERCHANT, ("a",), negated=True)),
        ("amount in [-1, 2]", Among(AMOUNT, (-1.0, 2.0), negated=False)),
        ("is_night == True", Compare("==", Column("is_night", "number"), Number(1.0))),
        (
            "merchant_id == 'a'\n  or merchant_id != 'b'",
            Any((Compare("==", MERCHANT, Text("a")), Compare("!=", MERCHANT, Text("b")))),
        ),
    ],
)
def test_a_condition_means_what_python_would_mean_by_it(text: str, condition: object) -> None:
    assert read_condition(text, NAMES, LISTS) == condition


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("score > amout", 9, "unknown name 'amout' (did you mean 'amount'?)"),
        ("währung == 'x' and amout > 1", 20, "unknown name 'amout'"),
        ("merchant_risk_30d_delay_7d > 0.1", 1, "(define it by [[velocity]] in the schema)"),
        ("  amout > 1", 3, "unknown name 'amout'"),
        ("amount > 'x'", 10, "'x' is text, which cannot be compared; leave the quotes of 'x' out"),
        ("account_id == 12", 15, "12 is a number and account_id is text, which cannot be compared; "
         "put quotes around 12"),
        ("account_id > 'a'", 14, "texts have no order"),
        ("account_id + 1 > 2", 1, "account_id is text, which cannot be reckoned with"),
        ("amount", 1, "is a number, not a condition; compare it, as in amount > 0"),
        ("score > 1 and 'x'", 15, "is a text, not a condition"),
        ("(amount > 1) + 1 > 2", 2, "is a condition where a value is needed"),
        ("amount == None", 11, "write `is None` or `is not None`"),
        ("amount is 1", 11, "`is` goes with None alone; write == or !="),
        ("merchant_id in trust", 16, "unknown list 'trust' (did you mean 'trusted'?)"),
        ("merchant_id in account_id", 16, "'account_id' is no list; write == to compare with it"),
        ("merchant_id in round", 16, "the list holds 100.0, which is a number, but merchant_id is "
         "text; put quotes around it"),
        ("amount in trusted", 11, "leave its quotes out"),
        ("merchant_id in 'abc'", 16, "`in` needs a list"),
        ("merchant_id in []", 16, "`in` needs a list"),
        ("merchant_id in [account_id]", 17, "a list holds numbers or texts as they are"),
        ("trusted == 'a'", 1, "'trusted' is a list, which stands only behind `in`"),
        ("'a' in trusted", 1, "name a column"),
        ("amount ** 2 > 1", 1, "is not allowed in a condition"),
        ("amount > 1 amount", 12, "cannot be read"),
        ("amount = 1", 8, "cannot be read, did you mean ==?"),
        ("", 1, "is empty"),
        ("amount > 1 # why\nand score > 2", 12, "'#' in a condition of several lines"),
        ("amount > 1e999", 10, "the number is too large"),
        ("amount > " + "9" * 400, 10, "the number is too large"),
        ("amount > 1j", 10, "is not allowed in a condition"),
    ],
)  # fmt: skip
def test_errors_name_the_place_and_the_fix(text: str, column: int, message: str) -> None:
    with pytest.raises(ConditionError) as refused:
        read_condition(text, NAMES, LISTS)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.column == column


def test_errors_in_a_condition_of_several_lines_name_the_line() -> None:
    with pytest.raises(ConditionError) as refused:
        read_condition("amount > 1\n  and amout > 2", NAMES, LISTS)
    assert (refused.value.line, refused.value.column) == (2, 7)


def test_score_is_unknown_without_a_model() -> None:
    names = {name: kind for name, kind in NAMES.items() if name != "score"}
    with pytest.raises(ConditionError, match="needs a model; give --model BUNDLE"):
        read_condition("score > 0.5", names, {})


HOSTILE = [
    "__import__('os').system('true')",
    "amount.__class__ > 1",
    "amount.real > 1",
    "[x for x in (1, 2)] == 1",
    "(lambda: 1)() > 0",
    "(amount := 3) > 1",
    "f'{amount}' == 'x'",
    "amount if amount > 1 else 2",
    "amount[0] > 1",
    "print(amount)",
    "await amount",
    "yield amount",
    "*amount",
    "amount > 1; import os",
    "import os",
    "b'x' == merchant_id",
    "... > 1",
    "{'a': 1} == 1",
    "{*amount} == 1",
    "amount @ amount > 1",
    "amount // 1 > 1",
    "1 << 9999999 > amount",
    "9 ** 9 ** 9 > amount",
    "'a' * 999999999 == merchant_id",
    "~amount > 1",
    "+amount > 1",
    "amount > 1 and (",
    "amount > \x00 1",
    "merchant_id == '\x00'",
    "merchant_id == 'a\\nb'",
    "\x0c",
    "amount > 0x" + "f" * 3000,
    "amount > " + "9" * 3900,
    "(" * 1900 + "amount > 1" + ")" * 1900,
    "(" * 90 + "amount" + ")" * 90 + "> 1 and " + "[" * 300,
    "-" * 3000 + "amount > 1",
    "not " * 900 + "amount > 1",
    "amount" + " + 1" * 900 + " > 1",
    "amount > " * 400 + "1" + " and amount" * 3,
    "x" * 100_000,
    " and ".join(["amount > 1"] * 100_000),
    "amount > 1 if",
    "\ud800 > 1",
    "\\",
    "'",
    "'''",
    "amount > 1 \\",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_conditions_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConditionError) as refused:
        read_condition(text, NAMES, LISTS)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


_WORDS = [*NAMES, *LISTS, "and", "or", "not", "in", "is", "None", "True", "1", "2.5", "'a'"]
_WORDS += ["==", "!=", "<", ">", "+", "-", "*", "/", "(", ")", "[", "]", ",", ":", ".", "\n", "#"]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_WORDS)).map(" ".join)))
def test_any_text_is_a_condition_or_refused_in_one_line(text: str) -> None:
    error = refusal(text)
    if error is None:
        read = read_condition(text, NAMES, LISTS)
        assert {column.name for column in columns_of(read)} <= NAMES.keys()
    else:
        assert str(error).isprintable(), text
        assert 1 <= error.line <= text.count("\n") + 1
        assert 1 <= error.column <= len(text) + 1


def refusal(text: str) -> ConditionError | None:
    try:
        read_condition(text, NAMES, LISTS)
    except ConditionError as error:
        return error
    return None


def test_a_long_list_of_alternatives_is_read() -> None:
    text = " or ".join(f"amount == {number}" for number in range(150))
    read = read_condition(text, NAMES, LISTS)
    assert isinstance(read, Any)
    assert len(read.parts) == 150
