"""Files as people have them: the transactions and windows of the clean file, or a named refusal."""

from __future__ import annotations

import bz2
import csv
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code
from beam_fraud.features.dataset import Dataset, load_dataset
from beam_fraud.schema.toml import schema_from_toml
from beam_fraud.storage.urls import Place
from tests.failing import fails

Row = dict[str, Any]
COLUMNS = ("id", "booked_at", "card", "shop", "value", "mcc", "fraud")
ROLES = """
[roles]
transaction_id = "id"
event_time = "booked_at"
account_id = "card"
merchant_id = "shop"
amount = "value"
label = "fraud"
[[feature]]
column = "mcc"
kind = "categorical"
missing = "allow"
[[velocity]]
key = "account_id"
windows = ["1h", "7d"]
aggregates = ["count", "mean", "ratio"]
[[velocity]]
key = "merchant_id"
windows = ["7d"]
aggregates = ["count", "risk"]
delay = "1d"
"""
#: Whole minutes, so that formats without seconds lose nothing.
START = datetime(2024, 1, 3, 6, 0, tzinfo=UTC)
#: Rows before these are the history.
HISTORY = 200


def made(count: int = 260) -> list[Row]:
    random = np.random.default_rng(5)
    moments = np.cumsum(random.integers(1, 90, count))
    return [
        {
            "id": 100_000 + row,
            "booked_at": START + timedelta(minutes=int(moments[row])),
            "card": 40_000_000 + int(random.integers(25)),
            "shop": 700 + int(random.integers(9)),
            "value": round(float(random.lognormal(6, 2)), 2),
            "mcc": str(random.choice(["4111", "5411", "5812"])),
            "fraud": int(random.random() < 0.1),
        }
        for row in range(count)
    ]


ROWS = made()


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(row: Row) -> Row:
    return {**row, "booked_at": iso(row["booked_at"])}


def as_csv(rows: list[Row], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_json(rows: list[Row]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


@dataclass(frozen=True)
class Dress:
    """A form of the rows, and what is said of it."""

    #: Changes a row whose time is ISO 8601.
    change: Callable[[Row], Row]
    #: Settings under which the rows are those of the clean file.
    settings: str = ""
    #: Code of the refusal without the settings, and what it names; None if it is read.
    code: Code | None = None
    named: str = ""
    #: Replacements in the schema.
    replaced: dict[str, str] = field(default_factory=dict)
    #: Name of the file, and its content.
    name: str = "day.csv"
    content: Callable[[list[Row]], bytes] = as_csv


def time(format: str, setting: str = "", code: Code = Code.ROWS_INVALID) -> Dress:
    def change(row: Row) -> Row:
        moment = datetime.fromisoformat(row["booked_at"])
        return {**row, "booked_at": moment.strftime(format)}

    return Dress(change, f'[time]\nformat = "{setting or format}"', code, "format")


def amount(write: Callable[[float], str], settings: str, **more: Any) -> Dress:
    return Dress(
        lambda row: {**row, "value": write(row["value"])},
        f"[amount]\n{settings}",
        Code.ROWS_INVALID,
        r"\[amount\]",
        **more,
    )


def european(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def excel(row: Row) -> Row:
    days = (datetime.fromisoformat(row["booked_at"]) - datetime(1899, 12, 30, tzinfo=UTC)) / (
        timedelta(days=1)
    )
    return {**row, "booked_at": repr(days)}


def rfc2822(row: Row) -> Row:
    return {**row, "booked_at": format_datetime(datetime.fromisoformat(row["booked_at"]))}


def nested(row: Row) -> Row:
    return {
        **{name: row[name] for name in ("id", "booked_at", "fraud")},
        "card": {"number": row["card"]},
        "merchant": {"shop": row["shop"], "mcc": row["mcc"]},
        "amounts": [{"value": row["value"]}],
    }


def zipped(rows: list[Row]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("day.csv", as_csv(rows))
    return packed.getvalue()


def parquet(rows: list[Row]) -> bytes:
    written = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    for name in ("id", "card", "shop"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].cast(pa.float64()))
    pq.write_table(table, written)
    return written.getvalue()


def same(row: Row) -> Row:
    return row


DRESSES = {
    "comma_millis": time("%Y-%m-%d %H:%M:%S,000", "%Y-%m-%d %H:%M:%S,%f"),
    "compact": time("%Y%m%d%H%M", code=Code.TIMES_IMPLAUSIBLE),
    "day_first": time("%d/%m/%Y %H:%M"),
    "twelve_hours": time("%m/%d/%y %I:%M %p"),
    "slashes": time("%Y/%m/%d %H:%M:%S"),
    "rfc2822": Dress(rfc2822, '[time]\nformat = "rfc2822"', Code.ROWS_INVALID, "format"),
    "excel": Dress(excel, '[time]\nformat = "excel"', Code.TIMES_IMPLAUSIBLE, "format"),
    "dollars": amount("${:,.2f}".format, 'symbol = "$"\nthousands = ","'),
    "thousands": amount("{:,.2f}".format, 'thousands = ","'),
    "european": amount(
        european, 'decimal = ","\nthousands = "."', content=lambda rows: as_csv(rows, ";")
    ),
    "brackets": amount(
        lambda value: f"({value})" if value > 5_000 else str(value),
        'negative = "brackets"\nallow_negative = true',
    ),
    "float_ids": Dress(lambda row: {**row, "card": f"{row['card']}.0", "shop": f"{row['shop']}.0"}),
    "float_ids_in_json": Dress(
        lambda row: {**row, "card": float(row["card"])}, name="day.jsonl", content=as_json
    ),
    "float_ids_in_parquet": Dress(same, name="day.parquet", content=parquet),
    "header_in_capitals": Dress(
        lambda row: {name.upper(): value for name, value in row.items()},
        code=Code.COLUMN_MISSING,
        named="did you mean",
        replaced={f'"{name}"': f'"{name.upper()}"' for name in COLUMNS},
    ),
    "zip": Dress(same, name="day.zip", content=zipped),
    "bz2": Dress(same, name="day.csv.bz2", content=lambda rows: bz2.compress(as_csv(rows))),
    "array": Dress(same, name="day.json", content=lambda rows: json.dumps(rows).encode()),
    "debezium": Dress(
        lambda row: {"schema": None, "payload": {"before": None, "after": row, "op": "c"}},
        '[source]\nunwrap = "debezium"',
        Code.ROWS_INVALID,
        "unwrap",
        name="day.jsonl",
        content=as_json,
    ),
    "nested": Dress(
        nested,
        replaced={
            '"card"': '"card.number"',
            '"shop"': '"merchant.shop"',
            '"mcc"': '"merchant.mcc"',
            '"value"': '"amounts[0].value"',
        },
        name="day.jsonl",
        content=as_json,
    ),
    "nan_that_nobody_reads": Dress(
        lambda row: {**row, "km": float("nan")}, name="day.jsonl", content=as_json
    ),
}


def schema_text(dress: Dress, settings: str) -> str:
    text = ROLES
    for old, new in dress.replaced.items():
        text = text.replace(old, new)
    return f"{settings}\n{text}"


def load(directory: Path, dress: Dress, settings: str, rows: list[Row] | None = None) -> Dataset:
    """Load the rows after the history, which stays clean where names of columns allow it."""
    changed = [dress.change(plain(row)) for row in rows or ROWS[HISTORY:]]
    (directory / dress.name).write_bytes(dress.content(changed))
    return load_dataset(
        [Place.at(directory / dress.name)],
        schema_from_toml(schema_text(dress, settings)),
        history=[Place.at(clean_history(directory, dress))],
        labels="known",
    )


def clean_history(directory: Path, dress: Dress) -> Path:
    table = pa.Table.from_pylist(ROWS[:HISTORY])
    if dress.replaced:
        path = directory / "history.jsonl"
        path.write_bytes(as_json([dress.change(plain(row)) for row in ROWS[:HISTORY]]))
        return path
    pq.write_table(table, directory / "history.parquet")
    return directory / "history.parquet"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(tmp_path_factory.mktemp("clean"), Dress(same), "")


@pytest.mark.parametrize("name", DRESSES)
def test_rows_in_another_dress_are_the_rows_of_the_clean_file(
    name: str, clean: Dataset, tmp_path: Path
) -> None:
    dress = DRESSES[name]
    read = load(tmp_path, dress, dress.settings)
    transactions = read.transactions
    expected = clean.transactions
    if dress.replaced:
        transactions = transactions.rename_columns(expected.column_names)
    if name == "brackets":
        # A refund each: the same amounts below zero.
        amounts = np.array(transactions["amount"])
        assert ((amounts < 0) == (np.array(expected["amount"]) > 5_000)).all()
        assert (np.abs(amounts) == np.array(expected["amount"])).all()
        return
    assert transactions.equals(expected)
    assert read.rows_in == len(ROWS) - HISTORY == transactions.num_rows


@pytest.mark.parametrize("name", [name for name, dress in DRESSES.items() if dress.code])
def test_without_the_setting_the_refusal_names_it(name: str, tmp_path: Path) -> None:
    dress = DRESSES[name]
    assert dress.code is not None
    bare = Dress(dress.change, name=dress.name, content=dress.content)
    with fails(dress.code, dress.named):
        load(tmp_path, bare, "")


def test_cents_are_the_same_amounts(tmp_path: Path) -> None:
    cents = Dress(lambda row: {**row, "value": round(row["value"] * 100)})
    path = tmp_path / "day.csv"
    path.write_bytes(as_csv([cents.change(plain(row)) for row in ROWS]))
    minor = schema_from_toml(schema_text(cents, '[amount]\nunit = "minor"'))
    read = load_dataset([Place.at(path)], minor, labels="known").transactions
    path.write_bytes(as_csv([plain(row) for row in ROWS]))
    major = schema_from_toml(ROLES)
    assert read.equals(load_dataset([Place.at(path)], major, labels="known").transactions)


@pytest.mark.parametrize(
    ("spelled", "settings"),
    [
        (("Yes", "No"), '[label]\npositive = ["Yes"]'),
        (("True", "False"), ""),
        (("1", "-1"), '[label]\npositive = ["1"]'),
    ],
)
def test_labels_of_a_history_are_the_same_labels(
    spelled: tuple[str, str], settings: str, clean: Dataset, tmp_path: Path
) -> None:
    dressed = [{**plain(row), "fraud": spelled[0] if row["fraud"] else spelled[1]} for row in ROWS]
    for name, rows in (("history", dressed[:HISTORY]), ("today", dressed[HISTORY:])):
        (tmp_path / f"{name}.csv").write_bytes(as_csv(rows))
    read = load_dataset(
        [Place.at(tmp_path / "today.csv")],
        schema_from_toml(settings + ROLES),
        history=[Place.at(tmp_path / "history.csv")],
        labels="known",
    )
    assert read.transactions.equals(clean.transactions)


def test_labels_that_cannot_be_read_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, Dress(lambda row: {**row, "fraud": "Yes" if row["fraud"] else "No"}), "")
    assert any("[label]" in record.message for record in caplog.records)


def test_padded_ids_are_warned_of_and_stripped_by_a_setting(
    clean: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    padded = Dress(lambda row: {**row, "card": f"{row['card']:012d}"})
    read = load(tmp_path, padded, '[ids]\nstrip = "0"')
    assert read.transactions.equals(clean.transactions)
    assert not any("[ids]" in record.message for record in caplog.records)
    load(tmp_path, padded, "")
    assert any("[ids]" in record.message for record in caplog.records)


def test_rows_without_a_merchant_or_account_may_be_allowed(clean: Dataset, tmp_path: Path) -> None:
    lacking = Dress(
        lambda row: {**row, "shop": "" if row["id"] % 5 == 0 else row["shop"]},
        replaced={'merchant_id = "shop"': 'merchant_id = { column = "shop", missing = "allow" }'},
    )
    read = load(tmp_path, lacking, "").transactions
    gone = np.array([row["id"] % 5 == 0 for row in ROWS[HISTORY:]])
    assert (np.array(read["merchant_id"].is_null()) == gone).all()
    counts = np.array(read["merchant_count_7d_delay_1d"], dtype=float)
    assert (np.isnan(counts) == gone).all()
    assert read["account_count_7d"].equals(clean.transactions["account_count_7d"])


def test_an_account_that_is_not_a_number_is_absent(tmp_path: Path) -> None:
    absent = Dress(lambda row: {**row, "card": "nan" if row["id"] % 5 == 0 else row["card"]})
    read = load(tmp_path, absent, "")
    gone = sum(row["id"] % 5 == 0 for row in ROWS[HISTORY:])
    assert read.dead_reasons == {"missing_id": gone}


def test_accents_in_another_encoding_are_read_by_a_setting(tmp_path: Path) -> None:
    accents = [{**plain(row), "shop": f"Café {row['shop']}"} for row in ROWS]
    path = tmp_path / "day.csv"
    path.write_bytes(as_csv(accents).decode().encode("latin-1"))
    with fails(Code.ROWS_INVALID, "encoding"):
        load_dataset([Place.at(path)], schema_from_toml(ROLES), labels="known")
    latin = schema_from_toml('[source]\nencoding = "latin-1"\n' + ROLES)
    read = load_dataset([Place.at(path)], latin, labels="known").transactions
    assert read["merchant_id"].to_pylist() == [row["shop"] for row in accents]


def test_a_renamed_column_of_a_feature_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    renamed = [
        {("category" if name == "mcc" else name): value for name, value in plain(row).items()}
        for row in ROWS
    ]
    (tmp_path / "day.csv").write_bytes(as_csv(renamed))
    files = [Place.at(tmp_path / "day.csv")]
    load_dataset(files, schema_from_toml(ROLES), labels="known")
    assert any("mcc" in record.message for record in caplog.records)
    with fails(Code.COLUMN_MISSING, "mcc"):
        load_dataset(files, schema_from_toml(ROLES), labels="known", absent="refuse")
