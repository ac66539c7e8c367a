"""Write labels to their table of a database, and read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
from sqlalchemy import Connection, Select, Table, func, select, union_all
from sqlalchemy import literal_column as literal

from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import EXPLAINED_LABEL, LABEL
from beam_fraud.storage.database.connection import transaction, writing
from beam_fraud.storage.database.tables import AUDITED, FLAGGED, LABELS
from beam_fraud.storage.database.upsert import Row, storable, upsert

#: An exported label: what is known of it, with which probability people saw the transaction.
EXPORTED = EXPLAINED_LABEL.append(pa.field("probability", pa.float64()))
#: Ids per query: SQLite takes 32,766 parameters.
_IDS_AT_A_TIME = 5_000
_ROWS_AT_A_TIME = 20_000


class Known(NamedTuple):
    """A transaction that was shown to people, as a database has it."""

    event_time: datetime
    account_id: str | None
    merchant_id: str | None
    #: Probability of being shown: 1 if it was flagged, that of the audit if it was audited.
    probability: float


def known_transactions(connection: Connection, ids: Sequence[str]) -> dict[str, Known]:
    """Return the flagged and audited ones of some transactions, by id.

    What several models flagged or audited counts once, with the highest probability: a larger share
    of an audit chooses all transactions of a smaller.
    """
    known: dict[str, Known] = {}
    for named, stored in _stored(connection, FLAGGED, ids):
        flagged, audited = FLAGGED.c, AUDITED.c
        columns = (flagged.transaction_id, flagged.event_time, flagged.account_id)
        also = (audited.transaction_id, audited.event_time, audited.account_id)
        rows = connection.execute(
            union_all(
                select(*also, audited.merchant_id, audited.probability).where(
                    audited.transaction_id.in_(stored)
                ),
                select(*columns, flagged.merchant_id, literal("1.0").label("probability")).where(
                    flagged.transaction_id.in_(stored)
                ),
            )
        )
        by_stored: dict[str, Known] = {}
        for name, event_time, account, merchant, probability in rows:
            before = by_stored.get(name)
            if before is None or probability > before.probability:
                by_stored[name] = Known(event_time, account, merchant, float(probability))
        known |= {
            name: by_stored[key]
            for name, key in zip(named, stored, strict=True)
            if key in by_stored
        }
    return known


def seen_with(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """Return with which probability people saw some transactions; those they did not are absent."""
    return {name: one.probability for name, one in known_transactions(connection, ids).items()}


def record_labels(connection: Connection, rows: Sequence[Row]) -> None:
    """Write labels; idempotent.

    Of two labels by one person for one transaction at one time, the last written stays. The
    probability of a row that has none is looked up, and otherwise stays as it was.

    Args:
      connection: in a write transaction.
      rows: values of the columns of `labels`, the same of every row; `probability` may be missing.
    """
    asked = [str(row["transaction_id"]) for row in rows if row.get("probability") is None]
    seen = seen_with(connection, list(dict.fromkeys(asked))) if asked else {}
    known, unknown = list[Row](), list[Row]()
    for row in rows:
        probability = row.get("probability")
        if probability is None:
            probability = seen.get(str(row["transaction_id"]))
        if probability is None:
            unknown.append({name: row[name] for name in row if name != "probability"})
        else:
            known.append({**row, "probability": probability})
    upsert(connection, LABELS, known)
    upsert(connection, LABELS, unknown)


def write_labels(url: str, batch: pa.RecordBatch) -> None:
    """Write labels in one transaction, as `record_labels` does.

    Args:
      url: a database after `prepare_database`.
      batch: rows with the columns of `stages.LABEL`; further columns are ignored.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    with writing(url) as connection:
        record_labels(connection, batch.select(LABEL.names).to_pylist())


#: Type: by whom and when, to the label and its reason.
_Given = dict[tuple[str, datetime], tuple[int, str | None]]


@dataclass
class Imported:
    """Counts of imported labels by outcome."""

    #: Labels that are new, that were there with the same values, and that replaced a label of the
    #: same person and moment.
    new: int = 0
    known: int = 0
    replaced: int = 0
    #: Labels of transactions that were neither flagged nor audited.
    unseen: int = 0
    #: Labels that were left out: nothing says when the transaction was.
    unknown: int = 0
    #: Transactions about which labels contradict each other, these or earlier ones.
    conflicts: int = 0
    #: Transactions whose latest label is another one now.
    changed: int = 0


def import_labels(
    connection: Connection, labels: pa.RecordBatch, imported: Imported
) -> list[dict[str, object]]:
    """Write labels with their reasons, and count what they change.

    Args:
      connection: in a write transaction.
      labels: n rows of `stages.EXPLAINED_LABEL`; what a row lacks of its transaction (`event_time`,
        `account_id`, `merchant_id`) is that of the flagged or audited one.
      imported: the counts of the import so far.

    Returns:
      The labels that the table has now, without those whose transaction has no time.
    """
    rows = labels.to_pylist()
    ids = list(dict.fromkeys(str(row["transaction_id"]) for row in rows))
    known, before = known_transactions(connection, ids), _given(connection, ids)
    given: dict[str, _Given] = {name: dict(earlier) for name, earlier in before.items()}
    complete: dict[tuple[str, str, datetime], Row] = {}
    for row in rows:
        name = str(row["transaction_id"])
        if (seen := known.get(name)) is not None:
            own = {field: row[field] for field in Known._fields[:3] if row[field] is not None}
            row |= {**seen._asdict(), **own}
        elif row["event_time"] is None:
            imported.unknown += 1
            continue
        imported.unseen += seen is None
        # The last of two labels of one key is the one that stays.
        complete[name, row["labelled_by"], row["labelled_at"]] = row
        given.setdefault(name, {})[row["labelled_by"], row["labelled_at"]] = (
            row["label"],
            row["reason"],
        )
    written = list[Row]()
    for (name, who, at), row in complete.items():
        there = before.get(name, {}).get((who, at))
        same = there == (row["label"], row["reason"])
        imported.known += same
        imported.new += there is None
        imported.replaced += there is not None and not same
        if not same:
            written.append({"probability": None, **row})
    record_labels(connection, written)
    for name in {str(row["transaction_id"]) for row in written}:
        earlier = before.get(name, {})
        imported.conflicts += len({label for label, _ in given[name].values()}) > 1
        imported.changed += bool(earlier) and _latest(earlier) != _latest(given[name])
    return list(complete.values())


def _latest(given: _Given) -> int:
    """Return the label that the view shows."""
    return given[max(given, key=lambda by: (by[1], by[0]))][0]


def _given(connection: Connection, ids: Sequence[str]) -> dict[str, _Given]:
    """Return the labels of some transactions."""
    given: dict[str, _Given] = {}
    table = LABELS.c
    for named, stored in _stored(connection, LABELS, ids):
        names = dict(zip(stored, named, strict=True))
        columns = (table.transaction_id, table.labelled_by, table.labelled_at, table.label)
        query = select(*columns, table.reason).where(table.transaction_id.in_(stored))
        for key, who, at, label, reason in connection.execute(query):
            given.setdefault(names[key], {})[who, at] = (label, reason)
    return given


def _stored(
    connection: Connection, table: Table, ids: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield ids, and the same as a table has them, some thousands at a time."""
    for start in range(0, len(ids), _IDS_AT_A_TIME):
        named = ids[start : start + _IDS_AT_A_TIME]
        if connection.dialect.name == "postgresql":
            yield named, [str(one) for one in storable(table.c.transaction_id, named)]
        else:
            yield named, named


def stored_labels(url: str, since: datetime | None, *, history: bool) -> Iterator[pa.RecordBatch]:
    """Yield rows of `EXPORTED` in the order of transactions and times.

    Args:
      url: a database after `prepare_database`.
      since: labels from this time on, or None for all.
      history: whether to yield every label; otherwise the latest of each transaction.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    with transaction(url) as connection:
        query = _labels_query(since, history=history)
        rows = connection.execution_options(yield_per=_ROWS_AT_A_TIME).execute(query)
        for part in rows.partitions():
            yield pa.RecordBatch.from_pylist([dict(row._mapping) for row in part], schema=EXPORTED)


def _labels_query(since: datetime | None, *, history: bool) -> Select[tuple[object, ...]]:
    columns = [LABELS.c[name] for name in EXPORTED.names]
    if history:
        query = select(*columns)
        if since is not None:
            query = query.where(LABELS.c.labelled_at >= since)
    else:
        # The order of the view `latest_labels`.
        rank = func.row_number().over(
            partition_by=LABELS.c.transaction_id,
            order_by=(LABELS.c.labelled_at.desc(), LABELS.c.labelled_by.desc()),
        )
        ranked = select(*columns, rank.label("rank")).subquery()
        query = select(*(ranked.c[name] for name in EXPORTED.names)).where(ranked.c.rank == 1)
        if since is not None:
            query = query.where(ranked.c.labelled_at >= since)
    # By number of the column: the same for both.
    return query.order_by(literal("1"), literal("6"), literal("7"))


assert EXPORTED.field("labelled_at").type == EVENT_TIME
