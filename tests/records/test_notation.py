"""Rows in another dress: the same transactions, or a refusal that names the setting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.records.dead_share import dead_share
from beam_fraud.records.validate import Arrived, validate_arrivals
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.sources.table import raw_batch

ROLES = """
[roles]
transaction_id = "id"
event_time = "at"
account_id = "card"
merchant_id = "shop"
amount = "value"
label = "fraud"
[[feature]]
column = "mcc"
kind = "categorical"
missing = "allow"
[[feature]]
column = "limit"
missing = "allow"
"""
#: Formats that keep the second, without and with a zone.
FORMATS = (
    *("%d/%m/%Y %H:%M:%S", "%m-%d-%Y %I:%M:%S %p", "%Y/%m/%d %H:%M:%S", "%Y%m%d%H%M%S"),
    *("%d %b %Y, %H.%M.%S", "%A %d %B %Y %H:%M:%S", "%y%j %H:%M:%S", "%d.%m.%y %H:%M:%S,%f"),
    *("%d/%m/%Y %H:%M:%S %z", "%Y-%m-%dT%H:%M:%S.%f%z", "%H:%M:%S %d/%m/%Y"),
)
EUROPEAN = 'decimal = ","\nthousands = "."'
AMERICAN = 'thousands = ","\nsymbol = ["$", "USD"]\nnegative = "brackets"'

amounts = st.decimals("-999999.99", "9999999.99", places=2).map(abs)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
digits = st.from_regex(r"[1-9][0-9]{0,11}", fullmatch=True)
row = st.tuples(moments, amounts, digits, digits, st.booleans())


def read(toml: str, columns: dict[str, pa.Array], labels: Labels = "known") -> Arrived:
    schema = schema_from_toml(toml)
    batch = raw_batch(columns, "rows")
    return validate_arrivals(batch, schema, labels=labels, ahead=None, now=None)


def clean(rows: list[tuple]) -> dict[str, pa.Array]:
    moments, amounts, cards, shops, frauds = zip(*rows, strict=True)
    return {
        "id": pa.array([f"t{i}" for i in range(len(rows))]),
        "at": pa.array([moment.isoformat() for moment in moments]),
        "card": pa.array(cards),
        "shop": pa.array(shops),
        "value": pa.array([str(amount) for amount in amounts]),
        "fraud": pa.array([str(int(fraud)) for fraud in frauds]),
        "mcc": pa.array(["5411"] * len(rows)),
        "limit": pa.array([str(amount) for amount in amounts]),
    }


def rows_of(arrived: Arrived) -> list[dict]:
    assert arrived.dead.to_pylist() == []
    return arrived.transactions.to_pylist()


def grouped(amount: Decimal, decimal: str, thousands: str) -> str:
    return f"{amount:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))


@given(st.lists(row, min_size=1, max_size=8), st.sampled_from(FORMATS))
def test_times_of_a_format_are_the_same_times(rows: list[tuple], form: str) -> None:
    columns = clean(rows)
    dressed = [moment.strftime(form) for moment, *_ in rows]
    toml = f"{ROLES}[time]\nformat = {form!r}"
    assert rows_of(read(toml, {**columns, "at": pa.array(dressed)})) == rows_of(
        read(ROLES, columns)
    )


@given(st.lists(row, min_size=1, max_size=8), st.sampled_from(["hour", "day", "s", "ms", "us"]))
def test_numbers_of_a_unit_are_the_same_times(rows: list[tuple], unit: str) -> None:
    each = {"hour": 3600, "day": 86400, "s": 1, "ms": 1e-3, "us": 1e-6}[unit]
    start = datetime(2000, 1, 1, tzinfo=UTC)
    rows = [(start + timedelta(days=i), *rest) for i, (_, *rest) in enumerate(rows)]
    counted = [round((moment - start).total_seconds() / each) for moment, *_ in rows]
    toml = f'{ROLES}[time]\nunit = "{unit}"\norigin = "2000-01-01"'
    columns = clean(rows)
    for numbers in (pa.array(counted), pa.array(counted).cast(pa.string())):
        assert rows_of(read(toml, {**columns, "at": numbers})) == rows_of(read(ROLES, columns))


@given(st.lists(row, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_amounts_of_a_notation_are_the_same_amounts(
    rows: list[tuple], american: bool, negative: bool
) -> None:
    sign = -1 if negative else 1
    rows = [(moment, sign * amount, *rest) for moment, amount, *rest in rows]
    columns = clean(rows)
    allowed = "[amount]\nallow_negative = true\n"
    if american:
        texts = [grouped(abs(row[1]), ".", ",") for row in rows]
        dressed = [
            f"(${text})" if row[1] < 0 else f"USD {text}"
            for text, row in zip(texts, rows, strict=True)
        ]
        toml = f"{ROLES}{allowed}[numbers]\n{AMERICAN}"
    else:
        dressed = [grouped(row[1], ",", ".") for row in rows]
        toml = f"{ROLES}{allowed}[numbers]\n{EUROPEAN}"
    dressed_columns = {**columns, "value": pa.array(dressed), "limit": pa.array(dressed)}
    assert rows_of(read(toml, dressed_columns)) == rows_of(read(ROLES + allowed, columns))


@given(st.lists(row, min_size=1, max_size=8))
def test_amounts_in_the_smallest_unit_are_the_same_amounts(rows: list[tuple]) -> None:
    columns = clean(rows)
    cents = pa.array([int(amount * 100) for _, amount, *_ in rows])
    toml = f'{ROLES}[amount]\nunit = "minor"'
    assert rows_of(read(toml, {**columns, "value": cents})) == rows_of(read(ROLES, columns))


def test_the_smallest_unit_is_that_of_the_currency() -> None:
    columns = clean([(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 4)
    columns |= {
        "value": pa.array([1234] * 4),
        "currency": pa.array(["EUR", "JPY", "KWD", None]),
    }
    toml = ROLES.replace("[roles]", '[roles]\ncurrency = "currency"') + '[amount]\nunit = "minor"'
    amounts = [row["amount"] for row in rows_of(read(toml, columns))]
    assert amounts == [12.34, 1234.0, 1.234, 12.34]


@given(st.lists(row, min_size=1, max_size=8), st.sampled_from(["float", "text", "padded", "cut"]))
def test_ids_of_a_notation_are_the_same_ids(rows: list[tuple], dress: str) -> None:
    columns = clean(rows)
    cards = [row[2] for row in rows]
    toml, dressed = {
        "float": ("", pa.array([float(card) for card in cards])),
        "text": ("", pa.array([f"{card}.0" for card in cards])),
        "padded": ('[ids]\nstrip = "0"', pa.array([card.zfill(14) for card in cards])),
        "cut": ('[ids]\nprefix = "C"', pa.array([f"C{card}" for card in cards])),
    }[dress]
    assert rows_of(read(ROLES + toml, {**columns, "card": dressed})) == rows_of(
        read(ROLES, columns)
    )


@given(
    st.lists(row, min_size=1, max_size=8),
    st.sampled_from(
        [
            ("True", "False", ""),
            ("TRUE", "false", ""),
            ("Yes", "No", 'positive = "yes"'),
            ("1", "-1", 'positive = ["1"]'),
            ("fraud", "ok", 'negative = ["ok"]'),
            ("F", "G", 'positive = "F"\nnegative = "G"'),
        ]
    ),
)
def test_labels_of_a_spelling_are_the_same_labels(
    rows: list[tuple], dress: tuple[str, str, str]
) -> None:
    columns = clean(rows)
    fraud, genuine, toml = dress
    dressed = pa.array([fraud if row[4] else genuine for row in rows])
    assert rows_of(read(f"{ROLES}[label]\n{toml}", {**columns, "fraud": dressed})) == rows_of(
        read(ROLES, columns)
    )


@given(st.lists(row, min_size=1, max_size=8))
def test_joined_columns_are_the_same_times(rows: list[tuple]) -> None:
    columns = clean(rows)
    moments = [moment for moment, *_ in rows]
    parts = {
        "Year": pa.array([moment.year for moment in moments]),
        "Month": pa.array([float(moment.month) for moment in moments]),
        "Day": pa.array([str(moment.day) for moment in moments]),
        "Clock": pa.array([moment.time() for moment in moments]).cast(pa.time32("s")),
    }
    toml = ROLES.replace('event_time = "at"', 'event_time = ["Year", "Month", "Day", "Clock"]')
    toml += '[time]\nformat = "%Y %m %d %H:%M:%S"'
    del columns["at"]
    expected = rows_of(read(ROLES, clean(rows)))
    assert rows_of(read(toml, {**columns, **parts})) == expected


def test_joined_ids_are_one_only_if_each_part_is() -> None:
    users = pa.array(["a", "a:b", "a\\", "1", None])
    cards = pa.array(["b:c", "c", ":c", "2", "3"])
    toml = ROLES.replace('account_id = "card"', 'account_id = ["User", "Card"]')
    columns = clean([(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 5)
    arrived = read(toml, {**columns, "User": users, "Card": cards})
    accounts = arrived.transactions.column("account_id").to_pylist()
    assert len(set(accounts)) == 4
    assert accounts[-1] == "1:2"
    assert arrived.dead.column("detail").to_pylist() == ["User + Card: no identifier"]


@pytest.mark.parametrize(
    ("column", "values", "reason", "setting"),
    [
        ("at", ["08/02/2024 06:00", "24039x"], "unparseable_time", "[time]"),
        (
            "value",
            ["1,495.17", "1.495,17", "$12", "(12.50)", "12,5", "12.50-", "1 495.17", "€ 3"],
            "number_notation",
            "decimal, thousands, symbol or negative",
        ),
        ("limit", ["1,495.17"], "number_notation", "decimal, thousands, symbol or negative"),
        ("value", ["abc", "-"], "wrong_type", "not of the type"),
    ],
)
def test_another_dress_is_refused_by_the_setting_that_reads_it(
    column: str, values: list[str], reason: str, setting: str
) -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * len(values)
    arrived = read(ROLES, {**clean(rows), column: pa.array(values)})
    assert arrived.dead.column("reason").to_pylist() == [reason] * len(values)
    refusal = dead_share(len(values), arrived.dead).refusal(None)
    assert refusal is not None
    assert setting in refusal


@pytest.mark.parametrize("text", ["12.50", "1.23", "1.2345", "1,2,3", "12,5.0", "1.495.17"])
def test_european_amounts_are_never_half_read(text: str) -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)]
    arrived = read(f"{ROLES}[amount]\n{EUROPEAN}", {**clean(rows), "value": pa.array([text])})
    assert arrived.dead.column("reason").to_pylist() == ["number_notation"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%d/%m/%Y", "30/02/2024"),
        ("%d/%m/%Y", "29/02/2023"),
        ("%d/%m/%Y", "31/04/2024"),
        ("%y%j", "23366"),
        ("%Y%m%d", "2024028"),
        ("%d/%m/%Y", "01/04/2024 trailing"),
        ("%d/%m/%Y %H:%M:%S,%f", "01/04/2024 10:00:00"),
        ("%d/%m/%Y %H:%M %z", "01/04/2024 10:00"),
    ],
)
def test_a_day_that_is_not_there_is_no_time(form: str, text: str) -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)]
    arrived = read(f"{ROLES}[time]\nformat = {form!r}", {**clean(rows), "at": pa.array([text])})
    assert arrived.dead.column("reason").to_pylist() == ["unparseable_time"]


def test_the_first_format_that_fits_reads_a_time() -> None:
    texts = ["08/02/2024 06:00:16", "Thu, 8 Feb 2024 06:00:16 GMT", "45330", "2024-02-08 06:00:16Z"]
    toml = f'{ROLES}[time]\nformat = ["%d/%m/%Y %H:%M:%S", "rfc2822", "excel", "iso8601"]'
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 4
    times = [
        row["event_time"] for row in rows_of(read(toml, {**clean(rows), "at": pa.array(texts)}))
    ]
    six = datetime(2024, 2, 8, 6, 0, 16, tzinfo=UTC)
    assert times == [six, six, datetime(2024, 2, 8, tzinfo=UTC), six]


def test_times_without_a_zone_are_local_if_the_schema_says_so() -> None:
    texts = [
        "2024-07-10 00:30:00",
        "2024-03-31 02:30:00",
        "2024-10-27 02:30:00",
        "2024-07-10T00:30Z",
    ]
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 4
    columns = {**clean(rows), "at": pa.array(texts)}
    brussels = 'timezone = "Europe/Brussels"\n' + ROLES
    local = read(f'{brussels}[time]\nnaive = "local"', columns)
    assert [row["event_time"].strftime("%dT%H:%M") for row in rows_of(local)] == [
        *("09T22:30", "31T01:00", "27T00:30", "10T00:30")
    ]
    assert not local.doubts["zone"]
    assert read(brussels, columns).doubts["zone"] == 3
    assert not read(f'{brussels}[time]\nnaive = "utc"', columns).doubts["zone"]
    assert not read(ROLES, columns).doubts["zone"]


def test_an_absent_id_is_absent_however_it_is_spelled() -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 4
    columns = {**clean(rows), "card": pa.array(["nan", "", None, "-"])}
    dead = read(ROLES, columns).dead
    assert dead.column("reason").to_pylist() == ["missing_id"] * 3
    toml = ROLES.replace('"card"', '{ column = "card", missing = "allow" }')
    toml += '[missing]\nspellings = ["nan", "-"]'
    assert [row["account_id"] for row in rows_of(read(toml, columns))] == [None] * 4


@pytest.mark.parametrize("type", [pa.int64(), pa.float64(), pa.string()])
def test_a_number_may_be_the_spelling_of_an_absent_id(type: pa.DataType) -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 3
    columns = {**clean(rows), "card": pa.array([-1, 12, 1]).cast(type)}
    toml = f'{ROLES}\n[missing]\nspellings = ["-1"]'
    checked = read(toml, columns)
    assert checked.dead.column("reason").to_pylist() == ["missing_id"]
    assert checked.transactions.column("account_id").to_pylist() == ["12", "1"]


@pytest.mark.parametrize(
    ("odd", "reason"), [("a\0b", "wrong_type"), ("é" * 129, "too_long"), ("", "missing_id")]
)
def test_one_odd_id_among_many_is_found(odd: str, reason: str) -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 300
    cards = ["é" * 128, *(str(row) for row in range(299))]
    cards[200] = odd
    checked = read(ROLES, {**clean(rows), "card": pa.array(cards)})
    assert checked.dead.column("reason").to_pylist() == [reason]
    assert len(checked.transactions) == 299


def test_numbers_that_are_no_exact_ids_are_refused() -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 3
    columns = {**clean(rows), "card": pa.array([12.5, 2.0**53, float("nan")])}
    assert read(ROLES, columns).dead.column("reason").to_pylist() == [
        *("wrong_type", "wrong_type", "missing_id")
    ]


def test_an_unreadable_label_is_counted() -> None:
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 4
    columns = {**clean(rows), "fraud": pa.array(["Yes", "", "nan", "1"])}
    known = read(ROLES, columns)
    assert [row["label"] for row in rows_of(known)] == [None, None, None, 1]
    assert known.doubts["label"] == 1


def test_a_schema_of_before_reads_the_same_values() -> None:
    schema = schema_from_toml(ROLES)
    values = schema.to_dict()
    later = ("time", "numbers", "ids", "labels", "absent", "optional", "composites", "source")
    for name in (*later, "reading"):
        del values[name]
    before = Schema.from_dict(values)
    rows = [(datetime(2024, 1, 1, tzinfo=UTC), Decimal(1), "1", "1", False)] * 2
    columns = {**clean(rows), "card": pa.array(["nan", "12.0"])}
    arrived = validate_arrivals(
        raw_batch(columns, "rows"), before, labels="ignored", ahead=None, now=None
    )
    assert [row["account_id"] for row in rows_of(arrived)] == ["nan", "12.0"]
    assert Schema.from_dict(before.to_dict()) == before
    assert set(before.to_dict()) == {*values, "time_origin"}
