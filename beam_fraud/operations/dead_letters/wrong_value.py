"""Extract the wrong value of a dead letter."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from beam_fraud.records.faults import REASONS
from beam_fraud.sources.csv import DELIMITERS, split_header
from beam_fraud.sources.csv_records import split_record
from beam_fraud.sources.segment import CsvLayout

#: Maximum of characters shown of a value.
_LONGEST = 60


def wrong_value(reason: str, detail: str, record: bytes | None, header: str | None) -> str | None:
    r"""Return the wrong value, quoted and on one line; None if unknown.

    Args:
      reason: reason of the dead letter.
      detail: detail without the line.
      record: the record itself, or None.
      header: header of its CSV file, or None.

    Example:
      >>> wrong_value("wrong_type", "a: not of the type it should be", b'{"a": "x\\n"}', None)
      "'x\\n'"
    """
    column = detail.partition(f": {REASONS.get(reason, '')}")[0]
    if column == detail:
        # Form of the detail for a JSON member of another type.
        column = detail.partition(": ")[0]
    if record is None or reason.startswith("missing_"):
        return None
    value = _fields(record, column, header).get(column)
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    quoted = repr(text[:_LONGEST]) if isinstance(value, str) else text[:_LONGEST]
    return quoted + ("…" if len(text) > _LONGEST else "")


def _fields(record: bytes, column: str, header: str | None) -> Mapping[str, object]:
    """Return the fields of a record by name; none if it cannot be read."""
    if header is None:
        try:
            decoded = msgspec.json.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return decoded if isinstance(decoded, dict) else {}
    for delimiter in DELIMITERS:
        names = split_header(header, delimiter)
        if column in names:
            layout = CsvLayout(names, delimiter, 0)
            fields = split_record(record.decode("utf-8", "backslashreplace"), layout)
            return {} if fields is None else dict(zip(names, fields, strict=True))
    return {}
