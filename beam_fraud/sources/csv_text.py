"""Parse CSV text to columns, and mark invalid records."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from beam_fraud.sources.csv_records import are_certain_records, split_record
from beam_fraud.sources.segment import CsvLayout

#: Spellings of a null number beside the empty field.
NULL_SPELLINGS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


@dataclass(frozen=True)
class CsvFields:
    """The fields of some records."""

    #: The requested columns of the valid records, in order.
    columns: pa.Table
    #: bool[n]: which records are valid.
    whole: npt.NDArray[np.bool_]


def parse_csv(
    records: pa.BinaryArray, layout: CsvLayout, types: Mapping[str, pa.DataType]
) -> CsvFields:
    """Parse consecutive records in memory.

    Args:
      records: binary[n], UTF-8, each with its line end; no nulls.
      layout: what the header says.
      types: the requested columns and their types.

    Returns:
      The fields. A record with another number of columns or an unclosed quote is invalid, and
      affects no other record.

    Raises:
      pyarrow.ArrowInvalid: a field cannot be converted to its column's type.
    """
    text, bounds = _text(records)
    certain = are_certain_records(text, bounds, layout.delimiter)
    if certain.all():
        fields = _parse(text, len(records), layout, types)
        if fields is not None:
            return fields
        certain[:] = False
    return _parse_apart(records, certain, layout, types)


def _parse_apart(
    records: pa.BinaryArray,
    certain: npt.NDArray[np.bool_],
    layout: CsvLayout,
    types: Mapping[str, pa.DataType],
) -> CsvFields:
    """Parse records of which some may reach into the next: quote those again first."""
    anew = io.StringIO()
    # Python 3.11 quotes a carriage return only if it is part of the line end.
    write = csv.writer(anew, delimiter=layout.delimiter, lineterminator="\r\n").writerow
    doubtful = np.flatnonzero(~certain)
    split = np.zeros(len(doubtful), dtype=bool)
    for place, record in enumerate(records.take(pa.array(doubtful)).to_pylist()):
        fields = split_record(record.decode(), layout)
        if fields is not None:
            write(fields)
            split[place] = True
    rows = [doubtful[split]]
    parsed = _parse(anew.getvalue().encode(), int(split.sum()), layout, types)
    assert parsed is not None
    tables = [parsed.columns]
    if certain.any():
        together = parse_csv(records.filter(pa.array(certain)), layout, types)
        tables.append(together.columns)
        rows.append(np.flatnonzero(certain)[together.whole])
    whole = np.zeros(len(records), dtype=bool)
    positions = np.concatenate(rows)
    whole[positions] = True
    return CsvFields(pa.concat_tables(tables).take(pa.array(np.argsort(positions))), whole)


def _text(records: pa.BinaryArray) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Return the memory of the records, and int64[n + 1] bounds in it."""
    if not len(records):
        return b"", np.zeros(1, dtype=np.int64)
    _, offsets, data = records.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[records.offset :][: len(records) + 1]
    text: bytes = data[int(bounds[0]) : int(bounds[-1])].to_pybytes()
    return text, bounds.astype(np.int64) - int(bounds[0])


def _parse(
    text: bytes, count: int, layout: CsvLayout, types: Mapping[str, pa.DataType]
) -> CsvFields | None:
    """Parse `count` records at once; return None if they do not parse one by one.

    A record of zeros is added at each end: the last parses as its own row only if no earlier record
    leaves a quote open, and a byte order mark would be dropped before the first.
    """
    fields = [f"f{i}" for i in range(len(layout.columns))]
    field_of = dict(zip(layout.columns, fields, strict=True))
    wrong: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row.number)
        return "skip"

    zeros = layout.delimiter.join("0" * len(fields)).encode() + b"\n"
    text = zeros + text + zeros
    selected = [field_of[name] for name in types]
    table = pyarrow.csv.read_csv(
        pa.BufferReader(text),
        pyarrow.csv.ReadOptions(
            column_names=fields, use_threads=False, block_size=max(len(text) + 1, 1024)
        ),
        pyarrow.csv.ParseOptions(
            delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=note
        ),
        pyarrow.csv.ConvertOptions(
            include_columns=selected or fields[:1],
            column_types={field_of[name]: type for name, type in types.items()},
            null_values=list(NULL_SPELLINGS),
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
        ),
    )
    whole = np.ones(count, dtype=bool)
    if table.num_rows + len(wrong) != count + 2 or (wrong and max(wrong) > count + 1):
        return None
    whole[np.array(wrong, dtype=np.int64) - 2] = False
    rows = table.slice(1, table.num_rows - 2).select(selected).rename_columns(list(types))
    return CsvFields(rows, whole)
