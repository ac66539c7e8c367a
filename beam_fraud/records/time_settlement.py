"""Settle which of a schema's forms of times a file is written in.

A text such as `01/02/2019` is of two forms, and says another day in each. Row by row it cannot be
read. A file is written in one form, and its other rows tell which: `13/02/2019` is of one alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pat

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.records.composites import composite_times
from beam_fraud.records.parse import parse
from beam_fraud.records.text import flat
from beam_fraud.records.times import Times, as_times
from beam_fraud.schema.notation import EXCEL, EXCEL_ORIGIN, ISO_8601, RFC_2822, TimeNotation
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.sources.segment import TimeForms

#: Rows of a block that are read at once to settle the forms of a file.
SETTLING_ROWS = 10_000
#: Rows of a file after which forms that no row has are taken for unused.
_ENOUGH_ROWS = 50_000
#: Moments that probe whether two forms read one text.
_PROBES = 400
_SETTING = "write the one format of the file under [time]"

#: Two forms that read some texts as different times.
Contested = tuple[str, str]


def settled_notation(notation: TimeNotation, forms: TimeForms, column: str) -> TimeNotation:
    """Return how a column of a file writes times.

    Args:
      notation: of the schema.
      forms: settled for the file.
      column: the column.
    """
    own = dict(forms).get(column)
    return notation if own is None else replace(notation, forms=own)


def refuse_contested(schema: Schema, what: str) -> None:
    """Refuse a schema that needs whole files, where there is none.

    Args:
      schema: the schema.
      what: where records come from, for the message.

    Raises:
      UsageError: two of its forms read some texts differently.
    """
    for one, other in contested(schema.time.forms):
        raise UsageError(
            f"schema {schema.name}: the formats {one!r} and {other!r} under [time] read some texts "
            f"as different times, and {what} cannot tell which: write one of them",
            Code.TIMES_AMBIGUOUS,
        )


def uncontested_forms(schema: Schema, what: str, *, labels: Labels) -> TimeForms:
    """Return the forms that a record alone can settle.

    Raises:
      UsageError: there is none.
    """
    pairs = contested(schema.time.forms)
    left = tuple(form for form in schema.time.forms if not any(form in pair for pair in pairs))
    if pairs and not left:
        refuse_contested(schema, what)
    return tuple((column, left) for column in _columns(schema, labels)) if pairs else ()


def settled_forms(
    raw: Iterable[pa.RecordBatch], schema: Schema, name: str, *, labels: Labels
) -> TimeForms:
    """Return the forms by which a file's times are read.

    Of two forms that read some texts as different times, one stays: the one that every row has
    which has either. Forms that share no text stay, so a row is read by the first that fits.

    Args:
      raw: the file's raw batches (`sources.raw`), read as far as needed.
      schema: the schema.
      name: the file, for messages.
      labels: treatment of labels.

    Raises:
      FraudError: each row is of both forms, or some rows are of one and some of the other.
    """
    pairs = contested(schema.time.forms)
    columns = _columns(schema, labels) if pairs else ()
    if not columns:
        return ()
    counts = {(column, pair): _Count() for column in columns for pair in pairs}
    rows = 0
    for batch in raw:
        parsed = parse(batch, schema, labels=labels)
        for column in columns:
            values = time_values(parsed, schema, column)
            if values is not None:
                _count(values, schema.time, pairs, column, counts)
        rows += len(batch)
        if all(c.decided or (not c.both and rows >= _ENOUGH_ROWS) for c in counts.values()):
            break
    else:
        rows = 0  # The end was reached: what no row has is of no account.
    return tuple(
        (column, _left(column, schema, counts, name, early=rows > 0)) for column in columns
    )


def times_alone(schema: Schema) -> Schema:
    """Return a schema that reads the columns of times alone, and the amount, which all need."""
    read = ("event_time", "amount", "labelled_at")
    roles = {role: column for role, column in schema.roles.items() if role in read}
    composites = {c: parts for c, parts in schema.composites.items() if c in roles.values()}
    return replace(
        Schema(schema.name, roles, time=schema.time, absent=schema.absent),
        composites=composites,
        source=schema.source,
    )


def time_values(parsed: pa.RecordBatch, schema: Schema, column: str) -> pa.Array | None:
    """Return the texts or numbers of a column of times; None if absent, or timestamps already."""
    parts = schema.parts(column)
    if any(part not in parsed.schema.names for part in parts):
        return None
    if len(parts) > 1:
        return composite_times([parsed.column(part) for part in parts])
    values = flat(parsed.column(column))
    if pat.is_timestamp(values.type) or pat.is_date(values.type) or pat.is_null(values.type):
        return None
    return values


def plausibly_read(times: Times) -> npt.NDArray[np.bool_]:
    """Return bool[n]: where there is a time, and a possible one."""
    return ~(times.absent | times.unreadable | times.impossible)


@lru_cache
def contested(forms: tuple[str, ...]) -> tuple[Contested, ...]:
    """Return the pairs of forms that read some text as different times.

    Texts of one form, of many moments and with and without leading zeros, are read by the other.

    Example:
      >>> contested(("iso8601", "%m/%d/%Y %H:%M", "%d-%m-%Y %H:%M"))
      ()
      >>> contested(("%m/%d/%Y", "%d/%m/%Y"))
      (('%m/%d/%Y', '%d/%m/%Y'),)
    """
    pairs = list(combinations(dict.fromkeys(forms), 2))
    return tuple(pair for pair in pairs if _is_contested(*pair))


@dataclass
class _Count:
    """Rows of two contested forms."""

    #: Rows that only the first, only the second, and both read.
    first: int = 0
    second: int = 0
    #: Rows that both read, and those of them that are different times.
    both: int = 0
    differ: int = 0

    @property
    def decided(self) -> bool:
        return bool(self.first or self.second)


def _columns(schema: Schema, labels: Labels) -> tuple[str, ...]:
    roles = ("event_time",) if labels == "ignored" else ("event_time", "labelled_at")
    return tuple(schema.roles[role] for role in roles if role in schema.roles)


def _count(
    values: pa.Array,
    notation: TimeNotation,
    pairs: Sequence[Contested],
    column: str,
    counts: dict[tuple[str, Contested], _Count],
) -> None:
    read = {
        form: as_times(values, replace(notation, forms=(form,), naive=None))
        for form in dict.fromkeys(form for pair in pairs for form in pair)
    }
    for pair in pairs:
        one, other = (read[form] for form in pair)
        by_one, by_other = plausibly_read(one), plausibly_read(other)
        count = counts[column, pair]
        count.first += int(np.count_nonzero(by_one & ~by_other))
        count.second += int(np.count_nonzero(by_other & ~by_one))
        both = by_one & by_other
        count.both += int(np.count_nonzero(both))
        count.differ += int(np.count_nonzero(both & (one.micros != other.micros)))


def _left(
    column: str,
    schema: Schema,
    counts: dict[tuple[str, Contested], _Count],
    name: str,
    *,
    early: bool,
) -> tuple[str, ...]:
    """Return the forms that stay for a column."""
    out = set[str]()
    for (counted, (one, other)), count in counts.items():
        if counted != column:
            continue
        if count.first and count.second:
            raise FraudError(
                f"{name}: only {one!r} reads {count.first:,} times of column {column!r}, and only "
                f"{other!r} reads {count.second:,}: write the file in one format",
                Code.TIMES_AMBIGUOUS,
            )
        if count.differ and not count.decided:
            raise FraudError(
                f"{name}: every time of column {column!r} can be {one!r} or {other!r}, which are "
                f"different times: {_SETTING}",
                Code.TIMES_AMBIGUOUS,
            )
        if count.second:
            out.add(one)
        elif count.first:
            out.add(other)
        elif early:
            out |= {one, other}
    left = tuple(form for form in schema.time.forms if form not in out)
    return left or schema.time.forms[:1]


def _is_contested(one: str, other: str) -> bool:
    for written, reader in ((one, other), (other, one)):
        texts = pa.array(dict.fromkeys(_texts(written)), pa.string())
        read = [as_times(texts, TimeNotation((form,))) for form in (written, reader)]
        both = plausibly_read(read[0]) & plausibly_read(read[1])
        if (both & (read[0].micros != read[1].micros)).any():
            return True
    return False


def _texts(form: str) -> Iterator[str]:
    """Yield times of a form, with and without leading zeros."""
    for moment in _moments():
        if form == ISO_8601:
            yield moment.replace(tzinfo=None).isoformat(" ")
            yield moment.date().isoformat()
        elif form == RFC_2822:
            yield format_datetime(moment)
        elif form == EXCEL:
            days = (moment - datetime.fromisoformat(EXCEL_ORIGIN + "T00:00:00+00:00")).days
            yield from (str(days), f"{days}.25")
        else:
            parts = [moment.strftime(part) for part in re.findall(r"%.|[^%]+", form)]
            yield "".join(parts)
            yield "".join(part.lstrip("0") or "0" for part in parts)


@lru_cache
def _moments() -> tuple[datetime, ...]:
    """Return moments whose parts can stand for each other, and any others."""
    chance = random.Random(0)
    small = []
    for _ in range(_PROBES):
        month, day, hour, minute, second = (chance.randint(1, 12) for _ in range(5))
        year = chance.randint(2001, 2012)
        small.append(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    first = datetime(1970, 1, 1, tzinfo=UTC)
    other = [first + timedelta(seconds=chance.randrange(4_000_000_000)) for _ in range(_PROBES)]
    return (*small, *other)
