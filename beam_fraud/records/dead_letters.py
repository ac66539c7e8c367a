"""Convert faulty rows to dead letters."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from beam_fraud.records.envelopes import SKIPPED, unopened
from beam_fraud.records.faults import Faults, at_line
from beam_fraud.records.text import flat
from beam_fraud.schema.notation import Unwrap
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.sources.columns import is_text
from beam_fraud.sources.lines import PREFIX_BYTES
from beam_fraud.sources.raw import (
    APPENDED,
    DETAIL,
    PAYLOAD,
    POSITION,
    REASON,
    origin_of,
    sources_of,
)


def no_dead_letters() -> pa.RecordBatch:
    """Return an empty batch of `stages.DEAD_LETTER`."""
    return pa.RecordBatch.from_arrays(
        [pa.nulls(0, field.type) for field in DEAD_LETTER], schema=DEAD_LETTER
    )


def dead_letters(
    parsed: pa.RecordBatch, faults: Faults, unwrap: Unwrap | None = None
) -> pa.RecordBatch:
    """Return the faulty rows of a parsed batch (`records.parse`) as `stages.DEAD_LETTER`, in order.

    `@reason` and `@detail` of a row take precedence over `faults`. Without `unwrap`, a record in an
    envelope says so.
    """
    dead = parsed.filter(pa.array(faults.faulty))
    reasons, details = faults.reasons(), faults.details()
    if REASON in dead.schema.names:
        reasons = pc.coalesce(dead.column(REASON), reasons)
        details = pc.coalesce(dead.column(DETAIL), details)
    if unwrap is None and PAYLOAD in dead.schema.names and not origin_of(parsed).csv:
        reasons, details = _with_envelopes(dead.column(PAYLOAD), reasons, details)
    return pa.RecordBatch.from_arrays(
        [
            sources_of(dead),
            dead.column(POSITION),
            reasons,
            at_line(dead, details),
            _payloads(dead),
        ],
        schema=DEAD_LETTER,
    )


def without_skipped(dead: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
    """Return the dead letters without tombstones and corrections, and the number of each of these.

    Args:
      dead: rows of `stages.DEAD_LETTER`.
    """
    skipped = pc.is_in(dead.column("reason"), value_set=pa.array(SKIPPED))
    if not skipped.true_count:
        return dead, Counter()
    counts = Counter[str](dead.column("reason").filter(skipped).to_pylist())
    return dead.filter(pc.invert(skipped)), counts


def _with_envelopes(
    payloads: pa.Array, reasons: pa.Array, details: pa.Array
) -> tuple[pa.Array, pa.Array]:
    """Name the envelope of records that lack a value of each transaction."""
    lacking = pc.starts_with(reasons, "missing_")
    if not lacking.true_count:
        return reasons, details
    reason, detail = reasons.to_pylist(), details.to_pylist()
    for row in pc.indices_nonzero(lacking).to_pylist():
        if (why := unopened(payloads[row].as_py() or b"")) is not None:
            reason[row], detail[row] = why
    return pa.array(reason, pa.string()), pa.array(detail, pa.string())


def _payloads(dead: pa.RecordBatch) -> pa.Array:
    """Return the records: whole messages, text without its line end, or the row as JSON."""
    if APPENDED in dead.schema.names:
        return dead.column(PAYLOAD)
    if PAYLOAD in dead.schema.names:
        texts = dead.column(PAYLOAD).to_pylist()
        lines = [text.removesuffix(b"\n").removesuffix(b"\r") for text in texts]
        return pa.array(lines, pa.binary())
    rows = dead.drop_columns([POSITION])
    columns = {name: _plain(rows.column(name)) for name in rows.schema.names}
    return pa.array(
        [
            msgspec.json.encode(dict(zip(columns, values, strict=True)))
            for values in zip(*columns.values(), strict=True)
        ],
        pa.binary(),
    )


def _plain(column: pa.Array) -> list[Any]:
    """Return values that JSON can hold; others become text."""
    column = flat(column)
    if is_text(column.type):
        # As many bytes as are kept of a too long line.
        values = pc.binary_slice(column.cast(pa.large_binary()), 0, PREFIX_BYTES).to_pylist()
        return [value and value.decode("utf-8", "backslashreplace") for value in values]
    if pat.is_floating(column.type):
        values = column.cast(pa.float64()).to_pylist()
        return [v if v is None or math.isfinite(v) else str(v) for v in values]
    if pat.is_timestamp(column.type):
        # Drop the zone, UTC, which the system may not know.
        column = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    elif pat.is_date(column.type) or pat.is_decimal(column.type):
        column = column.cast(pa.string())
    return list(column.to_pylist())
