"""Summarise what a database has of scored rows: the flagged ones, and a share of the others.

A database holds no unflagged rows but those of the audit lane. With it, each audited row stands for
as many unflagged ones as its probability says; without it, only the flagged rows are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, tzinfo

import numpy as np
import pyarrow as pa
from sqlalchemy import Select, Table, func, literal, select

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.bundle import Bundle, read_reference
from beam_fraud.models.drift import Counter, local_hours, measures_of
from beam_fraud.models.reference import Reference
from beam_fraud.monitoring.drift.summary import Layout, Segments, Summary
from beam_fraud.operations.drift.archive import Counted
from beam_fraud.operations.drift.dead_letter_days import letters_by_day
from beam_fraud.operations.drift.quality import RowsByScore
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.storage.database.connection import engine, masked, one_line_errors, transaction
from beam_fraud.storage.database.tables import AUDITED, DEAD_LETTERS, FLAGGED

#: Rows in memory at once.
_BLOCK_ROWS = 20_000
#: Column that says why people see a row, and its values.
SEEN, _FLAGGED, _AUDITED = "seen", "flagged", "audited"
_ROWS = pa.schema(
    [
        ("event_time", EVENT_TIME),
        ("amount", pa.float64()),
        ("score", pa.float64()),
        ("decision", pa.string()),
        ("probability", pa.float64()),
    ]
)
_LETTERS = pa.schema([("event_time", EVENT_TIME), ("reason", pa.string())])


def count_database(url: str, bundle: Bundle, zone: tzinfo = UTC) -> Counted:
    """Count the flagged and audited rows of a model, and the dead letters.

    All rows are the first group of the summary, estimated: each audited row counts as `1 /
    probability` rows. The flagged and the audited ones are groups of their own, counted once.

    Args:
      url: the database, with its tables.
      bundle: the model.
      zone: time zone of days and hours.

    Raises:
      FraudError: the database cannot be used, or has no rows of the model.
    """
    own, others = _models(url, bundle.model_id)
    if not own[_FLAGGED]:
        raise FraudError(
            f"database {masked(url)}: has no flagged rows of {bundle.model_id}; give the bundle "
            "that scored them",
            Code.PLACE_EMPTY,
        )
    weighted = own[_AUDITED] > 0
    reasons = _reasons(url) if weighted else {}
    layout = Layout(
        measures_of(bundle.features, read_reference(bundle), kept=False, reasons=reasons),
        (Segments(SEEN, (_FLAGGED, _AUDITED)),) if weighted else (),
        1 / _least_probability(url, bundle.model_id) if weighted else 1.0,
    )
    counter = Counter(layout, bundle.model_id, bundle.features, zone)
    by_weight = {1.0: _count(url, counter, FLAGGED, _FLAGGED)[1.0]}
    if weighted:
        for weight, summary in _count(url, counter, AUDITED, _AUDITED).items():
            before = by_weight.get(weight, Summary.empty(layout))
            by_weight[weight] = Summary.merged(layout, (before, summary))
    summary = _estimated(layout, by_weight)
    if reasons:
        summary = Summary.merged(layout, (summary, *_letters(url, counter, summary)))
    return Counted(
        summary,
        # Most rows that passed are not there, so nothing follows for all of them.
        RowsByScore.merged(()),
        # Of the flagged rows alone, nothing is to be compared with all training rows.
        read_reference(bundle) if weighted else Reference(()),
        others,
        reasons,
        0,
        tuple(_notes(own)),
        None,
    )


def _notes(own: Mapping[str, int]) -> Iterator[str]:
    if own[_AUDITED]:
        yield (
            f"A database has no unflagged rows but those of the audit lane: {own[_FLAGGED]:,} "
            f"flagged and {own[_AUDITED]:,} audited rows were read. Figures of all rows are "
            "estimates, in which each audited row stands for as many as its probability says; "
            "those of `seen=flagged` and `seen=audited` are of the rows themselves."
        )
    else:
        yield (
            f"A database has no unflagged rows, and there is no audit lane (--audit-share): the "
            f"{own[_FLAGGED]:,} rows are the flagged ones. The volume is that of flagged rows, and "
            "the distributions are theirs; the flag rate, the volume of all rows and their scores "
            "are not known, and nothing is compared with the training rows. Nor are dead letters "
            "counted: the number of all records, of which they would be a share, is not known."
        )
    yield "A database keeps no features and no arrival times: monitor an archive for these."


def _models(url: str, model_id: str) -> tuple[dict[str, int], int]:
    """Return the model's flagged and audited rows, and the number of those of other models."""
    own, others = dict[str, int](), 0
    with transaction(url) as connection:
        for name, table in ((_FLAGGED, FLAGGED), (_AUDITED, AUDITED)):
            query = select(table.c.model_id, func.count()).group_by(table.c.model_id)
            rows = {str(model): int(count) for model, count in connection.execute(query)}
            own[name] = rows.pop(model_id, 0)
            others += sum(rows.values())
    return own, others


def _reasons(url: str) -> dict[str, int]:
    query = select(DEAD_LETTERS.c.reason, func.count()).group_by(DEAD_LETTERS.c.reason)
    with transaction(url) as connection:
        found = {str(reason): int(count) for reason, count in connection.execute(query)}
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _least_probability(url: str, model_id: str) -> float:
    query = select(func.min(AUDITED.c.probability)).where(AUDITED.c.model_id == model_id)
    with transaction(url) as connection:
        return float(connection.execute(query).scalar_one())


def _count(url: str, counter: Counter, table: Table, seen: str) -> dict[float, Summary]:
    """Return the summaries of a table's rows by the number of rows that each stands for."""
    own = table.c
    probability = own.probability if "probability" in own else literal(1.0).label("probability")
    query = select(own.event_time, own.amount, own.score, own.decision, probability).where(
        own.model_id == counter.model_id
    )
    if table is AUDITED:
        # What one rule set audited and another one flagged is flagged.
        flagged = select(literal(1)).where(
            FLAGGED.c.transaction_id == own.transaction_id, FLAGGED.c.model_id == own.model_id
        )
        query = query.where(~flagged.exists())
    found: dict[float, Summary] = {} if table is AUDITED else {1.0: Summary.empty(counter.layout)}
    for block in _blocks(url, query, _ROWS):
        rows = len(block)
        columns = {
            **{name: block.column(name) for name in ("event_time", "amount", "score", "decision")},
            "flagged": pa.array(np.full(rows, table is FLAGGED)),
            "model_id": pa.array([counter.model_id] * rows),
            SEEN: pa.array([seen] * rows),
        }
        batch = pa.RecordBatch.from_pydict(columns)
        weights = 1 / block.column("probability").to_numpy()
        for weight in np.unique(weights).tolist():
            part = counter.count(batch.filter(pa.array(weights == weight)))
            before = found.get(weight, Summary.empty(counter.layout))
            found[weight] = Summary.merged(counter.layout, (before, part))
    return found


def _estimated(layout: Layout, by_weight: Mapping[float, Summary]) -> Summary:
    """Return the summary whose first group is weighted, each bin rounded once."""
    days = np.unique(np.concatenate([one.days for one in by_weight.values()]))
    counts = np.zeros((len(days), len(layout.groups), layout.width))
    for weight, summary in by_weight.items():
        places = np.searchsorted(days, summary.days)
        counts[places, 0] += weight * summary.counts[:, 0]
        counts[places, 1:] += summary.counts[:, 1:]
    return Summary(layout, days, np.rint(counts).astype(np.int64))


def _letters(url: str, counter: Counter, summary: Summary) -> Iterator[Summary]:
    """Yield the summaries of dead letters by the day on which they were found."""
    first, last = int(summary.days[0]), int(summary.days[-1])
    query = select(DEAD_LETTERS.c.dead_at, DEAD_LETTERS.c.reason)
    total = Summary.empty(counter.layout)
    for block in _blocks(url, query, _LETTERS):
        days, _ = local_hours(event_micros(block), counter.zone)
        inside = (days >= first) & (days <= last)
        reasons = block.column("reason").filter(pa.array(inside))
        part = letters_by_day(counter.layout, days[inside], reasons)
        total = Summary.merged(counter.layout, (total, part))
    yield total


def _blocks(
    url: str, query: Select[tuple[object, ...]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a query by blocks, as the server sends them."""
    options = {"stream_results": True, "yield_per": _BLOCK_ROWS}
    with one_line_errors(url), engine(url).connect() as connection, connection.begin():
        result = connection.execution_options(**options).execute(query)
        for rows in result.partitions():
            columns = zip(schema.names, zip(*rows, strict=True), strict=True)
            yield pa.RecordBatch.from_pydict(dict(columns), schema=schema)
