"""Write simulated transactions to files atomically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.storage import atomic

#: Amounts as text have two decimals, always.
_AMOUNT = pa.decimal128(18, 2)


def csv_header(schema: pa.Schema) -> str:
    """Return the header line of a CSV file with its line end."""
    return ",".join(schema.names) + "\n"


def csv_lines(transactions: pa.RecordBatch) -> pa.Array:
    """Return a line per row with its end, times as `2024-01-01 00:00:31`.

    Args:
      transactions: n rows of `simulation.TRANSACTIONS`.

    Returns:
      string[n].
    """
    texts = [_text(column).fill_null("") for column in transactions.columns]
    return _interleave(["", *[","] * (len(texts) - 1), "\n"], texts)


def json_lines(transactions: pa.RecordBatch) -> pa.Array:
    """Return a JSON object per row (`json_objects`) with a line end."""
    return json_objects(transactions, end="\n")


def json_objects(transactions: pa.RecordBatch, *, end: str = "") -> pa.Array:
    """Return a JSON object per row, times as `2024-01-01T00:00:31Z`.

    Args:
      transactions: n rows of columns of `simulation.WITH_LABELLED_AT`.
      end: text after each object.

    Returns:
      string[n].
    """
    texts, separators, before = [], [], "{"
    for field, column in zip(transactions.schema, transactions.columns, strict=True):
        text, quote, after = _text(column), "", ""
        if pa.types.is_timestamp(field.type):
            text, quote, after = pc.utf8_replace_slice(text, 10, 11, "T"), '"', 'Z"'
            if field.nullable:
                text = pc.binary_join_element_wise(quote, text, after, "").fill_null("null")
                quote = after = ""
        elif pa.types.is_string(field.type):
            quote = after = '"'
        texts.append(text)
        separators.append(f'{before}"{field.name}":{quote}')
        before = f"{after},"
    return _interleave([*separators, f"{after}}}{end}"], texts)


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        column = column.cast(_AMOUNT)
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s"))
    return column.cast(pa.string())


def _interleave(separators: list[str], texts: list[pa.Array]) -> pa.Array:
    """Join separator 0, text 0, separator 1, ... and the last separator, row by row."""
    parts: list[pa.Array | str] = [separators[0]]
    for text, separator in zip(texts, separators[1:], strict=True):
        parts += [text, separator]
    return pc.binary_join_element_wise(*parts, "")


#: Rows of a Parquet row group, and of a block of text.
BLOCK_ROWS = 131_072
#: Length of a partition.
Partition: TypeAlias = Literal["day", "month"]
#: Endings of formats.
FORMATS = (".parquet", ".csv", ".jsonl", ".ndjson")
#: Endings of compressions, except for Parquet.
CODECS = (".gz", ".zst")


class Writable(Protocol):
    """A sink of text: a file, or a compressor."""

    def write(self, data: memoryview | bytes, /) -> object:
        """Take bytes."""


def file_format(path: Path) -> tuple[str, str | None]:
    """Return the format of `FORMATS` and the codec of `CODECS`, or None, of a file name.

    Raises:
      UsageError: the ending is unknown.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    codec = suffixes.pop() if suffixes and suffixes[-1] in CODECS else None
    if not suffixes or suffixes[-1] not in FORMATS or (codec and suffixes[-1] == ".parquet"):
        raise UsageError(
            f"{path}: no known format; the name must end in {' or '.join(FORMATS)} "
            f"(all but Parquet also with {' or '.join(CODECS)} behind it)",
            Code.OUTPUT_NAME,
        )
    return suffixes[-1], codec


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears at `path` once the block succeeds.

    Create a missing folder. Until the end, the bytes are in a hidden file beside it.

    Raises:
      UsageError: the path is a URL or a folder.
      FraudError: the file cannot be written.
    """
    if ":/" in str(path):
        raise UsageError(f"{path}: not a local file; write one and copy it there", Code.OUTPUT_NAME)
    try:
        if path.is_dir():
            raise UsageError(
                f"{path}: is a folder; give the name of a file in it", Code.OUTPUT_NAME
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.whole_file(path) as sink:
            yield sink
    except OSError as error:
        raise FraudError(
            f"cannot write {path}: {error.strerror or error}", Code.OUTPUT_UNWRITABLE
        ) from None


def write_transactions(transactions: pa.Table, path: Path, sink: BinaryIO) -> None:
    """Write a table of `simulation.TRANSACTIONS` in the format of `path`.

    Args:
      transactions: the rows; the same rows and format give the same bytes.
      path: the file's name; nothing is opened.
      sink: the output.

    Raises:
      UsageError: the ending is unknown.
    """
    kind, codec = file_format(path)
    if kind == ".parquet":
        _write_parquet(transactions, sink)
    elif codec == ".zst":
        with pa.CompressedOutputStream(pa.PythonFile(sink, mode="w"), "zstd") as compressed:
            _write_text(transactions, kind, compressed)
    elif codec == ".gz":
        # Arrow's gzip always uses level 9: six times as slow for a tenth less.
        with GzipFile("", "wb", compresslevel=5, fileobj=sink, mtime=0) as compressed:
            _write_text(transactions, kind, compressed)
    else:
        _write_text(transactions, kind, sink)


def write_partitions(
    transactions: pa.Table, directory: Path, partition: Partition, name: str
) -> Iterator[Path]:
    """Write a table of `simulation.TRANSACTIONS` to a Parquet file for each day or month.

    Files of the same name in other partitions of the directory are removed at the end: they are
    of an earlier simulation. Files of other names stay.

    Args:
      transactions: rows in the order of time.
      directory: the directory of the partitions `date=2024-01-01`, or `month=2024-01`.
      partition: length of a partition.
      name: name of the files, without ending.

    Yields:
      Each file, written.

    Raises:
      UsageError: the directory is a URL or a file.
      FraudError: a file cannot be written.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory}: is a file; name a directory", Code.OUTPUT_NAME)
    key, unit = {"day": ("date", "D"), "month": ("month", "M")}[partition]
    times = transactions["TX_DATETIME"].to_numpy().astype(f"datetime64[{unit}]")
    periods, starts = np.unique(times, return_index=True)
    ends = [*starts[1:].tolist(), len(times)]
    written = set()
    for period, start, end in zip(periods, starts.tolist(), ends, strict=True):
        path = directory / f"{key}={period}" / f"{name}.parquet"
        with whole_file(path) as sink:
            _write_parquet(transactions.slice(start, end - start), sink)
        written.add(path)
        yield path
    for path in set(directory.glob(f"{key}=*/{name}.parquet")) - written:
        path.unlink()


def _write_parquet(transactions: pa.Table, sink: BinaryIO) -> None:
    # Increasing ids and times have small differences; amounts hardly repeat.
    pq.write_table(
        transactions,
        sink,
        compression="zstd",
        row_group_size=BLOCK_ROWS,
        use_dictionary=["CUSTOMER_ID", "TERMINAL_ID", "TX_FRAUD", "TX_FRAUD_SCENARIO"],
        column_encoding={
            "TRANSACTION_ID": "DELTA_BINARY_PACKED",
            "TX_DATETIME": "DELTA_BINARY_PACKED",
        },
    )


def _write_text(transactions: pa.Table, kind: str, sink: Writable) -> None:
    lines = csv_lines if kind == ".csv" else json_lines
    if kind == ".csv":
        sink.write(csv_header(transactions.schema).encode())
    for block in transactions.to_batches(max_chunksize=BLOCK_ROWS):
        sink.write(_joined(lines(block)))


def _joined(lines: pa.Array) -> memoryview:
    """Return the contiguous bytes of the lines without a copy."""
    _, offsets, values = lines.buffers()
    ends = memoryview(offsets).cast("i")
    return memoryview(values)[ends[lines.offset] : ends[lines.offset + len(lines)]]
