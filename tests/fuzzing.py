"""Damages files byte by byte and reads them as the graph does, in child processes.

A child reads many inputs; one that crashes it, hangs, or takes too much memory costs only itself.
An input is known by its kind and number: `python -m tests.fuzzing KIND NUMBER FILE` writes it.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import select
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

from beam_fraud.errors import FraudError
from beam_fraud.sources import csv, lines
from tests.reading import GOOD, avro_schema, csv_of, read

#: How the names of inputs end.
KINDS = ("parquet", "orc", "avro", "csv", "jsonl", "csv.gz", "jsonl.gz", "csv.zst", "jsonl.zst")
#: Seconds that an input may take, and bytes that it may take beside what a child has at its start.
SECONDS = 20.0
MEMORY = 1 << 30
#: Characters of the line that refuses a file, at most.
MESSAGE = 2_000
#: What a child says of an input.
READ, REFUSED = "read", "refused"

_ROWS = 24
_TOKENS = (
    *(b'"', b'""', b"\n", b"\r", b"\r\n", b",", b";", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3"),
    *(b"[" * 3_000, b'{"a":' * 3_000, b"9" * 5_000, b"1e999", b"-", b"\\ud800", b"\\", b"\x1b[31m"),
    *(b"NaN", b"Infinity", b"null", b"true", b"{}", b"[]", b'{"id":', b"}", b"x" * 70_000),
)
_INTEGERS = (0, 1, -1, 127, 128, 255, 2**15, 2**16, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**62)


@dataclass
class Findings:
    """Results of some inputs."""

    #: Inputs by what a child said of them.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: Kind, number and what went wrong.
    failures: list[tuple[str, int, str]] = field(default_factory=list)


def run(numbers: Iterator[tuple[str, int]] | list[tuple[str, int]], directory: Path) -> Findings:
    """Read these inputs in child processes, one child at a time."""
    findings, child = Findings(), None
    for kind, number in numbers:
        child = child or _Child(directory)
        message = child.read(kind, number)
        if message in (READ, REFUSED):
            findings.outcomes[f"{kind} {message}"] += 1
            continue
        findings.failures.append((kind, number, message))
        if child.ended:
            child = None
    if child is not None:
        child.close()
    return findings


class _Child:
    def __init__(self, directory: Path) -> None:
        self._errors = (directory / "stderr").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.fuzzing", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Arrow's own allocators reserve address space beyond what they use.
            env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"},
        )
        #: Whether no other input can be read.
        self.ended = False

    def read(self, kind: str, number: int) -> str:
        """Return the child's result for an input, or the way it ended."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{kind} {number}\n".encode())
        self._process.stdin.flush()
        # The first input waits for the imports as well.
        if not select.select([self._process.stdout], [], [], SECONDS + 20)[0]:
            self.close()
            return f"took over {SECONDS} s"
        line = self._process.stdout.readline().decode().rstrip("\n")
        if line:
            return line
        code = self._process.wait()
        self._errors.seek(0)
        message = self._errors.read().decode(errors="replace")[-2_000:]
        self.close()
        return f"ended the process with {code}: {message}"

    def close(self) -> None:
        """End the child."""
        self.ended = True
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def damaged(kind: str, number: int) -> bytes:
    """Return the bytes of an input."""
    chance = random.Random(f"{kind} {number}")
    form, _, compression = kind.partition(".")
    if form == "parquet":
        return _parquet_mutated(chance.choice(_parquet_seeds()), chance)
    if form == "orc":
        gently = chance.random() < 0.8
        return _mutated(chance.choice(_orc_seeds()), chance, gently=gently)
    if form == "avro":
        gently = chance.random() < 0.8
        return _mutated(chance.choice(_avro_seeds()), chance, gently=gently)
    text = chance.choice(_text_seeds(form))
    if not compression:
        return _mutated(text, chance)
    if chance.random() < 0.4:
        text = _mutated(text, chance)
        return _compressed(text, compression)
    return _mutated(_compressed(text, compression), chance)


def _compressed(text: bytes, ending: str) -> bytes:
    return bytes(pa.compress(text, codec={"gz": "gzip", "zst": "zstd"}[ending], asbytes=True))


def _parquet_mutated(data: bytes, chance: random.Random) -> bytes:
    """Change pages in place, or the footer with its length kept true; sometimes anything."""
    if chance.random() < 0.1:
        return _mutated(data, chance)
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    if chance.random() < 0.5:
        footer = _mutated(data[begin:-8], chance, gently=chance.random() < 0.8)
        return data[:begin] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    places = _parquet_pages(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        start, end = chance.choice(places) if chance.random() < 0.8 else (4, begin)
        page = _mutated(data[start:end], chance, gently=True)
        data = data[:start] + page.ljust(end - start, b"\0")[: end - start] + data[end:]
    return data


def _mutated(data: bytes, chance: random.Random, *, gently: bool = False) -> bytes:
    """Change some bytes in one to eight places, one or two if `gently`."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2) if gently else (1, 1, 2, 3, 8))):
        size = len(changed)
        if not size:
            break
        at = chance.randrange(size)
        length = chance.choice((1, 1, 2, 4, 8) if gently else (1, 2, 8, 64, 1_000))
        match chance.randrange(5 if gently else 9):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.randrange(256)
            case 2:
                changed[at : at + length] = chance.randbytes(min(length, size - at))
            case 3:
                # As Thrift writes a number in footers and page headers.
                spelled = _varint(chance.choice(_INTEGERS))
                changed[at : at + chance.choice((1, len(spelled)))] = spelled
            case 4:
                width = chance.choice((4, 8))
                number = chance.choice(_INTEGERS) % (1 << (8 * width))
                changed[at : at + width] = number.to_bytes(width, "little")
            case 5:
                del changed[at : at + length]
            case 6:
                changed[at:at] = changed[at : at + length] * chance.choice((1, 2, 50))
            case 7:
                del changed[at:]
            case _:
                token = chance.choice(_TOKENS)
                changed[at : at + chance.choice((0, len(token)))] = token
    return bytes(changed)


def _varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    spelled = bytearray()
    while number > 127:
        spelled.append(number & 127 | 128)
        number >>= 7
    return bytes([*spelled, number & 127])


def _rows(count: int = _ROWS) -> list[dict[str, Any]]:
    return [
        {
            **GOOD,
            "id": f"t{i % (count - 5)}",
            "account": f"a{i % 7}",
            "amount": f"{i}.5",
            "risk": "" if i % 9 == 0 else f"0.{i}",
            "channel": "web" if i % 3 else "",
            "age": str(20 + i % 50),
        }
        for i in range(count)
    ]


@cache
def _text_seeds(form: str) -> tuple[bytes, ...]:
    rows = _rows()
    if form == "csv":
        plain = csv_of(*rows)
        quoted = csv_of(*({**row, "shop": f'"m, ""{row["id"]}""\nx"'} for row in rows))
        return plain, quoted, plain.replace(b",", b";"), b"\xef\xbb\xbf" + plain
    numbers = ({**row, "amount": float(row["amount"]), "age": int(row["age"])} for row in rows)
    return (
        "".join(f"{json.dumps(row)}\n" for row in rows).encode(),
        "".join(f"{json.dumps(row)}\r\n" for row in numbers).encode(),
        "".join(json.dumps({**r, "more": {"a": [1, {"b": "é"}]}}) + "\n" for r in rows).encode(),
    )


@cache
def _parquet_seeds() -> tuple[bytes, ...]:
    text = pa.Table.from_pylist(_rows())
    typed = text.set_column(4, "amount", text["amount"].cast(pa.float64()))
    typed = typed.set_column(7, "age", text["age"].cast(pa.int32()))
    typed = typed.set_column(6, "fraud", text["fraud"].cast(pa.int64()))
    times = pa.array(range(10**9, 10**9 + _ROWS)).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    typed = typed.set_column(1, "when", times)
    decimals = pa.array([Decimal(i) / 10 for i in range(_ROWS)], pa.decimal128(9, 1))
    coded = text.set_column(4, "amount", decimals)
    for name in ("account", "shop", "mcc", "channel"):
        place = coded.schema.get_field_index(name)
        coded = coded.set_column(place, name, coded[name].dictionary_encode())
    holed = pa.Table.from_pylist(
        [{k: v for k, v in row.items() if v} for row in _rows()], schema=text.schema
    )
    views = text.cast(pa.schema([pa.field(n, pa.string_view()) for n in text.schema.names]))
    large = text.cast(pa.schema([pa.field(n, pa.large_string()) for n in text.schema.names]))
    nested = typed.append_column("list", pa.array([[1, 2], [], None] * (_ROWS // 3)))
    nested = nested.append_column("id.x", text["id"])
    delta = dict.fromkeys(("id", "account"), "DELTA_BYTE_ARRAY") | {
        "shop": "DELTA_LENGTH_BYTE_ARRAY",
        "age": "DELTA_BINARY_PACKED",
        "amount": "BYTE_STREAM_SPLIT",
    }
    return (
        _parquet(text, compression="none"),
        _parquet(text, compression="snappy", row_group_size=10),
        _parquet(typed, compression="none", use_dictionary=False),
        _parquet(typed, compression="zstd", data_page_version="2.0", row_group_size=10),
        _parquet(typed, compression="gzip", data_page_size=64, write_batch_size=8),
        _parquet(typed, compression="lz4", use_dictionary=False, column_encoding=delta),
        _parquet(typed, compression="none", write_page_checksum=True, write_page_index=True),
        _parquet(coded, compression="none"),
        _parquet(coded, compression="snappy", data_page_version="2.0", row_group_size=10),
        _parquet(holed, compression="brotli"),
        _parquet(views, compression="none"),
        _parquet(large, compression="none", dictionary_pagesize_limit=64, write_batch_size=8),
        _parquet(nested, compression="snappy"),
    )


@cache
def _orc_seeds() -> tuple[bytes, ...]:
    text = pa.Table.from_pylist(_rows())
    typed = text.set_column(4, "amount", text["amount"].cast(pa.float64()))
    typed = typed.set_column(7, "age", text["age"].cast(pa.int32()))
    times = pa.array(range(10**9, 10**9 + _ROWS)).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    typed = typed.set_column(1, "when", times)
    decimals = pa.array([Decimal(i) / 10 for i in range(_ROWS)], pa.decimal128(9, 1))
    typed = typed.set_column(9, "risk", decimals)
    nested = pa.table({"inner": typed.to_struct_array(), "more": [[1, 2], [], None] * (_ROWS // 3)})
    nested = typed.append_column("inner", nested["inner"]).append_column("more", nested["more"])
    return (
        _orc(text, compression="uncompressed"),
        _orc(text, compression="snappy", dictionary_key_size_threshold=1.0),
        _orc(typed, compression="uncompressed"),
        _orc(typed, compression="zlib"),
        _orc(typed, compression="zstd", compression_block_size=65536),
        _orc(typed, compression="lz4", file_version="0.11"),
        _orc(nested, compression="uncompressed"),
    )


@cache
def _avro_seeds() -> tuple[bytes, ...]:
    text = pa.Table.from_pylist(_rows())
    typed = text.set_column(4, "amount", text["amount"].cast(pa.decimal128(9, 2)))
    typed = typed.set_column(7, "age", text["age"].cast(pa.int32()))
    times = pa.array(range(10**9, 10**9 + _ROWS)).cast(pa.timestamp("s", "UTC"))
    typed = typed.set_column(1, "when", times.cast(pa.timestamp("ms", "UTC")))
    nested = pa.table({"inner": typed.to_struct_array(), "more": [[1, 2], [], None] * (_ROWS // 3)})
    nested = typed.append_column("inner", nested["inner"]).append_column("more", nested["more"])
    tables = ((text, "null"), (typed, "null"), (nested, "null"), (nested, "deflate"))
    return (*(_avro(table, codec) for table, codec in tables), _avro(text, "bzip2"))


def _avro(table: pa.Table, codec: str) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, avro_schema(table.schema), table.to_pylist(), codec, sync_interval=500)
    return out.getvalue()


def _orc(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    with orc.ORCWriter(out, stripe_size=1, batch_size=10, **options) as writer:
        for start in range(0, len(table), 10):
            writer.write(table.slice(start, 10))
    return out.getvalue()


def _parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


@cache
def _parquet_pages(data: bytes) -> tuple[tuple[int, int], ...]:
    """Where the first pages of each column begin, and some bytes on."""
    places = []
    metadata = pq.read_metadata(io.BytesIO(data))
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            starts = {column.data_page_offset, column.dictionary_page_offset} - {None}
            places += [(start, start + 40) for start in starts]
    return tuple(places)


def _child(directory: Path) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Most of the time would go into memory for chunks that these files do not fill.
    lines.CHUNK_BYTES = csv._MAX_HEADER_BYTES = 1 << 16
    for line in sys.stdin:
        kind, _, number = line.strip().partition(" ")
        path = directory / f"input.{kind}"
        path.write_bytes(damaged(kind, int(number)))
        print(_outcome(path, int(number)), flush=True)


def _outcome(path: Path, number: int) -> str:
    try:
        read(path, block_rows=50_000 if number % 4 else 9, bytes_each=None if number % 8 else 1)
    except FraudError as error:
        message = str(error)
        good = "\n" not in message and "malloc" not in message and len(message) < MESSAGE
        return REFUSED if good else f"is refused as {message[:300]!r}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"raises {error!r:.300} in {where.filename}:{where.lineno}"
    return READ


if __name__ == "__main__":
    if len(sys.argv) == 4:
        Path(sys.argv[3]).write_bytes(damaged(sys.argv[1], int(sys.argv[2])))
    else:
        _child(Path(sys.argv[1]))
