"""Compare the columns of a file with those of the same names in its path."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.numbers import as_numbers
from beam_fraud.records.text import as_mask, as_utf8, flat
from beam_fraud.records.time_settlement import plausibly_read, settled_notation
from beam_fraud.records.times import as_text, as_times
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.raw import Origin

_DATES = ("%Y-%m-%d", "%Y%m%d")


def contradicting(
    values: pa.Array, column: str, said: str, schema: Schema, origin: Origin
) -> npt.NDArray[np.bool_]:
    """Return bool[n]: which values of a column are others than the directory says.

    A date says any time of its day. Absent values and those that cannot be read contradict nothing.

    Args:
      values: values of the column [n], as the file has them.
      column: its name.
      said: the value in the path.
      schema: how values are written.
      origin: of the rows.
    """
    values = flat(values)
    if column in (schema.roles["event_time"], schema.role("labelled_at")):
        notation = settled_notation(schema.time, origin.forms, column)
        times = as_times(values, notation, schema.timezone)
        ends = as_times(pa.array([said, _day_after(said)]), notation, schema.timezone)
        first, last = (
            ends.micros[0],
            ends.micros[1] - 1 if plausibly_read(ends)[1] else ends.micros[0],
        )
        comparable = plausibly_read(times) & plausibly_read(ends)[0]
        return np.asarray(comparable & ((times.micros < first) | (times.micros > last)), dtype=bool)
    own, [number] = (
        as_numbers(some, schema.notation_of(column), schema.absent).values
        for some in (values, pa.array([said]))
    )
    other: npt.NDArray[np.bool_] = own != number
    if column in _numeric(schema):
        return np.asarray(other & np.isfinite(own) & np.isfinite(number), dtype=bool)
    if not other.any():
        return other
    # Numbers may be written otherwise, as may truth values: 07 and 7, True and true.
    texts, _ = as_utf8(as_text(values))
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    same = pc.is_in(texts, value_set=pa.array([said.strip().lower(), "", *schema.absent_ids]))
    return other & ~as_mask(same) & as_mask(texts.is_valid())


def _day_after(said: str) -> str | None:
    """Return the next date, written likewise; None for what is no date."""
    for form in _DATES:
        try:
            return (datetime.strptime(said, form) + timedelta(days=1)).strftime(form)
        except (ValueError, OverflowError):
            continue
    return None


def _numeric(schema: Schema) -> set[str]:
    return {schema.roles["amount"], *(f.column for f in schema.features if f.kind == "numeric")}
