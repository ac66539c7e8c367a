"""What Avro has and other formats of columns have not: codecs, logical types, unions."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.schema import FeatureColumn
from beam_fraud.sources import parquet_pages
from beam_fraud.sources.avro_container import MAGIC, number
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.reading import BANK, GOOD, read

TYPES: dict[str, Any] = dict.fromkeys(GOOD, "string")


def write(path: Path, rows: list[dict[str, Any]], codec: str = "null", **types: Any) -> Path:
    """Write rows of `BANK`, with the types of some columns."""
    fields = [{"name": name, "type": type} for name, type in {**TYPES, **types}.items()]
    schema = {"type": "record", "name": "Row", "namespace": "shop", "fields": fields}
    with path.open("wb") as file:
        fastavro.writer(file, schema, rows, codec, sync_interval=1_000)
    return path


def container(path: Path, schema: str, codec: str, blocks: list[tuple[int, bytes]]) -> Path:
    """Write blocks, each of a number of rows and its bytes as stored."""
    entries = [(b"avro.schema", schema.encode()), (b"avro.codec", codec.encode())]
    spelled = [part for entry in entries for text in entry for part in (number(len(text)), text)]
    parts = [MAGIC, number(2), *spelled, number(0), b"s" * 16]
    for rows, data in blocks:
        parts += [number(rows), number(len(data)), data, b"s" * 16]
    path.write_bytes(b"".join(parts))
    return path


def snappy(data: bytes) -> bytes:
    checksum = zlib.crc32(data).to_bytes(4, "big")
    return bytes(pa.compress(data, "snappy", asbytes=True)) + checksum


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": lambda data: zlib.compress(data, wbits=-15),
    "snappy": snappy,
    "zstandard": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
ROWS = [{**GOOD, "id": f"t{number}"} for number in range(40)]


def recoded(path: Path, codec: str, change: Callable[[bytes], bytes] = bytes) -> Path:
    """Write `ROWS` in blocks of another codec, each changed once compressed."""
    plain = write(path, ROWS).read_bytes()
    blocks = []
    for block in fastavro.block_reader(io.BytesIO(plain)):
        blocks.append((block.num_records, change(CODECS[codec](block.bytes_.read()))))
    fields = ",".join(f'{{"name": "{name}", "type": "string"}}' for name in GOOD)
    schema = f'{{"type": "record", "name": "Row", "fields": [{fields}]}}'
    return container(path, schema, codec, blocks)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec(tmp_path: Path, codec: str) -> None:
    result = read(recoded(tmp_path / "a.avro", codec), bytes_each=1)
    assert result.transactions["transaction_id"].to_pylist() == [row["id"] for row in ROWS]


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "null"])
def test_damaged_data_of_every_codec(tmp_path: Path, codec: str) -> None:
    def changed(data: bytes) -> bytes:
        middle = len(data) // 2
        return (
            data[:middle] + bytes([data[middle] ^ 1, data[middle + 1] ^ 255]) + data[middle + 2 :]
        )

    for change in (changed, lambda data: data[:-9], lambda data: b""):
        with fails(Code.INPUT_DAMAGED, "a.avro: is damaged after row 0"):
            read(recoded(tmp_path / "a.avro", codec, change))


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    path = container(tmp_path / "a.avro", '"string"', "lz77", [])
    with fails(Code.INPUT_FORMAT, "a.avro: .*lz77.*deflate"):
        find_inputs([Place.of(path)], BANK, labels="required")


@pytest.mark.parametrize("codec", CODECS)
def test_a_block_of_more_than_memory_holds_is_refused(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_pages, "MAX_UNFOLDED_BYTES", 1 << 20)
    monkeypatch.setattr(parquet_pages, "_UNFOLDED_TIMES", 0)
    long = CODECS[codec](b"x" * (2 << 20))
    path = recoded(tmp_path / "a.avro", codec)
    data = path.read_bytes()
    path.write_bytes(data + number(1) + number(len(long)) + long + b"s" * 16)
    with fails(Code.INPUT_DAMAGED, f"a.avro: is damaged after row {len(ROWS)}"):
        read(path)


def test_rows_without_bytes_are_refused(tmp_path: Path) -> None:
    fields = ",".join(f'{{"name": "{name}", "type": "null"}}' for name in GOOD)
    schema = f'{{"type": "record", "name": "Row", "fields": [{fields}]}}'
    with fails(Code.INPUT_DAMAGED, "promises 1,099,511,627,776 rows"):
        read(container(tmp_path / "a.avro", schema, "null", [(1 << 40, b"")]))


def test_logical_types(tmp_path: Path) -> None:
    moment = datetime(2024, 2, 8, 6, 0, 16, 250_000, tzinfo=UTC)
    naive = moment.replace(tzinfo=None)
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
    fixed = {"type": "fixed", "name": "f", "size": 6, "logicalType": "decimal", "precision": 9}
    enum = {"type": "enum", "name": "channel", "symbols": ["web", "shop"]}
    for kind, value, expected in (
        ("timestamp-millis", moment, moment),
        ("timestamp-micros", moment, moment),
        ("local-timestamp-millis", naive, moment),
        ("local-timestamp-micros", naive, moment),
        ("date", moment.date(), datetime(2024, 2, 8, tzinfo=UTC)),
    ):
        rows = [
            {**GOOD, "when": value, "amount": amount, "age": Decimal(41), "channel": "shop"}
            for amount in (Decimal("12.50"), Decimal("0.01"), Decimal("-3"), None)
        ]
        path = write(
            tmp_path / "a.avro",
            rows,
            when={"type": "int" if kind == "date" else "long", "logicalType": kind},
            amount=["null", decimal],
            age=fixed,
            channel=enum,
        )
        result = read(path, replace(BANK, allow_negative=True))
        assert result.transactions["event_time"].to_pylist() == [expected] * 3
        assert result.transactions["amount"].to_pylist() == [12.5, 0.01, -3.0]
        assert result.transactions["age"].to_pylist() == [41.0] * 3
        assert result.transactions["channel"].to_pylist() == ["shop"] * 3
        assert {row["reason"] for row in result.dead.values()} == {"missing_amount"}


def test_unions_of_several_types(tmp_path: Path) -> None:
    rows = [
        {**GOOD, "account": 7, "amount": 3, "channel": True},
        {**GOOD, "account": "a7", "amount": 0.5, "channel": "web"},
        {**GOOD, "account": 2**60, "amount": 2**60 + 1, "channel": None},
    ]
    path = write(
        tmp_path / "a.avro",
        rows,
        account=["long", "string"],
        amount=["double", "long"],
        channel=["null", "boolean", "string"],
    )
    columns = read(path).transactions
    assert columns["account_id"].to_pylist() == ["7", "a7", str(2**60)]
    assert columns["amount"].to_pylist() == [3.0, 0.5, float(2**60)]
    assert columns["channel"].to_pylist() == ["true", "web", None]


def test_records_of_a_union_and_maps_by_paths(tmp_path: Path) -> None:
    card = {"type": "record", "name": "Card", "fields": [{"name": "number", "type": "string"}]}
    bank = {"type": "record", "name": "Bank", "fields": [{"name": "number", "type": "long"}]}
    rows = [
        {**GOOD, "account": ("shop.Card", {"number": "c1"}), "mcc": {"code": "5411"}},
        {**GOOD, "account": ("shop.Bank", {"number": 17}), "mcc": {}},
        {**GOOD, "account": None, "mcc": {"code": "1"}},
    ]
    path = write(
        tmp_path / "a.avro",
        rows,
        account=["null", card, bank],
        mcc={"type": "map", "values": "string"},
    )
    schema = replace(
        BANK,
        roles=BANK.roles | {"account_id": "account.number"},
        features=(FeatureColumn("mcc.code", "categorical", "allow"),),
    )
    result = read(path, schema)
    assert result.transactions["account_id"].to_pylist() == ["c1", "17"]
    assert result.transactions["mcc.code"].to_pylist() == ["5411", None]
    assert result.dead[2]["reason"] == "missing_id"


def test_text_that_is_not_utf8_costs_its_own_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avro", ROWS)
    path.write_bytes(path.read_bytes().replace(b"\x04t7", b"\x04t\xff"))
    result = read(path)
    assert (len(result.rows), list(result.dead)) == (len(ROWS) - 1, [7])


def test_a_truncated_file_gives_the_rows_of_whole_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avro", ROWS)
    data = path.read_bytes()
    for size in range(len(data) * 2 // 3, len(data), 201):
        path.write_bytes(data[:size])
        for bytes_each in (None, 1):
            with pytest.raises(FraudError, match=r"a\.avro: is damaged after row [1-9]"):
                read(path, bytes_each=bytes_each)


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ('"string"', Code.INPUT_FORMAT),
        ("{", Code.INPUT_DAMAGED),
        ('{"type": "record", "name": "a", "fields": []}', Code.INPUT_DAMAGED),
        (
            '{"type": "record", "name": "a", "fields": [{"name": "b", "type": ["null", "a"]}]}',
            Code.INPUT_FORMAT,
        ),
        (
            '{"type": "record", "name": "a", "fields": [{"name": "b", "type": "c"}]}',
            Code.INPUT_DAMAGED,
        ),
        ('{"type": "record", "name": "a", "fields": [7]}', Code.INPUT_DAMAGED),
        ('{"type": "array", "items": ' * 500 + '"int"' + "}" * 500, Code.INPUT_FORMAT),
        (
            '{"type": "record", "name": "a", "fields": [{"name": "b", "type": '
            + '{"type": "array", "items": ' * 500
            + '"int"'
            + "}" * 500
            + "}]}",
            Code.INPUT_DAMAGED,
        ),
    ],
)
def test_a_schema_that_cannot_be_read_is_refused(tmp_path: Path, schema: str, code: Code) -> None:
    path = container(tmp_path / "a.avro", schema, "null", [])
    with fails(code, "a.avro: "):
        find_inputs([Place.of(path)], BANK, labels="required")
