import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_fraud.storage import parquet_writer
from beam_fraud.storage.parquet_writer import ROW_GROUP_ROWS, ParquetBlockWriter, is_ours

SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("x", pa.float64())])


def _batch(start, rows):
    numbers = np.arange(start, start + rows)
    ids = pa.array(numbers).cast(pa.string())
    return pa.RecordBatch.from_arrays([ids, pa.array(numbers, pa.float64())], schema=SCHEMA)


def _write(file, sizes, row_group_rows=ROW_GROUP_ROWS):
    writer, start = ParquetBlockWriter(file, SCHEMA, row_group_rows), 0
    for size in sizes:
        writer.write(_batch(start, size))
        start += size
    return writer.close()


def _groups(path):
    metadata = pq.read_metadata(path)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


@pytest.mark.parametrize("size", [61, 1_000, 50_000, 140_000, 300_000])
def test_row_groups_have_one_size_for_any_blocks(tmp_path, size):
    rows = 300_000
    sizes = [size] * (rows // size) + ([rows % size] if rows % size else [])
    path = tmp_path / "part.parquet"
    assert _write(path, sizes) == rows
    assert _groups(path) == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, rows - 2 * ROW_GROUP_ROWS]
    assert pq.read_table(path)["x"].to_numpy().tolist() == list(range(rows))


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 60), max_size=30))
def test_any_blocks_are_read_back_in_order(tmp_path_factory, sizes):
    path = tmp_path_factory.mktemp("p") / "part.parquet"
    with pytest.MonkeyPatch.context() as small:
        small.setattr(parquet_writer, "_JOIN_BATCHES", 3)
        assert _write(path, sizes, 25) == sum(sizes)
    assert pq.read_table(path)["x"].to_pylist() == list(range(sum(sizes)))
    assert all(rows == 25 for rows in _groups(path)[:-1])


def test_memory_is_that_of_one_row_group_even_for_blocks_of_one_row(tmp_path):
    row = _batch(0, 1)
    writer = ParquetBlockWriter(tmp_path / "part.parquet", SCHEMA)
    before = pa.total_allocated_bytes()
    for _ in range(ROW_GROUP_ROWS - 1):
        writer.write(row)
    held = pa.total_allocated_bytes() - before
    assert held < ROW_GROUP_ROWS * 100
    for _ in range(2):
        writer.write(row)
    assert pa.total_allocated_bytes() - before < held
    assert writer.close() == ROW_GROUP_ROWS + 1


def test_waiting_rows_do_not_hold_the_large_block_in_memory(tmp_path):
    before = pa.total_allocated_bytes()
    writer = ParquetBlockWriter(tmp_path / "part.parquet", SCHEMA)
    writer.write(_batch(0, 4 * ROW_GROUP_ROWS + 10))
    assert pa.total_allocated_bytes() - before < 1_000_000
    writer.close()


def test_a_file_is_visible_only_when_it_is_complete(tmp_path):
    path = tmp_path / "part-1.parquet"
    writer = ParquetBlockWriter(path, SCHEMA)
    writer.write(_batch(0, 10))
    assert not list(tmp_path.glob("*.parquet"))
    writer.close()
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file_has_the_schema(tmp_path):
    path = tmp_path / "part.parquet"
    assert _write(path, []) == 0
    assert pq.read_table(path).schema.equals(SCHEMA)


def test_an_open_file_is_written_to_and_stays_open():
    file = io.BytesIO()
    assert _write(file, [10, 20]) == 30
    assert pq.read_table(io.BytesIO(file.getvalue())).num_rows == 30


def test_another_schema_is_a_mistake_of_the_caller(tmp_path):
    writer = ParquetBlockWriter(tmp_path / "part.parquet", SCHEMA)
    with pytest.raises(ValueError, match="schema"):
        writer.write(_batch(0, 1).rename_columns(["id", "y"]))


def test_own_files_are_distinguished_from_others(tmp_path):
    ours, other, broken = (tmp_path / f"{name}.parquet" for name in ("ours", "other", "broken"))
    _write(ours, [5])
    pq.write_table(pa.Table.from_batches([_batch(0, 5)]), other)
    broken.write_bytes(b"PAR1")
    assert [is_ours(path) for path in (ours, other, broken)] == [True, False, False]


def test_files_are_compressed_with_zstd(tmp_path):
    _write(tmp_path / "p.parquet", [5])
    assert pq.read_metadata(tmp_path / "p.parquet").row_group(0).column(0).compression == "ZSTD"
