"""Convert records of any pipeline to record batches and back."""

# Beam reads the annotations of named tuples as types, so they are not postponed here, and it
# accepts only `Optional` for nullable fields.
# ruff: noqa: UP045
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, Optional, TypeAlias

import apache_beam as beam
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.timestamp import Timestamp

import beam_fraud.transforms.coders  # noqa: F401  registers how batches are encoded
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.counters import ROWS_IN
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.schema.stages import SCORED, completed
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, with_origin
from beam_fraud.sources.table import check_table, read_table
from beam_fraud.transforms.counters import count

#: Type: a dict, a `beam.Row` or other named tuple, a JSON object as text, or a
#: `pyarrow.RecordBatch`.
Record: TypeAlias = Any
#: Type: form of an output, rows or record batches.
Output: TypeAlias = Literal["rows", "batches"]

#: Rows per gathered batch, unless the bundle ends before.
_BATCH_ROWS = 10_000
#: Source name in dead letters.
SOURCE_NAME = "records"


class Reason(NamedTuple):
    """A reason: a feature, its value and its contribution to the score."""

    feature: str
    value: Optional[float]
    contribution: float
    text: Optional[str]
    approximate: bool


class ScoredTransaction(NamedTuple):
    """A scored transaction, with the columns of `stages.SCORED`."""

    transaction_id: str
    event_time: Timestamp
    account_id: Optional[str]
    merchant_id: Optional[str]
    amount: float
    score: float
    flagged: bool
    decision: str
    rules: Sequence[str]
    reasons: Sequence[Reason]
    model_id: str
    rules_id: Optional[str] = None
    shadow_rules: Sequence[str] = ()


class DeadLetter(NamedTuple):
    """An invalid record, with the columns of `stages.DEAD_LETTER`."""

    source: str
    position: int
    reason: str
    detail: Optional[str]
    payload: Optional[bytes]


for _type in (Reason, ScoredTransaction, DeadLetter):
    beam.coders.registry.register_coder(_type, beam.coders.RowCoder)


def check_output(output: str) -> None:
    """Check the value of `output`.

    Raises:
      UsageError: it is unknown.
    """
    if output not in ("rows", "batches"):
        raise UsageError(f"output={output!r}: must be 'rows' or 'batches'", Code.OPTION_VALUE)


@dataclass
class GatherRecords(beam.PTransform):
    """Gather records to raw batches (`sources.raw`)."""

    #: The schema, which names the columns.
    schema: Schema
    #: Treatment of labels.
    labels: Labels

    def expand(self, records: beam.PCollection[Record]) -> beam.PCollection[pa.RecordBatch]:
        """Batch and convert rows; convert incoming batches one by one."""
        convert = beam.FlatMap(_raw_batches, self.schema, self.labels)
        return (
            records
            | "Gather" >> _gathered()
            | "Convert" >> convert.with_output_types(pa.RecordBatch)
        )


@dataclass
class GatherScored(beam.PTransform):
    """Gather scored rows, dicts or batches to batches of `stages.SCORED`."""

    def expand(self, scored: beam.PCollection[Record]) -> beam.PCollection[pa.RecordBatch]:
        """Batch, then convert."""
        convert = beam.FlatMap(_scored_batches).with_output_types(pa.RecordBatch)
        return scored | "Gather" >> _gathered() | "Convert" >> convert


@dataclass
class AsOutput(beam.PTransform):
    """Emit record batches unchanged or as rows."""

    #: Form of the output.
    output: Output
    #: Type of a row.
    row: Any
    #: Function that yields the rows of a batch.
    rows_of: Callable[[pa.RecordBatch], Iterable[Any]]

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Any]:
        """Split batches into rows, unless batches are wanted."""
        if self.output == "batches":
            return batches
        return batches | "Rows" >> beam.FlatMap(self.rows_of).with_output_types(self.row)


def scored_as(output: Output) -> AsOutput:
    """Return the output step for batches of `stages.SCORED`."""
    return AsOutput(output, ScoredTransaction, scored_rows)


def dead_letters_as(output: Output) -> AsOutput:
    """Return the output step for batches of `stages.DEAD_LETTER`."""
    return AsOutput(output, DeadLetter, dead_letter_rows)


def table_as(output: Output, table: pa.Schema) -> AsOutput:
    """Return the output step for batches of strings, numbers and times."""
    fields = [(field.name, _python_type(field)) for field in table]
    return AsOutput(output, RowTypeConstraint.from_fields(fields), table_rows)


def scored_rows(batch: pa.RecordBatch) -> Iterator[ScoredTransaction]:
    """Yield the rows of `stages.SCORED`; null lists become empty."""
    for row in _plain_rows(batch):
        for name in ("rules", "shadow_rules"):
            row[name] = row[name] or []
        row["reasons"] = [Reason(**reason) for reason in row["reasons"] or []]
        yield ScoredTransaction(**row)


def dead_letter_rows(batch: pa.RecordBatch) -> Iterator[DeadLetter]:
    """Yield the rows of `stages.DEAD_LETTER`."""
    for row in batch.to_pylist():
        yield DeadLetter(**row)


def table_rows(batch: pa.RecordBatch) -> Iterator[beam.Row]:
    """Yield the rows of a batch, a field a column."""
    for row in _plain_rows(batch):
        yield beam.Row(**row)


def _plain_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows as dicts with Beam timestamps."""
    times = {
        field.name: batch.column(field.name).cast(pa.int64()).to_pylist()
        for field in batch.schema
        if pa.types.is_timestamp(field.type)
    }
    for place, row in enumerate(batch.to_pylist()):
        for name, micros in times.items():
            row[name] = None if micros[place] is None else Timestamp(micros=micros[place])
        yield row


def _python_type(field: pa.Field) -> Any:
    if pa.types.is_timestamp(field.type):
        kind: Any = Timestamp
    elif pa.types.is_floating(field.type):
        kind = float
    else:
        kind = int if pa.types.is_integer(field.type) else str
    return Optional[kind] if field.nullable else kind


def _gathered() -> beam.PTransform:
    return beam.BatchElements(
        min_batch_size=_BATCH_ROWS,
        max_batch_size=_BATCH_ROWS,
        element_size_fn=_rows_of,
        record_metrics=False,
    )


def _rows_of(record: Record) -> int:
    return len(record) if isinstance(record, pa.RecordBatch) else 1


def _raw_batches(
    records: Sequence[Record], schema: Schema, labels: Labels
) -> Iterator[pa.RecordBatch]:
    payloads = []
    for record in records:
        if isinstance(record, pa.RecordBatch):
            table = check_table(SOURCE_NAME, pa.Table.from_batches([record]), schema, labels=labels)
            count(ROWS_IN, len(record))
            yield from read_table(table, max(len(record), 1))
        else:
            payloads.append(_payload(record))
    if payloads:
        count(ROWS_IN, len(payloads))
        positions = pa.array(np.arange(len(payloads), dtype=np.int64))
        fields = [pa.field(POSITION, pa.int64()), pa.field(PAYLOAD, pa.binary())]
        described = with_origin(pa.schema(fields), Origin(SOURCE_NAME, "jsonl"))
        columns = [positions, pa.array(payloads, pa.binary())]
        yield pa.RecordBatch.from_arrays(columns, schema=described)


def _payload(record: Record) -> bytes:
    """Encode a record as a JSON object, the form of all later steps."""
    if isinstance(record, bytes):
        return record
    if isinstance(record, str):
        return record.encode("utf-8", "surrogatepass")
    try:
        return msgspec.json.encode(as_dict(record), enc_hook=_spelled)
    except (UnicodeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        # Not JSON: it becomes a dead letter that shows the record.
        return f"{error}: {record!r}".encode("utf-8", "backslashreplace")


def as_dict(record: Record) -> dict[str, Any]:
    """Return the fields of a record.

    Raises:
      FraudError: it has no fields.
    """
    if isinstance(record, Mapping):
        return dict(record)
    if isinstance(record, beam.Row):
        return dict(record.as_dict())
    if hasattr(record, "_asdict"):
        return dict(record._asdict())
    raise FraudError(
        f"a record is a {type(record).__name__}: give dicts, beam.Row or other named tuples, JSON "
        "text or pyarrow.RecordBatch",
        Code.COLLECTION_UNSUITED,
    )


def _spelled(value: Any) -> Any:
    """Convert values that JSON lacks: Beam's times, NumPy's and pandas' values, others as text."""
    if isinstance(value, Timestamp):
        return value.to_utc_datetime(has_tz=True)
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[us]"))
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def _scored_batches(records: Sequence[Record]) -> Iterator[pa.RecordBatch]:
    rows = []
    for record in records:
        if isinstance(record, pa.RecordBatch):
            there = [name for name in SCORED.names if name in record.schema.names]
            yield completed(record.select(there), SCORED)
        else:
            rows.append(_scored_row(as_dict(record)))
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=SCORED)


def _scored_row(row: dict[str, Any]) -> dict[str, Any]:
    time = row["event_time"]
    if isinstance(time, Timestamp):
        time = time.to_utc_datetime(has_tz=True)
    elif isinstance(time, str):
        time = datetime.fromisoformat(time)
    reasons = [as_dict(reason) for reason in row.get("reasons") or []]
    rules = list(row.get("rules") or [])
    return {**row, "event_time": time, "rules": rules, "reasons": reasons}
