"""Read a file as the graph does, for tests of sources and records."""

import gzip
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.schema.schema import FeatureColumn, Labels, Schema
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.sources.raw import POSITION
from beam_fraud.sources.source import find_inputs, read_segment, split_file
from beam_fraud.storage.urls import Place

#: Every role and every kind of feature.
BANK = Schema(
    name="bank",
    roles={
        "transaction_id": "id",
        "event_time": "when",
        "account_id": "account",
        "merchant_id": "shop",
        "amount": "amount",
        "currency": "currency",
        "label": "fraud",
    },
    features=(
        FeatureColumn("age"),
        FeatureColumn("mcc", "categorical"),
        FeatureColumn("risk", "numeric", "allow"),
        FeatureColumn("channel", "categorical", "allow"),
    ),
)
#: Columns of `BANK`, in the order in which the tests' files have them.
COLUMNS = BANK.columns(labels="required")
#: A row of `BANK` that is a transaction.
GOOD: dict[str, Any] = {
    "id": "t1",
    "when": "2024-02-29T12:30:00Z",
    "account": "a1",
    "shop": "m1",
    "amount": "12.5",
    "currency": "EUR",
    "fraud": "0",
    "age": "41",
    "mcc": "5411",
    "risk": "0.25",
    "channel": "web",
}


@dataclass(frozen=True)
class Read:
    """The results of a file's rows."""

    #: `Schema.transactions` and `@position`, in the file's order.
    transactions: pa.Table
    #: `stages.DEAD_LETTER`, in the file's order.
    dead_letters: pa.Table
    #: Number of raw rows.
    rows_in: int

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        """Transactions by position."""
        return {row.pop(POSITION): row for row in self.transactions.to_pylist()}

    @property
    def dead(self) -> dict[int, dict[str, Any]]:
        """Dead letters by position."""
        return {row["position"]: row for row in self.dead_letters.to_pylist()}


def read(
    path: Path | str,
    schema: Schema = BANK,
    *,
    block_rows: int = 50_000,
    bytes_each: int | None = None,
    labels: Labels = "required",
) -> Read:
    """Read a file in segments of `bytes_each` and blocks of `block_rows`, without deduplication."""
    good = schema.transactions(labels=labels).append(pa.field(POSITION, pa.int64()))
    transactions, letters, rows = [good.empty_table()], [DEAD_LETTER.empty_table()], 0
    for file in find_inputs([Place.of(path)], schema, labels=labels):
        for segment in split_file(file, bytes_each):
            for raw in read_segment(segment, schema, block_rows, labels=labels):
                assert 0 < len(raw) <= block_rows
                valid, dead = validate(parse(raw, schema, labels=labels), schema, labels=labels)
                valid.validate(full=True)
                dead.validate(full=True)
                assert len(valid) + len(dead) == len(raw)
                rows += len(raw)
                transactions.append(pa.Table.from_batches([valid]).cast(good))
                letters.append(pa.Table.from_batches([dead]))
    return Read(pa.concat_tables(transactions), pa.concat_tables(letters), rows)


def csv_of(*rows: dict[str, Any], columns: tuple[str, ...] = COLUMNS) -> bytes:
    """Rows as CSV text with a header; no value is quoted."""
    lines = [",".join(columns), *(",".join(str(row[c]) for c in columns) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def write_text(path: Path, text: bytes) -> Path:
    """Write a text file, compressed as its name says."""
    if path.suffix == ".gz":
        text = gzip.compress(text)
    if path.suffix == ".zst":
        text = pa.compress(text, codec="zstd", asbytes=True)
    path.write_bytes(text)
    return path


def write_columns(path: Path, table: pa.Table, rows: int = 70) -> Path:
    """Write a table as the format of the name, in parts of about `rows`."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows)
    elif path.suffix == ".orc":
        with orc.ORCWriter(path, stripe_size=1, batch_size=rows) as writer:
            for start in range(0, max(len(table), 1), rows):
                # Of a sliced struct with nulls, Arrow writes other rows.
                there = range(start, min(start + rows, len(table)))
                writer.write(table.take(pa.array(there, pa.int64())))
    else:
        with path.open("wb") as file:
            writer = fastavro.write.Writer(file, avro_schema(table.schema))
            for place, row in enumerate(table.to_pylist()):
                if place and not place % rows:
                    writer.flush()
                writer.write(row)
            writer.flush()
    return path


def avro_schema(arrow: pa.Schema) -> Any:
    """Return the Avro schema of nullable columns."""
    names = (f"R{number}" for number in itertools.count())

    def of(type: pa.DataType) -> Any:
        if pa.types.is_struct(type):
            fields = [{"name": field.name, "type": of(field.type)} for field in type]
            return ["null", {"type": "record", "name": next(names), "fields": fields}]
        if pa.types.is_list(type):
            return ["null", {"type": "array", "items": of(type.value_type)}]
        return ["null", AVRO_TYPES[str(type)]]

    fields = [{"name": field.name, "type": of(field.type)} for field in arrow]
    return fastavro.parse_schema({"type": "record", "name": "Row", "fields": fields})


#: Arrow types by name to Avro's.
AVRO_TYPES = {
    "string": "string",
    "double": "double",
    "float": "float",
    "int64": "long",
    "int32": "int",
    "bool": "boolean",
    "binary": "bytes",
    "date32[day]": {"type": "int", "logicalType": "date"},
    "timestamp[ms, tz=UTC]": {"type": "long", "logicalType": "timestamp-millis"},
    "timestamp[us, tz=UTC]": {"type": "long", "logicalType": "timestamp-micros"},
    "timestamp[us]": {"type": "long", "logicalType": "local-timestamp-micros"},
    "decimal128(9, 2)": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
}
