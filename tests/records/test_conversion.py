"""Amounts are converted by the rate that was known at their event time, and by no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beam_fraud as bf
from beam_fraud.cli.commands import score, train
from beam_fraud.cli.options import ScoreOptions, TrainOptions
from beam_fraud.errors import Code
from beam_fraud.records.conversion import convert
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.rates import Conversion
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import schema_from_toml
from tests.failing import fails
from tests.features.test_currencies import ROLES, WINDOWS, rows

pytestmark = pytest.mark.filterwarnings(
    "ignore:velocity features look back", "ignore:.* are no transactions"
)
TO_EUR = '[currency]\nto = "EUR"\nrates = "rates.csv"\n'
#: The rows begin on 2001-09-09.
RATES = """date,currency,rate
2001-09-01,JPY,0.00625
2001-09-15,JPY,0.0065
2001-09-20T12:00:00Z,jpy,0.006
"""
WITHOUT = schema_from_toml(ROLES.replace('currency = "currency"', "") + WINDOWS)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A schema, and its rates beside it."""
    (tmp_path / "rates.csv").write_text(RATES)
    path = tmp_path / "bank.toml"
    path.write_text(ROLES + TO_EUR + WINDOWS)
    return path


def in_euros(table: pa.Table) -> pa.Table:
    """The rows with amounts that somebody has converted by hand, one by one."""
    known = [("2001-09-01", 0.00625), ("2001-09-15", 0.0065), ("2001-09-20T12:00", 0.006)]
    amounts = []
    for row in table.to_pylist():
        at = pd.Timestamp(row["booked_at"]).tz_localize(None)
        rate = [rate for moment, rate in known if pd.Timestamp(moment) <= at][-1]
        yen = row["currency"] == "JPY"
        amounts.append(round(row["value"] * rate * 10_000) / 10_000 if yen else row["value"])
    return table.set_column(4, "value", pa.array(amounts))


def features_of(table: pa.Table, schema: Schema | Path) -> pd.DataFrame:
    return bf.features(table, schema).to_pandas()


def test_converted_rows_are_those_that_were_converted_by_hand(bank: Path) -> None:
    table = rows()
    converted = features_of(table, bank)
    assert converted.equals(features_of(in_euros(table), WITHOUT))
    assert converted["amount"].max() < 1_000


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 30), st.integers(1, 9), min_size=1, max_size=6),
    st.lists(
        st.tuples(st.sampled_from(["USD", "EUR", "XXX", None]), st.integers(0, 90)), max_size=20
    ),
)
def test_a_rate_is_the_latest_one_known(known: dict[int, int], drawn: list) -> None:
    text = "; ".join(f"{np.datetime64(day, 'D')} {rate}" for day, rate in sorted(known.items()))
    conversion = Conversion("EUR", {"USD": text}, max_age="2d")
    codes = pa.array([code for code, _ in drawn], pa.string())
    times = np.array([third * DAY // 3 for _, third in drawn], dtype=np.int64)
    result = convert(np.full(len(drawn), 2.0), codes, times, conversion)
    aged = 0
    for row, (code, third) in enumerate(drawn):
        earlier = [day for day in known if 3 * day <= third]
        there = code in ("EUR", None) or (code == "USD" and bool(earlier))
        assert result.without_rate[row] == (not there)
        if code == "USD" and earlier:
            assert result.amounts[row] == 2 * known[max(earlier)]
            aged += third - 3 * max(earlier) > 6
        elif code == "EUR":
            assert result.amounts[row] == 2
    assert result.aged == aged


def test_a_row_without_currency_or_rate_is_a_dead_letter(bank: Path) -> None:
    table = rows(6)
    codes = ["EUR", None, "CHF", " jpy", "EUR", "JPY"]
    table = table.set_column(5, "currency", pa.array(codes, pa.string()))
    times = pa.array([*map(str, table["booked_at"].to_pylist()[:5]), "2001-08-31"])
    checked = bf.features(table.set_column(1, "booked_at", times), bank, on_invalid="keep")
    dead = checked.dead_letters.to_pylist()
    assert [(row["position"], row["reason"]) for row in dead] == [
        (1, "missing_currency"),
        (2, "no_rate"),
        (5, "no_rate"),
    ]
    assert all("currency" in row["detail"] for row in dead)


def test_old_rates_are_warned_of(bank: Path, caplog: pytest.LogCaptureFixture) -> None:
    bf.features(rows(), bank)
    assert "max_age" in caplog.text
    caplog.clear()
    bank.write_text(ROLES + TO_EUR + 'max_age = "30d"\n' + WINDOWS)
    bf.features(rows(), bank)
    assert "max_age" not in caplog.text


def test_smallest_units_are_those_of_the_currency_before_conversion(bank: Path) -> None:
    bank.write_text(ROLES + '[amount]\nunit = "minor"\n' + TO_EUR + WINDOWS)
    table = rows(4).set_column(4, "value", pa.array([100, 100, 100, 100]))
    table = table.set_column(5, "currency", pa.array(["EUR", "392", "jpy", " eur"]))
    minor = features_of(table, bank)
    bank.write_text(ROLES + TO_EUR + WINDOWS)
    major = table.set_column(4, "value", pa.array([1.0, 100.0, 100.0, 1.0]))
    assert minor.equals(features_of(major, bank))
    assert minor["amount"].tolist()[::3] == [1.0, 1.0]


@pytest.mark.parametrize("form", ["parquet", "inverse", "times"])
def test_rates_may_be_written_otherwise(bank: Path, form: str) -> None:
    expected = features_of(rows(), bank)
    table = pa.csv.read_csv(bank.parent / "rates.csv")
    name = "rates.csv"
    if form == "parquet":
        name = "rates.parquet"
        moments = [pd.Timestamp(text).tz_localize(None) for text in table["date"].to_pylist()]
        table = table.set_column(0, "date", pa.array(moments, pa.timestamp("ms")))
        pq.write_table(table, bank.parent / name)
    elif form == "inverse":
        inverse = [1 / 0.00625, 1 / 0.0065, 1 / 0.006]
        table = table.set_column(2, "inverse_rate", pa.array(inverse))
        pa.csv.write_csv(table, bank.parent / name)
    else:
        text = RATES.replace("09-01,", "09-01T02:00:00+02:00,").replace("09-15,", "09-15 00:00,")
        (bank.parent / name).write_text(text)
    bank.write_text(bank.read_text().replace("rates.csv", name))
    found = features_of(rows(), bank)["amount"]
    # The inverse of a rate is rounded.
    assert (found - expected["amount"]).abs().max() <= (1e-4 if form == "inverse" else 0)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("day,currency,rate\n2024-01-01,USD,1\n", Code.COLUMN_MISSING, "'date'"),
        ("date,currency\n2024-01-01,USD\n", Code.COLUMN_MISSING, "inverse_rate"),
        ("date,currency,rate\n01/02/2024,USD,1\n", Code.SCHEMA_VALUE, "row 1 .*date"),
        ("date,currency,rate\n2024-01-01,USD,0\n", Code.SCHEMA_VALUE, "row 1 .*rate"),
        ('date,currency,rate\n2024-01-01,USD,"1,1"\n', Code.SCHEMA_VALUE, "row 1 .*rate"),
        ("date,currency,rate\n2024-01-01,,1\n", Code.SCHEMA_VALUE, "row 1 .*currency"),
        ("date,currency,rate\n2024-01-01,USD,1\n2024-01-01,usd,2\n", Code.SCHEMA_VALUE, "row 2"),
        ("date,currency,rate\n2024-01-01,EUR,1.1\n", Code.SCHEMA_VALUE, "EUR"),
        ("date,currency,rate\n", Code.SCHEMA_VALUE, "no rates"),
        ("", Code.SCHEMA_UNREADABLE, "rates.csv"),
        (None, Code.SCHEMA_UNREADABLE, "rates.csv"),
    ],
)
def test_a_file_that_holds_no_rates_is_refused(
    bank: Path, text: str | None, code: Code, named: str
) -> None:
    rates = bank.parent / "rates.csv"
    rates.unlink() if text is None else rates.write_text(text)
    with fails(code, named):
        bf.load_schema(bank)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ('to = "EUR"', "to needs"),
        ('rates = "rates.csv"', "rates needs"),
        ('max_age = "7d"', "max_age needs"),
        ('to = "EUR"\nrates = "rates.csv"\nwindows = "separate"', "windows"),
        ('to = "EUR"\nrates = "rates.csv"\nmax_age = "a week"', "max_age"),
        ('to = " "\nrates = "rates.csv"', "to must"),
    ],
)
def test_a_wrong_setting_is_refused(bank: Path, setting: str, named: str) -> None:
    bank.write_text(f"{ROLES}[currency]\n{setting}\n")
    with fails(Code.SCHEMA_VALUE, named):
        bf.load_schema(bank)


def test_a_file_without_the_currency_is_refused(bank: Path) -> None:
    with fails(Code.COLUMN_MISSING, "'currency'"):
        bf.features(rows().drop_columns(["currency"]), bank)


def test_a_bundle_holds_its_rates(bank: Path, tmp_path: Path) -> None:
    table = rows(3_000)
    parts = {name: tmp_path / f"{name}.parquet" for name in ("before", "today")}
    pq.write_table(table.slice(0, 2_000), parts["before"])
    pq.write_table(table.slice(2_000), parts["today"])
    options = TrainOptions(
        files=(str(parts["before"]),),
        schema=str(bank),
        model="hist_gradient_boosting",
        settings=("trees=5",),
        out=str(tmp_path / "model"),
    )
    train.run(options)
    bundle = bf.load_bundle(tmp_path / "model")
    assert bundle.schema == bf.load_schema(bank)
    assert "converted to EUR" in (tmp_path / "model" / "card.md").read_text()
    other = bf.train(
        table.slice(0, 2_000),
        schema=replace(bundle.schema, conversion=Conversion("EUR", {"JPY": "2001-09-01 0.006"})),
        settings={"trees": 5},
    )
    assert other.manifest.schema != bundle.manifest.schema

    (bank.parent / "rates.csv").unlink()
    result = score.run(
        ScoreOptions(
            files=(str(parts["today"]),),
            history=(str(parts["before"]),),
            model=str(tmp_path / "model"),
            out=str(tmp_path / "out"),
        )
    )
    assert (result["rows_scored"], result["rows_dead"]) == (1_000, 0)
    scored = pq.read_table(tmp_path / "out" / "scores").sort_by("transaction_id")
    by_frame = bf.score(table.slice(2_000), bundle, history=table.slice(0, 2_000))
    by_frame = by_frame.sort_by("transaction_id")
    euros = in_euros(table.slice(2_000)).sort_by("id")
    for name in ("amount", "score"):
        assert scored[name].equals(by_frame[name])
    assert scored["amount"].to_pylist() == euros["value"].to_pylist()


def test_a_model_takes_amounts_in_its_own_currency_alone(bank: Path) -> None:
    converting = bf.load_schema(bank)
    table, fitting = rows(2_000), {"trees": 5}
    bundle = bf.train(table, schema=converting, settings=fitting)
    newer = Conversion("EUR", {"JPY": "2001-09-01 0.006; 2026-01-01 0.0055"})
    assert bundle.features_in(replace(converting, conversion=newer)).schema.conversion == newer
    for other in (
        schema_from_toml(ROLES + WINDOWS),
        replace(converting, conversion=replace(newer, to="CHF")),
    ):
        with fails(Code.BUNDLE_SCHEMA, "EUR"):
            bundle.features_in(other)
    as_paid = bf.train(table, schema=schema_from_toml(ROLES + WINDOWS), settings=fitting)
    with fails(Code.BUNDLE_SCHEMA, "as paid"):
        as_paid.features_in(converting)
    of_one = bf.train(table, schema=WITHOUT, settings=fitting)
    assert of_one.features_in(converting).schema.conversion == converting.conversion


def test_the_rates_of_a_schema_are_stored_with_it(bank: Path) -> None:
    schema = bf.load_schema(bank)
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.conversion is not None
    assert schema.conversion.of("JPY").rates.tolist() == [0.00625, 0.0065, 0.006]
    assert "conversion" not in WITHOUT.to_dict()
