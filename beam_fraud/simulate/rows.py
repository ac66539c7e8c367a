"""Transactions as lines of text, CSV or JSON, made by Arrow's string kernels."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

#: Amounts as text have two decimals, always.
_AMOUNT = pa.decimal128(18, 2)


def csv_header(schema: pa.Schema) -> str:
    """The first line of a CSV file, its end included."""
    return ",".join(schema.names) + "\n"


def csv_lines(transactions: pa.RecordBatch) -> pa.Array:
    """One line a row, its end included, times as `2024-01-01 00:00:31`.

    Args:
      transactions: n rows of `simulation.TRANSACTIONS`.

    Returns:
      string[n].
    """
    texts = [_text(column) for column in transactions.columns]
    return _interleave(["", *[","] * (len(texts) - 1), "\n"], texts)


def json_lines(transactions: pa.RecordBatch) -> pa.Array:
    """One JSON object a row (`json_objects`), the line's end included."""
    return json_objects(transactions, end="\n")


def json_objects(transactions: pa.RecordBatch, *, end: str = "") -> pa.Array:
    """One JSON object a row, times as `2024-01-01T00:00:31Z`.

    Args:
      transactions: n rows of columns of `simulation.TRANSACTIONS`.
      end: what follows each object.

    Returns:
      string[n].
    """
    texts, separators, before = [], [], "{"
    for field, column in zip(transactions.schema, transactions.columns, strict=True):
        text, quote, after = _text(column), "", ""
        if pa.types.is_timestamp(field.type):
            text, quote, after = pc.utf8_replace_slice(text, 10, 11, "T"), '"', 'Z"'
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
    """Separator 0, text 0, separator 1, ... and the last separator, row by row."""
    parts: list[pa.Array | str] = [separators[0]]
    for text, separator in zip(texts, separators[1:], strict=True):
        parts += [text, separator]
    return pc.binary_join_element_wise(*parts, "")
