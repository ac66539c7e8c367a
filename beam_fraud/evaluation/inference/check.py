"""Count what a schema reads of each column of files, and what it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.doubts import Doubt
from beam_fraud.records.event_times import EventTimes
from beam_fraud.records.faults import REASONS
from beam_fraud.records.parse import parse
from beam_fraud.records.text import as_mask
from beam_fraud.records.validate import column_faults
from beam_fraud.schema.schema import LABEL_ROLES, FeatureColumn, Labels, Schema
from beam_fraud.sources.columns import is_text
from beam_fraud.sources.raw import DETAIL, PAYLOAD, REASON
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import read_segment, split_file

#: Different examples of a column that are kept, and characters of each.
_EXAMPLES, _SHOWN = 3, 60
_BLOCK_ROWS = 50_000
#: Reasons of a value that is not there.
_ABSENT = frozenset(reason for reason in REASONS if reason.startswith("missing_"))


@dataclass
class ColumnReading:
    """Counts of the values of a column: read, absent, refused."""

    column: str
    #: Its roles, and the kind of its feature.
    use: str
    #: Values that are read, and those that are absent where the schema requires one.
    read: int = 0
    absent: int = 0
    #: Present values that are not read, by reason.
    unread: Counter[str] = field(default_factory=Counter)
    #: Some of them.
    examples: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON-compatible values."""
        return {
            "column": self.column,
            "use": self.use,
            "read": self.read,
            "absent": self.absent,
            "unread": dict(self.unread),
            "examples": self.examples,
        }


@dataclass
class Reading:
    """The result of reading files by a schema."""

    rows: int = 0
    #: Records that could not be parsed, by reason, and some of them.
    malformed: Counter[str] = field(default_factory=Counter)
    malformed_examples: list[str] = field(default_factory=list)
    columns: dict[str, ColumnReading] = field(default_factory=dict)
    #: Rows whose columns are all read.
    valid: int = 0
    times: EventTimes = field(default_factory=EventTimes)
    doubts: Counter[Doubt] = field(default_factory=Counter)


def check_files(files: Sequence[InputFile], schema: Schema) -> Reading:
    """Read every column of files by a schema.

    Args:
      files: checked files; one without the column of the label is read without labels.
      schema: the schema.

    Raises:
      FraudError: a file cannot be read to its end.
    """
    reading = Reading(columns={c: ColumnReading(c, use) for c, use in _uses(schema).items()})
    first, last, timed = None, None, 0
    for file in files:
        label = schema.role("label")
        there = label is not None and (file.columns is None or label in file.columns)
        labels: Labels = "required" if there else "ignored"
        for segment in split_file(file, None):
            for raw in read_segment(segment, schema, _BLOCK_ROWS, labels=labels):
                times = _add(reading, parse(raw, schema, labels=labels), schema, labels)
                timed += len(times)
                if len(times):
                    low, high = int(times.min()), int(times.max())
                    first = low if first is None else min(first, low)
                    last = high if last is None else max(last, high)
    reading.times = EventTimes(timed, first, last, reading.doubts)
    return reading


def unread_roles(reading: Reading, schema: Schema, lacking: Collection[str]) -> list[str]:
    """Return the roles of which no value is read.

    A label that no file has is none of them: scoring needs none.

    Args:
      reading: of files with rows.
      schema: the schema.
      lacking: columns that no file has.
    """
    unread = []
    for role, column in schema.roles.items():
        counted = reading.columns[column]
        seen = counted.absent or counted.unread or role not in LABEL_ROLES
        if column in lacking or (reading.rows and seen and not counted.read):
            unread.append(role)
    return unread


def _uses(schema: Schema) -> dict[str, str]:
    """Return the use of each column that is read, in order."""
    uses = dict[str, list[str]]()
    for role, column in schema.roles.items():
        uses.setdefault(column, []).append(role)
    for feature in schema.features:
        uses.setdefault(feature.column, []).append(_kind(feature))
    for column in schema.key_columns:
        uses.setdefault(column, []).append("key")
    return {column: ", ".join(use) for column, use in uses.items()}


def _kind(feature: FeatureColumn) -> str:
    return f"{feature.kind} feature"


def _add(
    reading: Reading, parsed: pa.RecordBatch, schema: Schema, labels: Labels
) -> npt.NDArray[np.int64]:
    """Add a parsed batch; return its event times."""
    reading.rows += len(parsed)
    if REASON in parsed.schema.names:
        sound = parsed.column(REASON).is_null()
        wrong = parsed.filter(pa.array(~as_mask(sound)))
        reading.malformed.update(wrong.column(REASON).to_pylist())
        for record in wrong.select([DETAIL, PAYLOAD]).slice(0, _EXAMPLES).to_pylist():
            _keep(reading.malformed_examples, (record[PAYLOAD] or b"").decode(errors="replace"))
        parsed = parsed.filter(sound)
    faults = column_faults(parsed, schema, labels=labels)
    reading.doubts += faults.doubts
    faulty = np.zeros(len(parsed), dtype=bool)
    seen = {column: np.zeros(len(parsed), dtype=bool) for column in reading.columns}
    for reason, column, where in faults.found:
        if column not in seen:
            continue
        new = where & ~seen[column]
        seen[column] |= new
        values = reading.columns[column]
        parts = [part for part in schema.parts(column) if part in parsed.schema.names]
        there = _there([parsed.column(part) for part in parts], schema, len(parsed))
        if reason == "invalid_label":
            there &= ~_unknown(parsed.column(column), schema)
        missing = new & ~there if reason in _ABSENT or reason == "invalid_label" else new & False
        # Scoring needs no label.
        faulty |= where & ~missing if reason == "invalid_label" else where
        values.absent += int(np.count_nonzero(missing))
        unread = new & ~missing
        if unread.any():
            values.unread[reason] += int(np.count_nonzero(unread))
            some = parsed.select(parts).filter(pa.array(unread)).slice(0, _EXAMPLES)
            for row in some.to_pylist():
                _keep(values.examples, " ".join(str(value) for value in row.values()))
    for column, values in reading.columns.items():
        use = values.use.split(", ")
        if labels == "ignored" and set(use) <= {"label", "labelled_at"}:
            continue
        values.read += int(np.count_nonzero(~seen[column]))
    reading.valid += int(np.count_nonzero(~faulty))
    return faults.event_times


def _unknown(labels: pa.Array, schema: Schema) -> npt.NDArray[np.bool_]:
    """Return bool[n]: where a label is spelled as unknown."""
    if not schema.labels.unknown or not is_text(labels.type):
        return np.zeros(len(labels), dtype=bool)
    words = pc.utf8_lower(pc.utf8_trim_whitespace(labels.cast(pa.string())))
    spelled = pa.array([spelling.strip().lower() for spelling in schema.labels.unknown])
    return as_mask(pc.is_in(words, value_set=spelled))


def _there(columns: Sequence[pa.Array], schema: Schema, rows: int) -> npt.NDArray[np.bool_]:
    """Return bool[n]: where all parts of a value are present."""
    there = np.ones(rows, dtype=bool) if columns else np.zeros(rows, dtype=bool)
    spelled = pa.array(schema.absent)
    for column in columns:
        there &= as_mask(column.is_valid())
        if is_text(column.type):
            there &= ~as_mask(pc.is_in(column.cast(pa.string()), value_set=spelled))
    return there


def _keep(examples: list[str], value: str) -> None:
    shown = value.strip("\r\n")[:_SHOWN]
    if shown not in examples and len(examples) < _EXAMPLES:
        examples.append(shown)
