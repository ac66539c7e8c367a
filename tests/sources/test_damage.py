"""Parquet files whose content disagrees with their metadata or exceeds memory."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import Code
from beam_fraud.schema.toml import load_schema
from beam_fraud.sources import parquet_pages
from beam_fraud.sources.lines import PREFIX_BYTES
from tests.dropping import rows
from tests.failing import fails
from tests.reading import read

SHARED = Path(__file__).parents[3] / "shared" / "cases" / "30-damaged"


def table(count: int, **columns: Any) -> pa.Table:
    result = pa.Table.from_pylist(rows(count))
    for name, values in columns.items():
        place = result.schema.get_field_index(name)
        result = result.set_column(place, name, values)
    return result


def written(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **{"compression": "none", **options})
    return out.getvalue()


def in_footer(data: bytes, before: bytes, after: bytes) -> bytes:
    assert len(before) == len(after)
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert before in data[begin:]
    return data[:begin] + data[begin:].replace(before, after)


def coded(*values: str, codes: list[int]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values))


def test_a_footer_that_promises_more_rows_than_come_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    # Thrift spells 199 as 398 and 200 as 400, seven bits a byte.
    path.write_bytes(in_footer(written(table(199)), b"\x8e\x03", b"\x90\x03"))
    with fails(Code.INPUT_DAMAGED, "after row 199: .* 200 rows where 199"):
        read(path)


def test_a_row_group_that_promises_other_rows_than_the_file_is_damage(tmp_path: Path) -> None:
    data = written(table(199))
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    first = len(data) - len(footer) + footer.index(b"\x8e\x03")
    path = tmp_path / "a.parquet"
    path.write_bytes(data[:first] + b"\x90\x03" + data[first + 2 :])
    with fails(Code.INPUT_DAMAGED, "200 rows, and 199"):
        read(path)


def test_an_index_out_of_a_dictionary_is_damage(tmp_path: Path) -> None:
    data = written(table(60, account=coded("a", "b", "c", codes=[2] * 60)))
    # Two bits a code, a run of 60, the code.
    assert data.count(b"\x02\x78\x02") == 1
    path = tmp_path / "a.parquet"
    path.write_bytes(data.replace(b"\x02\x78\x02", b"\x02\x78\x03"))
    with fails(Code.INPUT_DAMAGED, "after row 0: index 3 of 3"):
        read(path)


def test_a_dictionary_that_claims_more_values_than_bytes_is_damage(tmp_path: Path) -> None:
    data = written(table(100))
    # Thrift: a struct with a number first, 200 for 100 values and 16,382 for 8,191.
    claims = b"\x4c\x15\xc8\x01", b"\x4c\x15\xfe\x7f"
    path = tmp_path / "a.parquet"
    path.write_bytes(data.replace(*claims, 1))
    with fails(Code.INPUT_DAMAGED, "after row 0: .* more values than bytes"):
        read(path)


def test_a_name_of_a_column_that_is_not_utf8_is_damage(tmp_path: Path) -> None:
    plain = table(5)
    data = written(plain.append_column("café", plain["id"]))
    path = tmp_path / "a.parquet"
    path.write_bytes(data.replace("café".encode(), b"caf\xe9z"))
    with fails(Code.INPUT_DAMAGED):
        read(path)


def test_text_that_is_not_utf8_costs_only_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(written(table(60)).replace(b"t17", b"t\xff7"))
    result = read(path)
    assert list(result.dead) == [17]
    assert result.dead[17]["reason"] == "wrong_type"
    assert len(result.rows) == 59


@pytest.mark.parametrize("name", ["crash1", "crash2"])
def test_flipped_bytes_of_a_real_file(name: str, tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("the damaged files are not on this machine")
    with fails(Code.INPUT_DAMAGED):
        read(SHARED / f"{name}.parquet", load_schema(str(SHARED / "bank.toml")), labels="ignored")


def bomb_of_a_dictionary(path: Path) -> str:
    """Return 40,000 rows that refer to one value of a million bytes: 39 GB."""
    account = coded("x" * 1_000_000, codes=[0] * 40_000)
    pq.write_table(table(40_000, account=account), path, compression="zstd", store_schema=False)
    return "column 'account' unfolds to over 512 MB, too much for a file of"


def bomb_of_an_arrow_dictionary(path: Path) -> str:
    """Return the same rows with codes that Arrow stores as such."""
    account = coded("x" * 1_000_000, codes=[0] * 40_000)
    pq.write_table(table(40_000, account=account), path, compression="zstd")
    return "column 'account' unfolds to over 512 MB, too much for a file of"


@pytest.mark.parametrize(
    "bomb", [bomb_of_a_dictionary, bomb_of_an_arrow_dictionary], ids=lambda bomb: bomb.__name__
)
def test_a_small_file_that_unfolds_to_gigabytes_is_refused(bomb, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    message = bomb(path)
    assert path.stat().st_size < 300_000
    with fails(Code.INPUT_DAMAGED, message):
        read(path)


def test_pages_that_unfold_to_too_much_at_once_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    plain = table(5_000)
    path.write_bytes(written(plain, use_dictionary=False, compression="zstd", row_group_size=2_500))
    assert read(path).rows_in == 5_000
    monkeypatch.setattr(parquet_pages, "MAX_UNFOLDED_BYTES", 100_000)
    monkeypatch.setattr(parquet_pages, "_UNFOLDED_TIMES", 1)
    with fails(Code.INPUT_DAMAGED, "after row 0: row group 0: .* 0 MB"):
        read(path)


def test_values_that_refer_to_the_one_before_are_read_within_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    text = table(100, account=pa.array(["x" * 1_000_000] * 100))
    pq.write_table(
        text,
        path,
        compression="zstd",
        use_dictionary=False,
        column_encoding={"account": "DELTA_BYTE_ARRAY"},
    )
    assert path.stat().st_size < 20_000
    result = read(path)
    assert [letter["reason"] for letter in result.dead.values()] == ["too_long"] * 100
    assert max(len(letter["payload"]) for letter in result.dead.values()) < PREFIX_BYTES + 1_000


def test_one_long_value_of_a_dictionary_costs_only_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    codes = [0] * 20_000
    codes[7_000] = 1
    account = coded("a", "x" * 100_000, codes=codes)
    pq.write_table(table(20_000, account=account), path, store_schema=False)
    result = read(path)
    assert list(result.dead) == [7_000]
    assert len(result.rows) == 19_999
