"""The scored rows of an archive, read by blocks with all sides of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError
from beam_fraud.evaluation.rows import Ints
from beam_fraud.sources.filesystem import open_file
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line

#: Rows read at once.
_BLOCK_ROWS = 131_072
#: Columns that tell sides apart.
_IDENTITY = ("model_id", "rule_set")
#: Columns of a transaction, and those of a side's answer.
OF_ROW = ("transaction_id", "event_time", "account_id", "merchant_id", "amount")
OF_LABEL = ("label", "labelled_at")
OF_SIDE = ("score", "flagged", "decision", "rules", "reasons")
#: Columns of an answer that archives of earlier versions lack.
LATER_OF_SIDE = ("shadow_rules",)


@dataclass(frozen=True)
class Side:
    """A model with or without rules, one of those that are compared."""

    #: Its name in conditions and columns: `new`, `old`, `old2`, ...
    key: str
    #: Its name for people.
    name: str
    #: Value of the column `model_id`.
    model_id: str
    #: Value of the column `rule_set`; "" without rules.
    rule_set: str
    #: The model's own threshold: a score of at least this is flagged without any rule.
    threshold: float


@dataclass(frozen=True)
class Partition:
    """A part of the archive."""

    #: Name of its directory.
    name: str
    #: Its Parquet files of scored rows, in order.
    files: tuple[Place, ...]


@dataclass(frozen=True)
class Block:
    """n transactions that every side has scored."""

    #: n rows: columns of the transaction.
    rows: pa.Table
    #: n rows for each side, in the same order: columns of its answer.
    sides: tuple[pa.Table, ...]


class ScoredRows:
    """The scored rows of partitions.

    Args:
      partitions: in the order of time.
      sides: sides to read; rows of others are skipped.
    """

    def __init__(self, partitions: Sequence[Partition], sides: Sequence[Side]) -> None:
        self._partitions = partitions
        self._sides = sides
        #: Rows that only some of the sides have scored, found by `blocks`.
        self.left_out = 0
        #: Partitions in which all sides are known to be in the same order.
        self._in_order: set[str] = set()

    def bounds(self, column: str) -> tuple[int, int] | None:
        """Return the first and last value of a column of times; None if it has none.

        Footers of files give them; a column is read where a footer lacks them.
        """
        found: list[tuple[int, int]] = []
        for partition in self._partitions:
            for file in partition.files:
                found += _bounds(file, column)
        return (min(low for low, _ in found), max(high for _, high in found)) if found else None

    def blocks(self, row_columns: Sequence[str], side_columns: Sequence[str]) -> Iterator[Block]:
        """Read blocks of rows with the sides next to each other.

        Where the sides of a partition are in the same order, one block of each is in memory;
        otherwise the partition is. Ids are compared once: a second pass reads none.

        Args:
          row_columns: columns of transactions; missing ones are left out.
          side_columns: columns of answers.

        Raises:
          FraudError: a file is damaged.
        """
        self.left_out = 0
        for partition in self._partitions:
            waiting: list[list[pa.Table]] = [[] for _ in self._sides]
            aligned, known = True, partition.name in self._in_order
            ids = () if known else ("transaction_id",)
            columns = list(dict.fromkeys((*ids, *row_columns, *side_columns)))
            for batch in _in_turn(partition.files, [*columns, *_IDENTITY]):
                for place, side in enumerate(self._sides):
                    own = _rows_of(batch, side)
                    if own.num_rows:
                        waiting[place].append(own)
                if aligned and (count := min(map(_count, waiting))):
                    heads = [pa.concat_tables(w).slice(0, count) for w in waiting]
                    aligned = known or _same_ids(heads)
                    if aligned:
                        rests = [pa.concat_tables(w).slice(count) for w in waiting]
                        waiting = [[rest] if rest.num_rows else [] for rest in rests]
                        yield _block(heads, row_columns, side_columns)
            if aligned and not any(waiting):
                self._in_order.add(partition.name)
            if any(waiting):
                tables = [pa.concat_tables(w) if w else None for w in waiting]
                joined = None if None in tables else _joined([t for t in tables if t is not None])
                kept = 0 if joined is None else joined[0].num_rows
                self.left_out += max(0 if t is None else t.num_rows for t in tables) - kept
                if joined is not None and kept:
                    yield _block(joined, row_columns, side_columns)


def _count(tables: Sequence[pa.Table]) -> int:
    return sum(table.num_rows for table in tables)


def _block(
    tables: Sequence[pa.Table], row_columns: Sequence[str], side_columns: Sequence[str]
) -> Block:
    there = [name for name in dict.fromkeys(row_columns) if name in tables[0].column_names]
    answers = []
    for one in tables:
        lacking = {name for name in LATER_OF_SIDE if name not in one.column_names}
        answers.append(one.select([name for name in side_columns if name not in lacking]))
    return Block(tables[0].select(there), tuple(answers))


def _in_turn(files: Sequence[Place], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read a batch of each file in turn: sides may have files of their own."""
    reading = [_batches(file, columns) for file in files]
    while reading:
        for batches in tuple(reading):
            batch = next(batches, None)
            if batch is None:
                reading.remove(batches)
            else:
                yield batch


def _batches(file: Place, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        with open_file(file) as source:
            there = [name for name in columns if name in pq.read_schema(source).names]
            encoded = [name for name in _IDENTITY if name in there]
            opened = pq.ParquetFile(source, read_dictionary=encoded)
            yield from opened.iter_batches(_BLOCK_ROWS, columns=there)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Place, error: Exception) -> FraudError:
    return FraudError(
        f"{file}: cannot be read ({first_line(error)}); remove its partition and run again",
        Code.INPUT_DAMAGED,
    )


def _rows_of(batch: pa.RecordBatch, side: Side) -> pa.Table:
    mask = _equal(batch.column("model_id"), side.model_id)
    if "rule_set" in batch.schema.names:
        mask &= _equal(batch.column("rule_set"), side.rule_set)
    table = pa.Table.from_batches([batch])
    places = np.flatnonzero(mask)
    if not len(places):
        return table.slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    if last - first + 1 == len(places):
        # Sides come in runs of rows.
        return table.slice(first, len(places))
    return table.take(pa.array(places))


def _equal(column: pa.DictionaryArray, value: str) -> npt.NDArray[np.bool_]:
    """Return bool[n]: where a column has a value."""
    code = column.dictionary.index(value).as_py()
    if code < 0:
        return np.zeros(len(column), dtype=bool)
    holds: npt.NDArray[np.bool_] = np.asarray(column.indices.fill_null(-1)) == code
    return holds


def _same_ids(tables: Sequence[pa.Table]) -> bool:
    first = tables[0].column("transaction_id")
    return all(first.equals(other.column("transaction_id")) for other in tables[1:])


def _joined(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Return the rows of all tables with the same ids, in the order of the first.

    Rows that repeat an id match by their number among its rows.
    """
    ids = pa.chunked_array(
        [chunk for table in tables for chunk in table.column("transaction_id").chunks]
    )
    codes = np.asarray(ids.combine_chunks().dictionary_encode().indices, dtype=np.int64)
    ends = np.cumsum([table.num_rows for table in tables])
    keys = [_keys(part) for part in np.split(codes, ends[:-1])]
    shared = keys[0]
    for key in keys[1:]:
        shared = np.intersect1d(shared, key, assume_unique=True)
    in_order = keys[0][np.isin(keys[0], shared, assume_unique=True)]
    joined = []
    for table, key in zip(tables, keys, strict=True):
        order = np.argsort(key)
        places = order[np.searchsorted(key[order], in_order)]
        joined.append(table.take(pa.array(places)))
    return joined


def _keys(codes: Ints) -> Ints:
    """Return a distinct number for each row: the code of its id with its number among them."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    repeats = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    keys = np.empty(len(codes), dtype=np.int64)
    # Repeats are fewer than rows of a partition: 31 bits hold them.
    keys[order] = ordered + (repeats << 32)
    return keys


def _bounds(file: Place, column: str) -> list[tuple[int, int]]:
    try:
        with open_file(file) as source, pq.ParquetFile(source) as opened:
            if column not in opened.schema_arrow.names:
                return []
            at = opened.schema_arrow.names.index(column)
            names = [opened.schema.column(i).path for i in range(len(opened.schema))]
            at = names.index(column)
            found = []
            for group in range(opened.metadata.num_row_groups):
                figures = opened.metadata.row_group(group).column(at).statistics
                if figures is None or not figures.has_min_max:
                    if figures is not None and figures.null_count == figures.num_values == 0:
                        continue
                    values = opened.read_row_group(group, columns=[column]).column(column)
                    limits = pc.min_max(values.cast(pa.timestamp("us", "UTC"))).as_py()
                    ends = (limits["min"], limits["max"])
                else:
                    ends = (figures.min, figures.max)
                if ends[0] is not None:
                    micros = pa.array(ends, pa.timestamp("us", "UTC")).cast(pa.int64())
                    found.append((micros[0].as_py(), micros[1].as_py()))
            return found
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from None
