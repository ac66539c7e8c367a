"""What a record that is a dead letter holds where it is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from beam_fraud.records.faults import REASONS
from beam_fraud.sources.csv import DELIMITERS, split_header
from beam_fraud.sources.csv_records import split_record
from beam_fraud.sources.segment import CsvLayout

#: Characters of a value that are shown.
_LONGEST = 60


def wrong_value(reason: str, detail: str, record: bytes | None, header: str | None) -> str | None:
    r"""Return the value that is wrong, quoted and on one line; None where there is none to be told.

    Args:
      reason: of the dead letter.
      detail: without the line.
      record: the record itself, or None.
      header: of the CSV file that it came from, if it came from one.

    Example:
      >>> wrong_value("wrong_type", "a: not of the type it should be", b'{"a": "x\\n"}', None)
      "'x\\n'"
    """
    column = detail.partition(f": {REASONS.get(reason, '')}")[0]
    if column == detail:
        # As it is told of a JSON record whose member is of another type.
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
            found = msgspec.json.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
    for delimiter in DELIMITERS:
        names = split_header(header, delimiter)
        if column in names:
            layout = CsvLayout(names, delimiter, 0)
            fields = split_record(record.decode("utf-8", "backslashreplace"), layout)
            return {} if fields is None else dict(zip(names, fields, strict=True))
    return {}
