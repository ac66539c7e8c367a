"""Accepted Parquet columns, and the messages for others."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.reading import BANK, COLUMNS, GOOD, read

GOOD_ARRAYS = {name: pa.array([str(GOOD[name])]) for name in COLUMNS}
ODD = [
    *(pa.time32("s"), pa.time64("us"), pa.duration("us"), pa.list_(pa.int64()), pa.binary(4)),
    *(pa.struct([("x", pa.int64())]), pa.map_(pa.string(), pa.int64())),
]
REFUSED = [
    *((column, type) for column in COLUMNS for type in ODD),
    *((column, pa.bool_()) for column in ("id", "account", "when", "amount")),
    *((column, pa.timestamp("us")) for column in COLUMNS if column != "when"),
]


@pytest.mark.parametrize(("column", "type"), REFUSED, ids=str)
def test_other_types_are_refused_by_name(column: str, type: pa.DataType, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({**GOOD_ARRAYS, column: pa.nulls(1, type)}), path)
    with pytest.raises(FraudError) as refused:
        find_inputs([Place.of(path)], BANK, labels="required")
    message = str(refused.value)
    assert message.startswith(f"{path}: column {column!r} is ")
    assert ", should be " in message
    assert "\n" not in message


def test_missing_and_repeated_columns_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table(GOOD_ARRAYS)
    pq.write_table(table.rename_columns(["idd", *table.column_names[1:]]), path)
    with fails(Code.COLUMN_MISSING, "'id' of schema bank .*did you mean"):
        find_inputs([Place.of(path)], BANK, labels="required")
    pq.write_table(table.append_column("amount", table["amount"]), path)
    with fails(Code.COLUMN_TWICE, "'amount'"):
        find_inputs([Place.of(path)], BANK, labels="required")


def test_a_column_of_nulls_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for column in COLUMNS:
        pq.write_table(pa.table({**GOOD_ARRAYS, column: pa.nulls(1)}), path)
        assert read(path).rows_in == 1


def test_a_column_below_another_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({**GOOD_ARRAYS, "amount.local": [None], "amount": ["x"]}), path)
    assert b"local" not in read(path).dead[0]["payload"]


def test_a_file_without_rows_or_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table(GOOD_ARRAYS)
    pq.write_table(table[:0], path)
    assert read(path, bytes_each=1).rows_in == 0
    with pq.ParquetWriter(path, table.schema):
        pass
    assert read(path).rows_in == read(path, bytes_each=1).rows_in == 0
