"""`label import` and `label export`: labels of any file into the table, and out to training."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from beam_fraud.cli.commands import labels
from beam_fraud.cli.options import ExportLabelsOptions, ImportLabelsOptions
from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.errors import Code, UsageError
from beam_fraud.records.label_file import read_label_file
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import prepare_database, transaction
from tests.decisions.test_audit_lane import unflagged
from tests.failing import fails
from tests.flagged import START, flagged_batch

AT = "2024-06-01T12:00:00Z"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with two flagged transactions and an audited one."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/flagged.db"
    else:
        url = str(request.getfixturevalue("postgres_database"))
    prepare_database(url)
    lane = AuditLane.parse("20%")
    writer = DatabaseSink(url).open("run")
    writer.write(flagged_batch(["007", "t1"]))
    writer.write(lane.with_probability(unflagged(flagged_batch(["random"], account="b"))))
    writer.close()
    return url


def rows_of(url: str, table: str = "labels") -> list[dict[str, Any]]:
    with transaction(url) as connection:
        query = f"SELECT * FROM {table} ORDER BY transaction_id, labelled_at, labelled_by"
        rows = connection.execute(text(query)).mappings().all()
    return [dict(row) for row in rows]


def options_of(url: str, *files: Path, **options: Any) -> ImportLabelsOptions:
    return ImportLabelsOptions(files=tuple(map(str, files)), database=url, who="bank", **options)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_with_our_columns_is_imported_once(url: str, tmp_path: Path) -> None:
    file = written(
        tmp_path / "labels.csv",
        "transaction_id,label,labelled_at,labelled_by,reason\n"
        f"007,1,{AT},eve,stolen\n"
        f"random,0,{AT},,\n",
    )
    result = labels.run_import(options_of(url, file))
    assert (result["labels_new"], result["labels_known"], result["rows_dead"]) == (2, 0, 0)
    before = rows_of(url)
    of = {row["transaction_id"]: row for row in before}
    assert (of["007"]["label"], of["007"]["labelled_by"], of["007"]["reason"]) == (
        *(1, "eve", "stolen"),
    )
    assert (of["random"]["label"], of["random"]["labelled_by"]) == (0, "bank")
    # What the file lacks is the transaction's own.
    assert (of["007"]["account_id"], of["random"]["account_id"]) == ("a", "b")
    # People saw the one surely, the other by chance.
    assert (of["007"]["probability"], of["random"]["probability"]) == (1.0, 0.2)
    again = labels.run_import(options_of(url, file))
    assert (again["labels_new"], again["labels_known"]) == (0, 2)
    assert rows_of(url) == before


def test_charge_backs_of_another_form_are_read_by_a_mapping(url: str, tmp_path: Path) -> None:
    file = written(
        tmp_path / "chargebacks.csv",
        "Auth Ref;Reported;Outcome;Code\n"
        "TX-007;01.06.2024 14:00;CB;4837\n"
        "TX-t1;01.06.2024 14:00;REJECTED;\n",
    )
    mapping = written(
        tmp_path / "mapping.toml",
        'timezone = "Europe/Brussels"\n'
        "[roles]\n"
        'transaction_id = { column = "Auth Ref", prefix = "TX-" }\n'
        'label = "Outcome"\nlabelled_at = "Reported"\nreason = "Code"\n'
        '[time]\nformat = "%d.%m.%Y %H:%M"\nnaive = "local"\n'
        '[label]\npositive = "CB"\n'
        '[source]\ndelimiter = ";"\n',
    )
    labels.run_import(options_of(url, file, mapping=str(mapping)))
    first, second = rows_of(url)
    assert (first["transaction_id"], first["label"], first["reason"]) == ("007", 1, "4837")
    assert (second["transaction_id"], second["label"], second["reason"]) == ("t1", 0, None)
    assert str(first["labelled_at"])[:19] == "2024-06-01 12:00:00"
    by_options = options_of(
        url,
        file,
        columns=("label=Outcome", "labelled_at=Reported", "transaction_id=Auth Ref"),
        fraud=("cb",),
        mapping=str(mapping),
    )
    # The mapping's prefix went with its role; nothing of the ids is known then.
    assert labels.run_import(by_options)["dead_reasons"] == {"unknown_transaction": 2}


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_every_format_is_read(url: str, tmp_path: Path, ending: str) -> None:
    table = pa.table(
        {
            "transaction_id": ["007", "t1"],
            "label": [True, False],
            "labelled_at": pa.array([datetime(2024, 6, 1, tzinfo=UTC)] * 2),
        }
    )
    file = tmp_path / f"labels.{ending}"
    if ending == "parquet":
        pq.write_table(table, file)
    elif ending == "csv":
        pcsv.write_csv(table, file)
    else:
        lines = ({**row, "labelled_at": "2024-06-01T00:00:00Z"} for row in table.to_pylist())
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert labels.run_import(options_of(url, file))["labels_new"] == 2
    assert [(row["transaction_id"], row["label"]) for row in rows_of(url)] == [
        ("007", 1),
        ("t1", 0),
    ]


def test_a_file_of_frauds_alone_needs_no_column_of_labels(url: str, tmp_path: Path) -> None:
    file = written(tmp_path / "frauds.csv", "transaction_id\n007\n")
    with fails(Code.COLUMN_MISSING, "no column 'label'.* --label fraud"):
        labels.run_import(options_of(url, file, labelled_at=AT))
    with fails(Code.COLUMN_MISSING, "no column 'labelled_at'.* --labelled-at"):
        labels.run_import(options_of(url, file, label="fraud"))
    labels.run_import(options_of(url, file, label="fraud", labelled_at=AT))
    assert [(row["transaction_id"], row["label"]) for row in rows_of(url)] == [("007", 1)]


@pytest.mark.parametrize("columns", [(), ("event_time=when",)])
def test_the_error_of_missing_ids_names_the_option(
    url: str, tmp_path: Path, columns: tuple[str, ...]
) -> None:
    file = written(tmp_path / "a.csv", f"auth_ref,label,labelled_at,when\n7,1,{AT},{AT}\n")
    with fails(Code.COLUMN_MISSING, "no column 'transaction_id'.*--column transaction_id=NAME"):
        labels.run_import(options_of(url, file, columns=columns))
    # A column that the call names has its own.
    with fails(Code.COLUMN_MISSING, "column 'auth' .*did you mean 'auth_ref'"):
        labels.run_import(options_of(url, file, columns=(*columns, "transaction_id=auth")))
    with fails(Code.COLUMN_MISSING, "column 'wen' .*did you mean 'when'"):
        labels.run_import(
            options_of(url, file, columns=("transaction_id=auth_ref", "event_time=wen"))
        )


def test_bad_rows_cost_themselves_and_are_said(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(
        tmp_path / "labels.csv",
        "transaction_id,label,labelled_at\n"
        f"007,1,{AT}\n"
        f",1,{AT}\n"
        f"t1,perhaps,{AT}\n"
        "t1,1,yesterday\n"
        "t1,1,\n"
        "t1,1,2999-01-01\n"
        f"t1,1\n"
        f"nobody,1,{AT}\n",
    )
    with caplog.at_level(logging.WARNING):
        result = labels.run_import(options_of(url, file))
    assert result["dead_reasons"] == {
        "missing_id": 1,
        "invalid_label": 1,
        "unparseable_time": 1,
        "missing_time": 1,
        "impossible_time": 1,
        "wrong_column_count": 1,
        "unknown_transaction": 1,
    }
    assert result["rows_in"] == result["labels_new"] + result["rows_dead"] == 8  # type: ignore[operator]
    assert "6 of 8 rows are left out" in caplog.text
    with transaction(url) as connection:
        query = "SELECT source, position, reason FROM dead_letters ORDER BY position"
        dead = [tuple(row) for row in connection.execute(text(query))]
    assert {source for source, _, _ in dead} == {file.name}
    assert [(position, reason) for _, position, reason in dead] == [
        (1, "missing_id"),
        (2, "invalid_label"),
        (3, "unparseable_time"),
        (4, "missing_time"),
        (5, "impossible_time"),
        (6, "wrong_column_count"),
    ]
    assert "line 3" in caplog.text
    with fails(Code.ROWS_INVALID, "none of 1"):
        labels.run_import(
            options_of(url, written(tmp_path / "b.csv", "transaction_id,label,labelled_at\n,,\n"))
        )


def test_transactions_that_nobody_saw_come_with_their_time_or_from_the_archive(
    url: str, tmp_path: Path
) -> None:
    timed = written(
        tmp_path / "timed.csv",
        f"transaction_id,label,labelled_at,event_time,merchant_id\nx1,1,{AT},2024-05-01,shop\n",
    )
    result = labels.run_import(options_of(url, timed))
    assert (result["labels_new"], result["transactions_unseen"]) == (1, 1)
    pq.write_table(pa.Table.from_batches([flagged_batch(["x2"])]), tmp_path / "part-1.parquet")
    file = written(tmp_path / "cb.csv", f"transaction_id,label,labelled_at\nx2,1,{AT}\n")
    assert labels.run_import(options_of(url, file))["dead_reasons"] == {"unknown_transaction": 1}
    labels.run_import(options_of(url, file, scores=(str(tmp_path / "part-1.parquet"),)))
    first, second = rows_of(url)
    assert (first["merchant_id"], first["probability"]) == ("shop", None)
    assert (second["account_id"], second["probability"]) == ("a", None)
    assert str(second["event_time"]).startswith(str(START)[:19])


def test_conflicts_are_kept_and_the_latest_counts(url: str, tmp_path: Path) -> None:
    header = "transaction_id,label,labelled_at,labelled_by\n"
    first = written(tmp_path / "a.csv", f"{header}007,0,2024-06-02,eve\nt1,1,2024-06-02,eve\n")
    labels.run_import(options_of(url, first))
    later = written(tmp_path / "b.csv", f"{header}007,1,2024-07-01,bank\nt1,0,2024-06-01,bank\n")
    result = labels.run_import(options_of(url, later))
    assert (result["conflicts"], result["verdicts_changed"]) == (2, 1)
    assert len(rows_of(url)) == 4
    latest = rows_of(url, "latest_labels")
    assert [(row["transaction_id"], row["label"]) for row in latest] == [("007", 1), ("t1", 1)]
    corrected = written(tmp_path / "c.csv", f"{header}007,0,2024-07-01,bank\n")
    result = labels.run_import(options_of(url, corrected))
    assert (result["labels_replaced"], result["verdicts_changed"]) == (1, 1)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_an_export_is_a_file_of_labels(url: str, tmp_path: Path, ending: str) -> None:
    header = "transaction_id,label,labelled_at,labelled_by,reason\n"
    file = written(
        tmp_path / "a.csv",
        f'{header}007,0,2024-06-02,eve,"a, ""b"""\n007,1,2024-07-01,bank,\nt1,1,2024-06-02,eve,\n',
    )
    labels.run_import(options_of(url, file))
    out = tmp_path / f"labels.{ending}"
    options = ExportLabelsOptions(database=url, out=str(out))
    assert labels.run_export(options)["labels"] == 2
    read = read_label_file(out)
    assert sorted(read.labels.tolist()) == [1, 1]
    assert read.newest == 1_719_792_000_000_000
    assert labels.run_export(replace(options, since="2024-06-15"))["labels"] == 1
    assert labels.run_export(replace(options, history=True))["labels"] == 3
    before = rows_of(url)
    assert labels.run_import(options_of(url, out))["labels_known"] == 3
    assert rows_of(url) == before


def test_what_cannot_be_is_refused(url: str, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", f"transaction_id,label,labelled_at\n007,1,{AT}\n")
    for code, match, options in (
        (Code.SCHEMA_VALUE, "unknown role 'labl'", {"columns": ("labl=x",)}),
        (Code.OPTION_VALUE, "write ROLE=NAME", {"columns": ("label",)}),
        (Code.COLUMN_MISSING, "'outcome'", {"columns": ("label=outcome",)}),
        (Code.OPTION_CONFLICT, "--label", {"label": "fraud", "fraud": ("1",)}),
        (Code.OPTION_CONFLICT, "--labels-topic", {"labels_topic": "labels"}),
        (Code.TIME_INVALID, "--labelled-at", {"labelled_at": "noon"}),
    ):
        with fails(code, match):
            labels.run_import(options_of(url, file, **options))
    with fails(Code.SINK_UNSUITED, "--database", UsageError):
        labels.run_import(options_of(f"parquet:{tmp_path}/x", file))
    with fails(Code.OUTPUT_NAME, "--out", UsageError):
        labels.run_export(ExportLabelsOptions(database=url, out="labels.xlsx"))
    assert rows_of(url) == []
