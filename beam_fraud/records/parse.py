"""Parse raw batches of any format to columns with the schema's names.

A parsed batch has the columns of `Schema.columns` (of any type; an optional one can be missing) and
`@position`; for text also `@payload` and `@line`, for messages `@appended`; and if some records
could not be parsed `@reason` and `@detail`, null for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.records.json_records import Fault, Kind, decode_json, kinds_of
from beam_fraud.schema.notation import Unwrap
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.columns import mistyped
from beam_fraud.sources.csv_text import parse_csv
from beam_fraud.sources.kafka.registry import RegistrySettings
from beam_fraud.sources.partitions import filled, with_partitions
from beam_fraud.sources.raw import (
    APPENDED,
    DETAIL,
    LINE,
    PAYLOAD,
    POSITION,
    REASON,
    SOURCE,
    origin_of,
)
from beam_fraud.sources.segment import CsvLayout


def parse(
    raw: pa.RecordBatch,
    schema: Schema,
    *,
    labels: Labels,
    registry: RegistrySettings | None = None,
) -> pa.RecordBatch:
    """Parse a raw batch (`sources.raw`).

    Args:
      raw: n rows.
      schema: the schema.
      labels: treatment of labels.
      registry: schema registry of framed messages.

    Returns:
      The parsed batch: n rows in the same order, the origin in its metadata.
    """
    origin = origin_of(raw)
    if PAYLOAD not in raw.schema.names or REASON in raw.schema.names:
        return raw
    payload = raw.column(PAYLOAD)
    if origin.csv:
        names, columns, faults = _parse_csv(payload, origin.csv, schema, labels=labels)
    else:
        names = schema.columns(labels=labels)
        kinds, unwrap = kinds_of(schema, labels=labels), schema.source.unwrap
        accepts = partial(accepted, schema, labels)
        columns, faults = decode_messages(payload.to_pylist(), kinds, unwrap, registry, accepts)
    named = dict(zip(names, columns, strict=True))
    if origin.partitions:
        named = filled(named, origin.partitions) if origin.csv is None else named
        named = with_partitions(named, origin.partitions, len(raw) - len(faults))
    return parsed_batch(raw, named, faults)


def decode_messages(
    payload: Sequence[bytes | None],
    kinds: tuple[tuple[str, Kind], ...],
    unwrap: Unwrap | None,
    registry: RegistrySettings | None,
    accepts: Callable[[str, pa.DataType], bool],
) -> tuple[list[pa.Array], list[Fault]]:
    """Decode JSON, or messages in the framing of a registry (`json_records`, `framed`)."""
    if registry is None:
        return decode_json(payload, kinds, unwrap)
    # Imported here: most runs need neither the client of registries nor decoders.
    from beam_fraud.records.framed import parse_framed
    from beam_fraud.sources.kafka.registry import registry_of

    return parse_framed(payload, kinds, unwrap, registry_of(registry), accepts)


def accepted(schema: Schema, labels: Labels, column: str, type: pa.DataType) -> bool:
    """Return whether validation can read a column of a type."""
    return mistyped(schema, column, type, labels=labels) is None


def parsed_batch(
    raw: pa.RecordBatch, columns: dict[str, pa.Array], faults: Sequence[Fault]
) -> pa.RecordBatch:
    """Return the parsed batch of a raw one with `@payload`.

    Args:
      raw: n rows.
      columns: values of the rows without a fault.
      faults: row, reason and detail of each faulty row, by row.

    Returns:
      n rows: `columns`, null for faulty rows, and the other columns of a parsed batch.
    """
    fields = dict(columns)
    if faults:
        faulty = [row for row, _, _ in faults]
        fields = dict(zip(columns, _spread(columns.values(), len(raw), faulty), strict=True))
    names = (POSITION, LINE, PAYLOAD, APPENDED, SOURCE)
    fields |= {name: raw.column(name) for name in names if name in raw.schema.names}
    if faults:
        fields |= _fault_columns(len(raw), faults)
    described = pa.schema(
        [pa.field(name, column.type) for name, column in fields.items()], raw.schema.metadata
    )
    return pa.RecordBatch.from_arrays(list(fields.values()), schema=described)


def _parse_csv(
    payload: pa.BinaryArray, layout: CsvLayout, schema: Schema, *, labels: Labels
) -> tuple[tuple[str, ...], list[pa.Array], list[Fault]]:
    names = tuple(c for c in schema.columns(labels=labels) if c in layout.columns)
    faults = _not_utf8(payload)
    sound = np.ones(len(payload), dtype=bool)
    if faults:
        sound[[row for row, _, _ in faults]] = False
        payload = payload.filter(pa.array(sound))
    text = dict.fromkeys(names, pa.string())
    numeric = {f.column for f in schema.features if f.kind == "numeric"} | {schema.roles["amount"]}
    numeric -= {*schema.parts(schema.roles["event_time"])}
    numeric = {column for column in numeric if schema.notation_of(column).plain}
    try:
        types = {c: pa.float64() if c in numeric else pa.string() for c in names}
        fields = parse_csv(payload, layout, types, schema.absent)
    except pa.ArrowInvalid:
        # A field is no number: read all as text, and validation names the rows.
        fields = parse_csv(payload, layout, text, schema.absent)
    rows = np.flatnonzero(sound)[~fields.whole]
    wrong = f"not one record of {len(layout.columns)} columns"
    faults += [(int(row), "wrong_column_count", wrong) for row in rows]
    columns = [_combined(fields.columns.column(name)) for name in names]
    return names, columns, sorted(faults)


def _not_utf8(payload: pa.BinaryArray) -> list[Fault]:
    try:
        payload.cast(pa.string())
    except pa.ArrowInvalid:
        return [
            (row, "malformed", "not UTF-8; encoding under [source] says how text is encoded")
            for row, record in enumerate(payload.to_pylist())
            if not _is_utf8(record)
        ]
    return []


def _is_utf8(record: bytes) -> bool:
    try:
        record.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _spread(columns: Iterable[pa.Array], rows: int, faulty: list[int]) -> list[pa.Array]:
    """Put the values of valid rows in their positions, nulls between them."""
    good: npt.NDArray[np.bool_] = np.ones(rows, dtype=bool)
    good[faulty] = False
    places = pa.array(np.cumsum(good) - 1, mask=~good)
    return [column.take(places) for column in columns]


def _fault_columns(rows: int, faults: Sequence[Fault]) -> dict[str, pa.Array]:
    reasons: list[str | None] = [None] * rows
    details: list[str | None] = [None] * rows
    for row, reason, detail in faults:
        reasons[row], details[row] = reason, detail
    return {REASON: pa.array(reasons, pa.string()), DETAIL: pa.array(details, pa.string())}


def _combined(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
