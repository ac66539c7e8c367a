"""Read the transactions that people saw from a database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Select, Table, and_, column, func, literal, select, table

from beam_fraud.evaluation.traffic import SeenRows
from beam_fraud.records.label_file import UNKNOWN
from beam_fraud.schema.event_time import moment_of
from beam_fraud.storage.database.tables import AUDITED, FLAGGED, LABELS

#: The view of the newest labels.
_LATEST = table("latest_labels", column("transaction_id"), column("label"))
#: Flagged transactions between two audited ones, in units of the usual number, that are a gap.
_GAP = 30


@dataclass(frozen=True)
class ModelRows:
    """The transactions of a model that people saw, in the time of its audit."""

    model_id: str
    seen: SeenRows
    #: Event times of the first and the last audited transaction; None without any.
    span: tuple[datetime, datetime] | None
    #: Flagged transactions before and after that, which are left out.
    left_out: int
    #: Frauds of that time that were reported but not shown to people; of any model.
    reported: int
    warnings: tuple[str, ...]


def models_seen(
    connection: Connection, since: datetime | None, until: datetime | None
) -> list[str]:
    """Return the ids of the models with flagged or audited transactions, by name."""
    ids = set[str]()
    for source in (FLAGGED, AUDITED):
        query = select(source.c.model_id).distinct()
        ids.update(connection.scalars(_between(query, source, since, until)))
    return sorted(ids)


def rows_seen(
    connection: Connection, model_id: str, since: datetime | None, until: datetime | None
) -> ModelRows:
    """Read what people saw of a model's transactions.

    Only the time from the first to the last audited transaction counts: before and after, nothing
    says how much was missed.

    Args:
      connection: in a transaction.
      model_id: the model.
      since: first event time, or None.
      until: first event time after the rows, or None.
    """
    flagged = _read(connection, FLAGGED, model_id, since, until)
    audited = _read(connection, AUDITED, model_id, since, until)
    # What was flagged by one rule set and audited under another was flagged.
    known = pc.is_in(audited["transaction_id"], value_set=flagged["transaction_id"])
    audited = audited.filter(pc.invert(known))
    before = len(flagged)
    span, warnings, reported = None, list[str](), 0
    if len(audited):
        times = np.sort(_micros(audited))
        first, last = int(times[0]), int(times[-1])
        inside = (_micros(flagged) >= first) & (_micros(flagged) <= last)
        flagged = flagged.filter(pa.array(inside))
        span = moment_of(first), moment_of(last)
        warnings = _gaps(times, np.sort(_micros(flagged)))
        reported = _reported(connection, *span)
    rows = pa.concat_tables([flagged, audited])
    accounts = rows["account_id"].combine_chunks()
    encoded = None
    if len(rows) and not accounts.null_count:
        encoded = np.asarray(accounts.dictionary_encode().indices, dtype=np.int64)
    seen = SeenRows(
        flagged=np.arange(len(rows)) < len(flagged),
        labels=np.asarray(rows["label"].fill_null(int(UNKNOWN)), dtype=np.int8),
        scores=np.asarray(rows["score"], dtype=np.float64),
        probability=np.asarray(rows["probability"], dtype=np.float64),
        accounts=encoded,
    )
    return ModelRows(model_id, seen, span, before - len(flagged), reported, tuple(warnings))


_ROWS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("account_id", pa.string()),
        ("score", pa.float64()),
        ("probability", pa.float64()),
        ("label", pa.int8()),
    ]
)


def _read(
    connection: Connection,
    source: Table,
    model_id: str,
    since: datetime | None,
    until: datetime | None,
) -> pa.Table:
    own = source.c
    probability = own.probability if "probability" in own else literal(1.0).label("probability")
    query = (
        select(
            *(own.transaction_id, own.event_time, own.account_id, own.score),
            *(probability, _LATEST.c.label),
        )
        .select_from(
            source.outerjoin(_LATEST, own.transaction_id == _LATEST.c.transaction_id),
        )
        .where(own.model_id == model_id)
    )
    rows = connection.execute(_between(query, source, since, until)).all()
    columns = list(zip(*rows, strict=True)) or [()] * len(_ROWS)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _ROWS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_ROWS)


def _between(
    query: Select[tuple[object, ...]],
    source: Table,
    since: datetime | None,
    until: datetime | None,
) -> Select[tuple[object, ...]]:
    if since is not None:
        query = query.where(source.c.event_time >= since)
    return query if until is None else query.where(source.c.event_time < until)


def _reported(connection: Connection, first: datetime, last: datetime) -> int:
    """Return the number of frauds of a time that were neither flagged nor audited."""
    seen = [
        select(source.c.transaction_id).where(source.c.transaction_id == LABELS.c.transaction_id)
        for source in (FLAGGED, AUDITED)
    ]
    query = select(func.count(LABELS.c.transaction_id.distinct())).where(
        and_(
            LABELS.c.label == 1,
            LABELS.c.event_time.between(first, last),
            *(~each.exists() for each in seen),
        )
    )
    return int(connection.execute(query).scalar_one())


def _micros(rows: pa.Table) -> np.ndarray:
    return np.asarray(rows["event_time"].cast(pa.int64()), dtype=np.int64)


def _gaps(audited: np.ndarray, flagged: np.ndarray) -> list[str]:
    """Return a warning if nothing was audited for a while in which many rows were flagged.

    Args:
      audited: int64[a], event times in order, microseconds.
      flagged: int64[f], the same.
    """
    between = np.diff(np.searchsorted(flagged, audited))
    usual = max(len(flagged) / len(audited), 1.0)
    if not len(between) or between.max() <= _GAP * usual:
        return []
    at = int(between.argmax())
    start, end = (moment_of(int(audited[place])) for place in (at, at + 1))
    return [
        f"no row was audited from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, though "
        f"{int(between[at]):,} were flagged: if --audit-share was off, choose a time by --from and "
        "--until"
    ]
