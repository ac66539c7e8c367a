"""Schemas drafted by files, and files checked by a schema."""

from __future__ import annotations

import csv
import io
import json
import random
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_fraud.cli.commands.schemas import (
    call_check,
    render_check,
    render_infer,
    run_check,
    run_infer,
)
from beam_fraud.cli.options import CheckSchemaOptions, InferSchemaOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.inference.draft import Draft, draft_schema, fitting_presets
from beam_fraud.evaluation.inference.sample import read_sample
from beam_fraud.features.dataset import load_dataset
from beam_fraud.schema.toml import load_schema, schema_from_toml
from beam_fraud.storage.urls import Place
from tests.dropping import drop
from tests.failing import fails
from tests.public_sets import SETS, SPARKOV, SPREADSHEETS, scientific, sparkov, write

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
HEADER = ("txn_id", "booked_at", "card", "shop", "amount", "mcc", "is_fraud")
Row = tuple[str, datetime, str, str, int, str, int]


def rows_of(seed: int, count: int = 80) -> list[Row]:
    chance = random.Random(seed)
    moment = datetime(2024, 2, 1, 6, 0, 16, tzinfo=UTC)
    rows = []
    for row in range(count):
        moment += timedelta(seconds=chance.randrange(60, 40_000))
        cents = chance.randrange(1, 400_000)
        rows.append(
            (
                *(f"{103570 + row}", moment, f"{40000000 + chance.randrange(12)}"),
                *(f"{700 + chance.randrange(9)}", cents, chance.choice(["4111", "5411", "5999"])),
                int(row % 9 == 0),
            )
        )
    return rows


def _us(value: float) -> str:
    return f"{value:,.2f}"


def _european(value: float) -> str:
    return _us(value).translate(str.maketrans(",.", ".,"))


TIMES: dict[str, Callable[[datetime], str]] = {
    form: lambda moment, form=form: moment.strftime(form)  # type: ignore[misc]
    for form in (
        *("%Y-%m-%dT%H:%M:%SZ", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d-%m-%Y %H:%M:%S"),
        *("%m/%d/%y %I:%M:%S %p", "%Y/%m/%d %H:%M:%S", "%Y%m%d%H%M%S", "%d.%m.%Y %H:%M:%S"),
        *("%d %b %Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S +0000", "%y%m%d%H%M%S", "%y-%m-%d %H:%M:%S"),
        "%d/%m/%Y %H:%M:%S %z",
    )
} | {
    "epoch": lambda moment: str(int(moment.timestamp())),
    "epoch ms": lambda moment: str(int(moment.timestamp() * 1000)),
    "hours": lambda moment: str(int(moment.timestamp()) // 3600 - 473_000),
}
AMOUNTS: dict[str, Callable[[int], str]] = {
    "plain": lambda cents: f"{cents / 100:.2f}",
    "us": lambda cents: _us(cents / 100),
    "european": lambda cents: _european(cents / 100),
    "swiss": lambda cents: _us(cents / 100).replace(",", "'"),
    "dollar": lambda cents: f"${_us(cents / 100)}",
    "euro": lambda cents: f"{_european(cents / 100)} €",
    "cents": str,
    "dots": lambda cents: f"{cents:,}".replace(",", "."),
}
LABELS: dict[str, Callable[[int], str]] = {
    "0 1": str,
    "True False": lambda label: str(bool(label)),
    "Yes No": lambda label: "Yes" if label else "No",
    "-1 1": lambda label: "1" if label else "-1",
}
IDS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "float": lambda one: f"{one}.0",
    "padded": lambda one: one.zfill(12),
    "prefixed": lambda one: f"C{one}",
    "blank": lambda one: f" {one} ",
}


def dressed(
    rows: Sequence[Row], times: str, amounts: str, labels: str, ids: str, delimiter: str
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(HEADER)
    for number, moment, card, shop, cents, mcc, fraud in rows:
        written = (IDS[ids](card), IDS[ids](shop), AMOUNTS[amounts](cents))
        writer.writerow((number, TIMES[times](moment), *written, mcc, LABELS[labels](fraud)))
    return text.getvalue()


def infer(path: Path) -> Draft:
    return draft_schema(read_sample([Place.at(path)]))


def labelled(draft: Draft, column: str, labels: str) -> str:
    """Return a draft in which a user has named the label."""
    lines = []
    for line in draft.text.splitlines():
        named = line.startswith(f'# label = "{column}"')
        lines.append(line.removeprefix("# ") if named else line)
    spelled = {"Yes No": "Yes", "-1 1": "1"}.get(labels)
    return "\n".join([*lines, *([f'[label]\npositive = ["{spelled}"]'] if spelled else [])])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 9),
    days=st.sampled_from([80, 12]),
    times=st.sampled_from(list(TIMES)),
    amounts=st.sampled_from(list(AMOUNTS)),
    labels=st.sampled_from(list(LABELS)),
    ids=st.sampled_from(list(IDS)),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_a_draft_reads_the_same_rows_or_says_what_it_could_not_tell(
    seed: int, days: int, times: str, amounts: str, labels: str, ids: str, delimiter: str
) -> None:
    rows = rows_of(seed, days)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "day.csv"
        path.write_text(dressed(rows, times, amounts, labels, ids, delimiter))
        draft = infer(path)
        assert draft.labels[0] == "is_fraud"
        assert not any(line.startswith("label =") for line in draft.text.splitlines())
        said = [line for line in draft.unknown if not line.startswith(("label:", "times of"))]
        said += [line for line in draft.unknown if "which are different times" in line]
        try:
            read = load_dataset([Place.at(path)], schema_from_toml(
                labelled(draft, "is_fraud", labels)
            )).transactions  # fmt: skip
            same = read.num_rows == len(rows) and [
                (row["event_time"], row["account_id"], row["merchant_id"], row["amount"],
                 row["label"])
                for row in read.to_pylist()
            ] == [
                (moment, card, shop, cents / 100, fraud)
                for _, moment, card, shop, cents, _, fraud in rows
            ]  # fmt: skip
        except Exception:
            same = False
        assert same or said, draft.text


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases here")
@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("10-times/comma_millis.csv", ['format = "%Y-%m-%d %H:%M:%S,%f"']),
        ("10-times/compact12.csv", ['format = "%Y%m%d%H%M"']),
        ("10-times/dd_mm_yyyy.csv", ['format = "%d/%m/%Y %H:%M"']),
        ("10-times/excel_serial.csv", ['format = "excel"']),
        ("10-times/julian_yyddd.csv", ['format = "%y%j"']),
        ("10-times/mm_dd_yy_12h.csv", ['format = "%m/%d/%y %I:%M %p"']),
        ("10-times/rfc2822.csv", ['format = "rfc2822"']),
        ("10-times/slash_iso.csv", ['format = "%Y/%m/%d %H:%M:%S"']),
        ("10-times/yyyymmdd_int.csv", ['format = "%Y%m%d"']),
        ("11-amounts/dollar.csv", ['thousands = ","', 'symbol = ["$"]']),
        ("11-amounts/eu_mixed.csv", ['decimal = ","', 'thousands = "."', 'delimiter = ";"']),
        ("11-amounts/eu_semicolon.csv", ['decimal = ","', 'thousands = "."']),
        ("11-amounts/minor_units.csv", ['# unit = "minor"']),
        ("11-amounts/parens.csv", ['negative = "brackets"', "allow_negative = true"]),
        ("11-amounts/us_thousands.csv", ['thousands = ","']),
        ("12-labels/history_bool.parquet", ['# label = "fraud"']),
        ("12-labels/history_minus.csv", ['# label = "fraud"']),
        ("12-labels/history_yes_no.csv", ['# label = "fraud"']),
        ("13-ids/today_double.parquet", ['account_id = "card"']),
        ("13-ids/today_float.jsonl", ['account_id = "card"']),
        ("13-ids/today_padded.csv", ["# ? ids of 'card' have zeros in front"]),
        ("14-null-merchant/today_no_shop.csv", ['{ column = "shop", missing = "allow" }']),
        ("15-csv/archive.zip", ['account_id = "card"']),
        ("15-csv/latin1.csv", ['encoding = "cp1252"']),
        ("16-json/debezium.jsonl", ['unwrap = "debezium"', 'account_id = "card"']),
        ("16-json/nested.jsonl", ['event_time = "booked_at"']),
    ],
)
def test_the_dress_of_a_case_is_found(file: str, lines: list[str]) -> None:
    text = infer(CASES / file).text
    assert [line for line in lines if line not in text] == []


@pytest.mark.parametrize("preset", ["sparkov", "tabformer", "saml_d", "ieee_cis"])
def test_a_public_set_gets_the_roles_of_its_preset(preset: str, tmp_path: Path) -> None:
    header, rows = SETS[preset]
    draft = infer(write(tmp_path / "set.csv", header, rows()[:300]))
    known = load_schema(preset)
    assert known.roles["label"] == draft.labels[0]
    if preset == "ieee_cis":
        assert any("'TransactionDT' counts" in line for line in draft.unknown)
        return
    schema = schema_from_toml(draft.text)
    for role in ("event_time", "amount", "merchant_id", "transaction_id"):
        assert schema.parts(schema.roles.get(role, "")) in (
            known.parts(known.roles.get(role, "")),
            tuple(reversed(known.parts(known.roles.get(role, "")))),
        )
    assert "label" not in schema.roles
    suspects = {"Laundering_type", *draft.labels}
    assert not suspects & {feature.column for feature in schema.features}


@pytest.mark.parametrize("preset", SETS)
def test_a_draft_names_the_preset_that_reads_its_columns(preset: str, tmp_path: Path) -> None:
    header, rows = SETS[preset]
    sample = read_sample([Place.at(write(tmp_path / "set.csv", header, rows()[:20]))])
    assert fitting_presets(sample) == (preset,)


def test_what_a_spreadsheet_rounded_is_said(tmp_path: Path) -> None:
    rows = sparkov(SPREADSHEETS["month first"], scientific)
    draft = infer(write(tmp_path / "saved.csv", SPARKOV, rows))
    assert 'format = "%m/%d/%Y %H:%M"' in draft.text
    assert any("'cc_num' are in scientific notation" in line for line in draft.unknown)


def test_rounded_ids_are_said_when_a_program_has_read_them(tmp_path: Path) -> None:
    rows = sparkov(card=lambda card: str(float(scientific(card))))
    draft = infer(write(tmp_path / "saved.csv", SPARKOV, rows))
    assert any("'cc_num' end in zeros" in line for line in draft.unknown)


def test_other_columns_of_a_role_are_named(tmp_path: Path) -> None:
    header, rows = SETS["tabformer"]
    text = infer(write(tmp_path / "set.csv", header, rows())).text
    assert "; or 'Card'" in next(line for line in text.splitlines() if "account_id" in line)


def test_a_day_that_may_be_another_is_not_guessed(tmp_path: Path) -> None:
    rows = [(*row[:1], "2/1/2019 0:00", *row[2:]) for row in sparkov()]
    draft = infer(write(tmp_path / "day.csv", SPARKOV, rows))
    assert "\nformat" not in draft.text
    assert any("'%d/%m/%Y %H:%M' or '%m/%d/%Y %H:%M'" in line for line in draft.unknown)


def test_some_values_that_are_not_read_do_not_hide_the_others(tmp_path: Path) -> None:
    text = dressed(rows_of(4), "%d/%m/%Y %H:%M:%S", "european", "0 1", "plain", ";")
    lines = text.splitlines()
    lines[4] = lines[4].replace("/2024", " of february")
    lines[7] = ";".join([*lines[7].split(";")[:4], "free", *lines[7].split(";")[5:]])
    path = tmp_path / "day.csv"
    path.write_text("\n".join(lines) + "\n")
    draft = infer(path)
    assert 'format = "%d/%m/%Y %H:%M:%S"' in draft.text
    assert 'decimal = ","' in draft.text
    assert any("'booked_at'" in line and "of february" in line for line in draft.unknown)
    assert any("'amount'" in line and "'free'" in line for line in draft.unknown)


def test_single_quotes_and_lines_without_names_are_found(tmp_path: Path) -> None:
    header, rows = SETS["banksim"]
    assert 'quote = "\'"' in infer(write(tmp_path / "banksim.csv", header, rows())).text
    path = tmp_path / "bare.csv"
    path.write_text("7,2024-02-08T06:00:16Z,12.50\n8,2024-02-08T06:01:16Z,13.75\n")
    draft = infer(path)
    assert 'header = ["column_1", "column_2", "column_3"]' in draft.text
    assert any(line.startswith("amount:") for line in draft.unknown)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_typed_columns_need_no_format(suffix: str, tmp_path: Path) -> None:
    rows = rows_of(1)
    path = tmp_path / f"day.{suffix}"
    table = pa.Table.from_pylist(
        [
            {"txn_id": n, "booked_at": t, "card": c, "shop": s, "amount": a / 100, "flag": f > 0}
            for n, t, c, s, a, _, f in rows
        ]
    )
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(r, default=str) + "\n" for r in table.to_pylist()))
    draft = infer(path)
    assert draft.labels == ("flag",)
    read = load_dataset([Place.at(path)], schema_from_toml(draft.text), labels="ignored")
    assert read.transactions["event_time"].to_pylist() == [row[1] for row in rows]


@pytest.mark.parametrize("suffix", ["orc", "avro"])
def test_other_formats_are_told_apart_alike(suffix: str, inbox: Path) -> None:
    path = drop(inbox / f"day.{suffix}", 30)
    draft = infer(path)
    assert 'transaction_id = "id"' in draft.text
    assert 'event_time = "when"' in draft.text


def test_keys_of_directories_are_columns(tmp_path: Path) -> None:
    directory = tmp_path / "day=2024-02-08" / "shop=7"
    directory.mkdir(parents=True)
    pq.write_table(pa.table({"clock": ["06:00:16", "07:10:00"], "amount": [1.5, 2.5]}),
                   directory / "a.parquet")  # fmt: skip
    draft = infer(directory / "a.parquet")
    assert 'event_time = ["day", "clock"]' in draft.text


def test_a_clock_that_counts_is_no_feature(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    rows = [f"{row},2024-02-{row % 28 + 1:02},{row // 7},{row % 13}.5" for row in range(200)]
    path.write_text("\n".join(["id,at,TIME_DAYS,amount", *rows]) + "\n")
    assert '# "TIME_DAYS": it counts time' in infer(path).text


def commands(path: Path, **options: Any) -> dict[str, Any]:
    return dict(run_infer(InferSchemaOptions(files=(str(path),), **options)))


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("absent.csv", None, Code.INPUT_MISSING),
        ("day.xlsx", b"PK", Code.INPUT_FORMAT),
        ("empty.csv", b"", Code.HEADER_UNUSABLE),
        ("header.csv", b"id,at,value\n", Code.INPUT_EMPTY),
        ("binary.csv", bytes(range(256)) * 9, Code.HEADER_UNUSABLE),
        ("wrong.csv", b"PAR1" + bytes(99), Code.INPUT_FORMAT),
        ("wrong.parquet", b"id,at\n1,2\n", Code.INPUT_FORMAT),
        ("damaged.parquet", b"PAR1" + bytes(99), Code.INPUT_DAMAGED),
        ("text.jsonl", b"no object\n", Code.INPUT_FORMAT),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    name: str, content: bytes | None, code: Code, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with fails(code, name):
        commands(path)


PIECES = st.sampled_from(
    [b"id", b"at", b"amount", b",", b";", b"\n", b'"', b"'", b"\r", b"2024-02-08", b"1.5", b"\xe9",
     b"\x00", b"{", b"}", b'{"a": 1}', b"[", b"\xff\xfe", b" ", b"0", b"\xe2\x80\xa8", b'"a":'],
)  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pieces=st.lists(PIECES, max_size=40),
    suffix=st.sampled_from(["csv", "jsonl", "json", "tsv"]),
)
def test_any_bytes_give_a_draft_or_an_error_of_one_line(pieces: list[bytes], suffix: str) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / f"day.{suffix}"
        path.write_bytes(b"".join(pieces))
        try:
            draft = infer(path)
        except FraudError:
            return
        # A draft is TOML, whatever the names of columns are.
        tomllib.loads(draft.text)


CELLS = st.sampled_from(
    ["", "NA", "-", "0", "1", "1.0", "12.50", "1,495", "1.495,5", "(3.2)", "$4", "2.7E+15", "007",
     "2024-02-08", "08/02/2024", "13/02/2024 06:00", "06:00", "Yes", "No", "x y", "é", "1e999"],
)  # fmt: skip
NAMES = st.sampled_from(
    ["id", "date", "time", "step", "amount", "card", "shop", "currency", "label", "is_fraud",
     "transaction_id", "score", "year", "month", "day", "mcc", "balance", "a.b", "Amount EUR"],
)  # fmt: skip


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(NAMES, min_size=1, max_size=6, unique=True),
    columns=st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=6, max_size=6),
)
def test_any_table_gets_a_draft_that_loads_or_says_why(
    names: list[str], columns: list[list[str]]
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "day.csv"
        rows = [[columns[at][row % len(columns[at])] for at in range(len(names))]
                for row in range(6)]  # fmt: skip
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([names, *rows])
        draft = infer(path)
        open_points = ("event_time:", "amount:", "the draft is no schema")
        if not any(line.startswith(open_points) for line in draft.unknown):
            schema = schema_from_toml(draft.text)
            assert "label" not in schema.roles


def test_files_of_another_kind_are_not_mixed(tmp_path: Path) -> None:
    one, other = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("id,at,value\n1,2024-02-08,2.5\n")
    other.write_text("id;at;value\n1;2024-02-08;2,5\n")
    with fails(Code.INPUT_FORMAT, r"b\.csv.*delimiter"):
        run_infer(InferSchemaOptions(files=(str(one), str(other))))


def test_a_draft_is_written_once(tmp_path: Path) -> None:
    header, rows = SETS["saml_d"]
    file, out = write(tmp_path / "set.csv", header, rows()), tmp_path / "draft.toml"
    result = commands(file, out=str(out))
    assert out.read_text() == result["schema"]
    assert "label: never guessed" in render_infer(result)
    assert render_infer(commands(file)) + "\n" == result["schema"]
    with fails(Code.OUTPUT_OCCUPIED, "draft.toml", UsageError):
        commands(file, out=str(out))
    with fails(Code.OUTPUT_NAME, "draft.txt", UsageError):
        commands(file, out=str(tmp_path / "draft.txt"))


SCHEMA = """
[roles]
transaction_id = "txn_id"
event_time = "booked_at"
account_id = "card"
merchant_id = "shop"
amount = "amount"
label = "is_fraud"
[[feature]]
column = "mcc"
kind = "categorical"
"""


def check(tmp_path: Path, text: str, schema: str = SCHEMA) -> dict[str, Any]:
    (tmp_path / "day.csv").write_text(text)
    (tmp_path / "bank.toml").write_text(schema)
    options = CheckSchemaOptions(
        files=(str(tmp_path / "day.csv"),), schema=str(tmp_path / "bank.toml")
    )
    return dict(run_check(options))


def test_a_check_counts_each_column_and_shows_what_is_not_read(tmp_path: Path) -> None:
    text = dressed(rows_of(2), "%Y-%m-%dT%H:%M:%SZ", "us", "Yes No", "plain", ",")
    lines = text.splitlines()
    lines[3] = lines[3].replace("2024-", "noon ")
    lines[5] = ",".join(["", *lines[5].split(",")[1:]])
    result = check(tmp_path, "\n".join([*lines, "1,2"]) + "\n")
    assert (result["rows"], result["malformed"]["records"]) == (81, {"wrong_column_count": 1})
    by_name = {one["column"]: one for one in result["columns"]}
    large = sum(row[4] >= 100_000 for row in rows_of(2))
    assert by_name["amount"]["unread"] == {"number_notation": large}
    assert by_name["amount"]["examples"][0].count(",") == 1
    assert by_name["booked_at"]["unread"] == {"unparseable_time": 1}
    assert by_name["booked_at"]["examples"][0].startswith("noon ")
    assert (by_name["txn_id"]["absent"], by_name["txn_id"]["read"]) == (1, 79)
    assert by_name["is_fraud"]["unread"] == {"invalid_label": 80}
    assert by_name["mcc"]["read"] == 80
    table = render_check(result)
    assert "number_notation" in table
    assert "noon" in table
    json.dumps(result)


def test_a_check_and_a_run_agree(tmp_path: Path) -> None:
    text = dressed(rows_of(3), "%Y-%m-%dT%H:%M:%SZ", "plain", "0 1", "plain", ",")
    lines = [*text.splitlines(), "9,noon,1,1,1.5,4111,0", "9,2024-02-09,1,1,,4111,0"]
    result = check(tmp_path, "\n".join(lines) + "\n")
    schema = load_schema(str(tmp_path / "bank.toml"))
    read = load_dataset([Place.at(tmp_path / "day.csv")], schema)
    assert result["valid"] == read.transactions.num_rows
    assert result["rows"] == read.rows_in


def test_a_check_says_what_a_run_would_refuse(tmp_path: Path) -> None:
    text = dressed(rows_of(3), "hours", "plain", "0 1", "plain", ",")
    (warning, *_) = check(tmp_path, text)["warnings"]
    assert "before 1990" in warning
    with fails(Code.COLUMN_MISSING, "'is_on'"):
        check(tmp_path, text, SCHEMA.replace('"booked_at"', '"is_on"'))


def test_a_check_reads_files_without_labels(tmp_path: Path) -> None:
    text = dressed(rows_of(3), "%Y-%m-%dT%H:%M:%SZ", "plain", "0 1", "plain", ",")
    bare = "\n".join(line.rpartition(",")[0] for line in text.splitlines()) + "\n"
    result = check(tmp_path, bare)
    assert result["valid"] == 80
    lines = [json.dumps({"txn_id": 1, "booked_at": "2024-02-08", "card": 1, "shop": 2,
                         "amount": 2.5, "mcc": "1"})]  # fmt: skip
    (tmp_path / "day.jsonl").write_text("\n".join(lines) + "\n")
    files = (str(tmp_path / "day.jsonl"),)
    json_result = run_check(CheckSchemaOptions(files=files, schema=str(tmp_path / "bank.toml")))
    assert json_result["valid"] == 1
    assert next(one for one in result["columns"] if one["use"] == "label")["read"] == 0


@pytest.mark.parametrize(
    ("old", "new", "roles"),
    [
        ("2024-", "noon-", ["event_time"]),
        (",1\n", ",maybe\n", []),
        (",0\n", ",\n", []),
        ("T0", "T0", []),
    ],
)
def test_a_check_fails_if_no_value_of_a_role_is_read(
    tmp_path: Path, old: str, new: str, roles: list[str]
) -> None:
    text = dressed(rows_of(3), "%Y-%m-%dT%H:%M:%SZ", "plain", "0 1", "plain", ",")
    checked(tmp_path, text.replace(old, new), SCHEMA, roles)


def test_a_check_fails_if_no_label_is_read_but_not_without_any(tmp_path: Path) -> None:
    text = dressed(rows_of(3), "%Y-%m-%dT%H:%M:%SZ", "plain", "Yes No", "plain", ",")
    checked(tmp_path, text, SCHEMA, ["label"])
    bare = "\n".join(line.rpartition(",")[0] for line in text.splitlines()) + "\n"
    checked(tmp_path, bare, SCHEMA, [])


def test_a_check_fails_if_the_column_of_a_role_is_absent(tmp_path: Path) -> None:
    text = dressed(rows_of(3), "%Y-%m-%dT%H:%M:%SZ", "plain", "0 1", "plain", ",")
    optional = SCHEMA.replace('"shop"', '{ column = "store", missing = "allow" }')
    checked(tmp_path, text, optional, ["merchant_id"])
    # A feature is no role.
    checked(tmp_path, text, SCHEMA.replace('"mcc"', '"code"\nmissing = "allow"'), [])


def checked(tmp_path: Path, text: str, schema: str, roles: list[str]) -> None:
    (tmp_path / "day.csv").write_text(text)
    (tmp_path / "bank.toml").write_text(schema)
    options = CheckSchemaOptions(
        files=(str(tmp_path / "day.csv"),), schema=str(tmp_path / "bank.toml")
    )
    outcome = call_check(options, as_json=False)
    assert outcome.result["roles_unread"] == roles
    assert outcome.exit_code == (1 if roles else 0)
    text = outcome.render(outcome.result)
    assert all(f"({role}) is read" in text or "no file has column" in text for role in roles)
