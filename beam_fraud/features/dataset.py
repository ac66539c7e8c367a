"""Read transactions of files or a table to one table, to train, evaluate and score."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.velocity.columns import with_velocity
from beam_fraud.features.velocity.reach import WindowReach, look_back
from beam_fraud.monitoring.activity import doing
from beam_fraud.records.dead_share import DeadShare, first_dead_letter
from beam_fraud.records.doubts import Doubt, strange_accounts, warnings_of
from beam_fraud.records.envelopes import CORRECTION, TOMBSTONE
from beam_fraud.records.event_times import EventTimes
from beam_fraud.records.faults import missing_columns
from beam_fraud.records.label_file import NEVER, UNKNOWN, LabelFile
from beam_fraud.records.read import ReadBlock, read_transactions
from beam_fraud.records.time_settlement import SETTLING_ROWS, settled_forms
from beam_fraud.schema.event_time import event_micros, micros_of
from beam_fraud.schema.schema import EVENT_TIME, Labels, Schema
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.sources.columns import absence, absent_columns
from beam_fraud.sources.raw import POSITION
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import find_history, find_inputs
from beam_fraud.sources.table import InputTable, check_table, read_table
from beam_fraud.storage.urls import Place

_log = logging.getLogger(__name__)

#: Files, directories or globs, or a table.
Source: TypeAlias = Sequence[Place] | pa.Table
#: Maximum of currencies that a warning names.
_SHOWN = 5
#: Names of sources in memory.
TABLE, HISTORY_TABLE = "rows", "history"


@dataclass(frozen=True)
class Dataset:
    """Transactions, and counts of the rows that were left out."""

    #: `Schema.transactions` and velocity features, stably sorted by event time.
    transactions: pa.Table
    #: Rows read.
    rows_in: int
    #: Dead letters by reason.
    dead_reasons: dict[str, int]
    #: Rows that repeat an id of the same file.
    rows_duplicate: int
    #: Dead letters with a missing value, by column.
    dead_missing: dict[str, int] = field(default_factory=dict)
    #: Source, position and error of the first dead letter, or None.
    first_dead: tuple[str, int, str] | None = None
    #: Reach of velocity features and of earlier rows; None without velocity features.
    reach: WindowReach | None = None
    #: int64[transactions]: position of each among all rows read, from 0.
    places: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    #: Rows of `stages.DEAD_LETTER` in order of reading; empty unless kept.
    dead_letters: pa.Table = field(default_factory=DEAD_LETTER.empty_table)
    #: Records of deleted rows, and of rows that were changed after their insertion.
    rows_tombstone: int = 0
    rows_correction: int = 0

    @property
    def rows_dead(self) -> int:
        """Number of dead letters."""
        return sum(self.dead_reasons.values())

    @property
    def rows_by_outcome(self) -> dict[str, int]:
        """Number of rows read, and of those left out, by their names in summaries."""
        return {
            "rows_in": self.rows_in,
            "rows_dead": self.rows_dead,
            "rows_duplicate": self.rows_duplicate,
            "rows_tombstone": self.rows_tombstone,
            "rows_correction": self.rows_correction,
        }

    @property
    def left_out(self) -> str:
        """Number and reasons of dead letters, for a warning."""
        share = DeadShare(self.rows_in, self.dead_reasons, self.first_dead)
        return f"{self.rows_dead:,} of {self.rows_in:,} rows left out {share.why}"


def load_dataset(
    files: Source,
    schema: Schema,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    history: Source = (),
    labels: Labels | LabelFile = "required",
    keep_dead_letters: bool = False,
    absent: Literal["warn", "refuse"] = "warn",
) -> Dataset:
    """Read the transactions of files or a table in `[since, until)`.

    Earlier rows and those of the history only fill windows of velocity features.

    Args:
      files: files, directories or globs; or a table.
      schema: the schema of the rows.
      since: event time from which rows are kept, aware; None for the first.
      until: event time before which rows are kept, aware; None for the last.
      history: the same for earlier transactions.
      labels: whether labels are required or optional; or labels that replace those of the rows,
        where rows without a label count as genuine: no report has come.
      keep_dead_letters: whether to keep invalid rows.
      absent: what to do about a column of a feature or an optional role that no source has.

    Raises:
      UsageError: labels are required and the schema has no label, or a file is its own history.
      FraudError: a file cannot be read or lacks a column, none has a column of the schema, each of
        the rows is a dead letter, or most times cannot be those of card payments.
    """
    given, required = None, labels == "required"
    if isinstance(labels, LabelFile):
        given, required = labels, True
        schema, labels = schema.with_labels(), "known"
    if labels == "required" and schema.role("label") is None:
        raise UsageError(
            f"schema {schema.name}: no column is given for the role 'label'", Code.ROLE_MISSING
        )
    inputs = _inputs(files, schema, labels)
    columns = [f.columns for f in inputs]
    if lacking := absent_columns(columns, schema):
        if absent == "refuse":
            raise FraudError(absence(lacking, schema), Code.COLUMN_MISSING)
        _log.warning("%s", absence(lacking, schema))
    earlier = _history(history, inputs, schema, labels)
    first, last = _micros(since), _micros(until)
    # No feature looks further back than the longest window.
    horizon = look_back(schema.velocity)
    seen_from = None if first is None else first - horizon
    past = _Rows(schema, seen_from, last, labels)
    rows = _Rows(schema, seen_from, last, labels, keep_dead_letters)
    inputs_read = f"reading {len(earlier) + len(inputs):,} files"
    with doing(inputs_read, lambda: f"{past.rows_in + rows.rows_in:,} rows"):
        past.read(earlier)
        rows.read(inputs)
    past.refuse_if_all_are_dead("--history: ")
    rows.refuse_if_all_are_dead()
    past.refuse_if_implausible("--history: ")
    rows.refuse_if_implausible()
    for warning in warnings_of(past.doubts + rows.doubts, schema):
        _log.warning("%s", warning)
    if past.rows_left_out:
        _log.warning("%d rows of the history are left out", past.rows_left_out)
    table = pa.Table.from_batches(past.batches + rows.batches, past.described)
    if given is not None:
        table = _labelled(table, given)
    # A stable sort keeps the order of ties.
    order = pc.sort_indices(table, [("event_time", "ascending")])
    with doing(f"computing windows over {len(table):,} rows"):
        table = with_velocity(table.take(order).combine_chunks(), schema.velocity)
    chosen = pc.greater_equal(order, past.rows_kept)
    if first is not None:
        chosen = pc.and_(
            chosen, pc.greater_equal(table["event_time"], pa.scalar(since, EVENT_TIME))
        )
    if earlier or first is not None:
        table = table.filter(chosen)
        order = order.filter(
            chosen.combine_chunks() if isinstance(chosen, pa.ChunkedArray) else chosen
        )
    table = table.combine_chunks()
    if required and (mixed := mixed_currencies(table, schema)) is not None:
        _log.warning("%s", mixed)
    accounts = table["account_id"].unique().drop_null()
    _log_span(table, len(accounts))
    if earlier and schema.role("account_id"):
        known = pc.is_in(accounts, value_set=past.accounts())
        if (strange := strange_accounts(len(accounts), known.true_count)) is not None:
            _log.warning("%s", strange)
    reach = None
    if horizon and table.num_rows:
        # Include the files themselves: rows before `since` fill windows.
        begin = min(t for t in (past.earliest, rows.earliest) if t is not None)
        first_row = int(event_micros(table)[0])
        reach = WindowReach(horizon, False, first_row=begin).measured_from(first_row)
    return Dataset(
        table,
        rows.rows_in,
        dict(rows.reasons),
        rows.duplicates,
        dict(rows.missing),
        rows.first_dead,
        reach,
        rows.places[np.asarray(order, dtype=np.int64) - past.rows_kept],
        pa.Table.from_batches(rows.dead_letters, DEAD_LETTER),
        rows.skipped[TOMBSTONE],
        rows.skipped[CORRECTION],
    )


def _labelled(transactions: pa.Table, given: LabelFile) -> pa.Table:
    """Return n transactions with the labels of a file; rows without any become genuine.

    Args:
      transactions: rows as `Schema.transactions(labels="known")` describes them.
      given: the file.
    """
    labels = transactions["label"].fill_null(int(UNKNOWN)).to_numpy().astype(np.int8)
    known_at = transactions["labelled_at"].cast(pa.int64()).fill_null(NEVER).to_numpy().copy()
    found = given.replace(transactions["transaction_id"].combine_chunks(), labels, known_at)
    unlabelled = labels == UNKNOWN
    _log.info("%d of %d rows have a label of the file", found, len(labels))
    if unlabelled.any():
        _log.info(
            "%d rows without a label count as genuine; --until leaves out rows whose labels are "
            "still to come",
            np.count_nonzero(unlabelled),
        )
        labels[unlabelled] = 0
    columns = {
        "label": pa.array(labels),
        "labelled_at": pa.array(known_at, mask=known_at == NEVER).cast(EVENT_TIME),
    }
    for name, values in columns.items():
        place = transactions.schema.get_field_index(name)
        transactions = transactions.set_column(place, transactions.schema.field(place), values)
    return transactions


def digest_of_rows(rows: pa.Table) -> str:
    """Return a SHA-256 of labelled rows, the same for every form of their files.

    Args:
      rows: n rows as `Schema.transactions(labels="required")` describes them.
    """
    digest = hashlib.sha256()
    for value in rows.column("transaction_id").to_pylist():
        digest.update(f"{value}\n".encode())
    digest.update(np.ascontiguousarray(event_micros(rows), dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(rows.column("amount").to_numpy(), dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(rows.column("label").to_numpy(), dtype="<i1").tobytes())
    return digest.hexdigest()


def mixed_currencies(transactions: pa.Table, schema: Schema) -> str | None:
    """Return a warning if figures by amount add up several currencies, else None."""
    by_currency = [definition.by_currency for definition in schema.velocity]
    if "currency" not in schema.roles or schema.conversion is not None:
        return None
    if by_currency and not any(by_currency):
        # The schema says that the amounts are in one currency.
        return None
    codes = sorted(transactions["currency"].unique().drop_null().to_pylist())
    if len(codes) < 2:
        return None
    shown = ", ".join(codes[:_SHOWN]) + (", ..." if len(codes) > _SHOWN else "")
    return (
        f"amounts are in {len(codes):,} currencies ({shown}), and figures by amount add them up: "
        "write to and rates under [currency] to convert them"
    )


def _log_span(transactions: pa.Table, accounts: int) -> None:
    if not len(transactions):
        return
    times = transactions["event_time"]
    _log.info(
        "%s transactions from %s to %s%s",
        f"{len(transactions):,}",
        *(times[row].as_py().isoformat(timespec="seconds") for row in (0, -1)),
        f" of {accounts:,} accounts" if accounts else "",
    )


def _inputs(files: Source, schema: Schema, labels: Labels) -> Sequence[InputFile | InputTable]:
    if isinstance(files, pa.Table):
        return [_settled(check_table(TABLE, files, schema, labels=labels), schema, labels)]
    return find_inputs(files, schema, labels=labels)


def _history(
    history: Source, inputs: Sequence[InputFile | InputTable], schema: Schema, labels: Labels
) -> Sequence[InputFile | InputTable]:
    if isinstance(history, pa.Table):
        if schema.velocity:
            table = check_table(HISTORY_TABLE, history, schema, labels=labels)
            return [_settled(table, schema, labels)]
        return find_history((Place(HISTORY_TABLE, None),), (), schema, labels=labels)
    files = [file for file in inputs if isinstance(file, InputFile)]
    return find_history(history, files, schema, labels=labels)


def _settled(table: InputTable, schema: Schema, labels: Labels) -> InputTable:
    """Return a table with the forms of its times."""
    raw = read_table(table, SETTLING_ROWS)
    return replace(table, forms=settled_forms(raw, schema, table.name, labels=labels))


class _Rows:
    """The transactions of files in a period, and counts of the other rows."""

    def __init__(
        self,
        schema: Schema,
        first: int | None,
        last: int | None,
        labels: Labels,
        keep_dead_letters: bool = False,
    ) -> None:
        self._schema = schema
        self._labels = labels
        self._first = first
        self._last = last
        self.described = schema.transactions(labels=labels)
        self.batches: list[pa.RecordBatch] = []
        self.dead_letters: list[pa.RecordBatch] = []
        self._places: list[npt.NDArray[np.int64]] = []
        self._keep_dead_letters = keep_dead_letters
        self.rows_in = 0
        self.duplicates = 0
        #: Earliest and latest event time of all rows read, kept or not.
        self.earliest: int | None = None
        self.latest: int | None = None
        self.reasons = Counter[str]()
        self.missing = Counter[str]()
        self.doubts = Counter[Doubt]()
        self.skipped = Counter[str]()
        self.first_dead: tuple[str, int, str] | None = None

    @property
    def rows_kept(self) -> int:
        return sum(len(batch) for batch in self.batches)

    def accounts(self) -> pa.Array:
        """Return the distinct accounts of the kept rows."""
        columns = [batch.column("account_id") for batch in self.batches]
        return pa.chunked_array(columns, pa.string()).unique()

    @property
    def rows_left_out(self) -> int:
        return self.duplicates + self.reasons.total() + self.skipped.total()

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Return the position of each kept row among all rows read."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._places])

    def read(self, files: Sequence[InputFile | InputTable]) -> None:
        for file in files:
            before = self.rows_in
            for block in read_transactions([file], self._schema, labels=self._labels):
                self._add(block, before)

    def _add(self, block: ReadBlock, before: int) -> None:
        """Add a block of a source that starts after `before` rows."""
        self.rows_in += len(block.transactions) + block.rows_left_out
        self.skipped += block.skipped
        self.duplicates += block.duplicates
        self.doubts += block.doubts
        self.reasons.update(block.dead_letters.column("reason").to_pylist())
        if self.first_dead is None:
            self.first_dead = first_dead_letter([block.dead_letters])
        if self._keep_dead_letters:
            self.dead_letters.append(block.dead_letters)
        self.missing.update(missing_columns(block.dead_letters))
        batch = self._between(block.transactions)
        self._places.append(before + batch.column(POSITION).to_numpy())
        self.batches.append(batch.drop_columns([POSITION]).replace_schema_metadata(None))

    def refuse_if_all_are_dead(self, whose: str = "") -> None:
        refusal = DeadShare(self.rows_in, self.reasons, self.first_dead).refusal(None)
        if refusal is not None:
            raise FraudError(f"{whose}{refusal}", Code.ROWS_INVALID)

    def refuse_if_implausible(self, whose: str = "") -> None:
        times = EventTimes(
            self.rows_in - self.rows_left_out + self.duplicates,
            self.earliest,
            self.latest,
            self.doubts,
        )
        refusal = times.refusal(self._schema.roles["event_time"])
        if refusal is not None:
            raise FraudError(f"{whose}{refusal}", Code.TIMES_IMPLAUSIBLE)

    def _between(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        times = event_micros(batch)
        if len(times):
            first, last = int(times.min()), int(times.max())
            self.earliest = first if self.earliest is None else min(self.earliest, first)
            self.latest = last if self.latest is None else max(self.latest, last)
        selected = np.ones(len(batch), dtype=bool)
        if self._first is not None:
            selected &= times >= self._first
        if self._last is not None:
            selected &= times < self._last
        return batch if selected.all() else batch.filter(pa.array(selected))


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else micros_of(moment)
