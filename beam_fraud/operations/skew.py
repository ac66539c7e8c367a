"""Join the rows of two archives by their transactions, and compare them column by column.

Rows are spilled to parts by a hash of their ids, and the parts are joined one after the other: so
many rows are in memory, however large the archives are. Archives of models with different features
have structs of different types; here each feature is a column of its own, null in rows whose model
lacks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.decisions.inputs import FEATURES
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.models.drift import SHADOW
from beam_fraud.monitoring.skew import (
    Alone,
    Compared,
    Skew,
    SkewTally,
    compared_numbers,
    compared_texts,
)
from beam_fraud.operations.audit.archive import Archive
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, micros_of, moment_of
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.sources.filesystem import open_file
from beam_fraud.storage.batch_outputs import SCORES
from beam_fraud.storage.spill import MOST_PARTS, SpilledPart, SpillWriter, read_spilled, split
from beam_fraud.storage.temporary import temporary_directory
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line

#: Rows read at once.
_BLOCK_ROWS = 65_536
#: Rows of one archive in a part.
_PART_ROWS = 250_000
#: Columns of a row that are compared as text or time, and as numbers.
_TEXTS = ("event_time", "account_id", "merchant_id")
_OF_ROW = ("transaction_id", *_TEXTS, "amount", "score", "decision", "model_id")
#: Prefix of the column of a feature in a part: a feature may be called `score`.
_FEATURE = "feature:"
#: Differences that are written at most.
MOST_CHANGES = 1_000_000
#: A difference: the values of a column in both archives.
CHANGES = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("event_time", EVENT_TIME, nullable=False),
        # `only_in_first` and `only_in_second` of a row that the other archive lacks.
        pa.field("column", pa.string(), nullable=False),
        # Of numbers.
        pa.field("first", pa.float64()),
        pa.field("second", pa.float64()),
        # Of everything else.
        pa.field("first_text", pa.string()),
        pa.field("second_text", pa.string()),
    ]
)


@dataclass(frozen=True)
class SkewSettings:
    """The rows to compare, and the tolerance of values."""

    #: Rows of this model alone, also where it is only compared; None: the rows that decided.
    model_id: str | None = None
    #: First event time, and first one after the rows; None for no bound.
    since: datetime | None = None
    until: datetime | None = None
    #: As in `compared_numbers`.
    tolerance: float = 1e-9


@dataclass(frozen=True)
class SkewFound:
    """The figures, and what was written."""

    skew: Skew
    #: Differences in the file, and whether there are more.
    written: int
    cut: bool


def compare_archives(
    first: Place, second: Place, settings: SkewSettings, changes: BinaryIO | None = None
) -> SkewFound:
    """Compare the rows of two archives that have the same transactions.

    Args:
      first, second: `--out` of `score`, `stream` or `rescore`, or `--state` of `serve`.
      settings: what is compared.
      changes: receives up to `MOST_CHANGES` differences as Parquet of `CHANGES`; None for none.

    Raises:
      FraudError: an archive has no such rows, or a file cannot be read.
      OSError: a part cannot be written to `TMPDIR`.
    """
    sides = [_Side(place, settings) for place in (first, second)]
    own = [set(side.features) for side in sides]
    shared = [name for name in sides[0].features if name in own[1]]
    parts = min(max(-(-max(side.rows for side in sides) // _PART_ROWS), 1), MOST_PARTS // 2)
    hashing = IdHash.random()
    with temporary_directory() as directory:
        # A thread each: decoding and hashing leave the interpreter to the other.
        with ThreadPoolExecutor(len(sides)) as pool:
            spilled = list(
                pool.map(
                    lambda at: sides[at].spill(shared, hashing, parts, directory, f"side{at}"),
                    range(len(sides)),
                )
            )
        for side, spill in zip(sides, spilled, strict=True):
            if not spill.rows:
                raise FraudError(side.nothing, Code.PLACE_EMPTY)
        since = max(spill.earliest for spill in spilled)
        until = min(spill.latest for spill in spilled)
        join = _Join(shared, (since, until), settings.tolerance, changes)
        for part in range(parts):
            join.add(*(spill.table(part) for spill in spilled))
        written, cut = join.close()
    tally = join.tally
    return SkewFound(
        Skew(
            first=first.shown,
            second=second.shown,
            rows_first=tally.pairs + tally.only_in_first,
            rows_second=tally.pairs + tally.only_in_second,
            repeated=join.repeated,
            outside=join.outside,
            since=moment_of(since).isoformat() if since <= until else None,
            until=moment_of(until).isoformat() if since <= until else None,
            pairs=tally.pairs,
            only_in_first=tally.only_in_first,
            only_in_second=tally.only_in_second,
            rows_differ=tally.rows_differ,
            other_models=tally.other_models,
            without_features=tally.without_features,
            features_of_first=tuple(sorted(own[0] - own[1])),
            features_of_second=tuple(sorted(own[1] - own[0])),
            tolerance=settings.tolerance,
            columns=tally.columns,
            days=tally.days,
        ),
        written,
        cut,
    )


@dataclass(frozen=True)
class _Spill:
    """The rows of one archive in parts."""

    parts: dict[int, SpilledPart]
    rows: int
    #: Event times, microseconds.
    earliest: int
    latest: int
    schema: pa.Schema

    def table(self, part: int) -> pa.Table:
        """Return the rows of a part, in the order of the archive."""
        if part not in self.parts:
            return self.schema.empty_table()
        return pa.Table.from_batches(read_spilled(self.parts[part]))


class _Side:
    """One archive."""

    def __init__(self, place: Place, settings: SkewSettings) -> None:
        self._archive = Archive(place)
        self._archive.check()
        self._settings = settings
        self._files: list[tuple[str, pa.Schema, int]] = []
        for name in self._archive.files(SCORES):
            with self._opened(name) as file:
                self._files.append((name, file.schema_arrow, file.metadata.num_rows))

    @cached_property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(rows for _, _, rows in self._files)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Features that any file keeps."""
        kept = (
            field.name
            for _, schema, _ in self._files
            if FEATURES in schema.names
            for field in schema.field(FEATURES).type
        )
        return tuple(dict.fromkeys(kept))

    @property
    def nothing(self) -> str:
        """The message that no row is to be compared."""
        of = "" if self._settings.model_id is None else f" of {self._settings.model_id}"
        return (
            f"{self._archive.place.shown}: has no rows{of} to compare; see --model, --from and "
            "--until"
        )

    def spill(
        self, features: Sequence[str], hashing: IdHash, parts: int, directory: Path, name: str
    ) -> _Spill:
        """Write the chosen rows to parts by the hash of their ids."""
        writer = SpillWriter(directory, name)
        schema = _spilled_schema(features)
        rows, earliest, latest = 0, np.iinfo(np.int64).max, np.iinfo(np.int64).min
        for batch in self._batches(features, schema):
            times = event_micros(batch)
            rows += len(batch)
            earliest, latest = min(earliest, int(times.min())), max(latest, int(times.max()))
            hashes = hashing.of(batch.column("transaction_id"))
            for part, inside in split(batch, hashes % np.uint64(parts)):
                writer.write(part, inside)
        written = {part.part: part for part in writer.close()}
        return _Spill(written, rows, earliest, latest, schema)

    def _batches(self, features: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for name, described, rows in self._files:
            if not rows:
                continue
            columns = [*_OF_ROW, SHADOW, FEATURES]
            there = [column for column in columns if column in described.names]
            with self._opened(name) as file:
                for batch in file.iter_batches(_BLOCK_ROWS, columns=there, use_threads=False):
                    chosen = self._chosen(batch)
                    if len(chosen):
                        yield _flat(chosen, features, schema)

    def _chosen(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that the settings ask for."""
        settings = self._settings
        mask = pa.array(np.ones(len(batch), np.bool_))
        if settings.model_id is not None:
            mask = pc.equal(batch.column("model_id"), settings.model_id)
        elif SHADOW in batch.schema.names:
            mask = pc.invert(pc.fill_null(batch.column(SHADOW), False))
        times = event_micros(batch)
        if settings.since is not None:
            mask = pc.and_(mask, pa.array(times >= micros_of(settings.since)))
        if settings.until is not None:
            mask = pc.and_(mask, pa.array(times < micros_of(settings.until)))
        return batch.filter(mask)

    @contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        """Open a file; errors are one line."""
        path = self._archive.store.place(name)
        try:
            place = Place(path, self._archive.place.local and Path(path))
            with closing(open_file(place)) as opened, pq.ParquetFile(opened) as file:
                yield file
        except (OSError, pa.ArrowException, KeyError) as error:
            raise FraudError(
                f"{path}: cannot be read ({first_line(error)})", Code.INPUT_DAMAGED
            ) from None


def _spilled_schema(features: Sequence[str]) -> pa.Schema:
    texts = ("transaction_id", "account_id", "merchant_id", "decision", "model_id")
    return pa.schema(
        [
            *(pa.field(name, pa.string()) for name in texts),
            pa.field("event_time", EVENT_TIME),
            *(pa.field(name, pa.float64()) for name in ("amount", "score")),
            pa.field(FEATURES, pa.bool_()),
            *(pa.field(_FEATURE + name, pa.float64()) for name in features),
        ]
    )


def _flat(batch: pa.RecordBatch, features: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows with a column for each feature; null where their model lacks it."""
    columns: dict[str, pa.Array] = {
        name: batch.column(name).cast(schema.field(name).type)
        for name in _OF_ROW
        if name in batch.schema.names
    }
    kept: dict[str, pa.Array] = {}
    if FEATURES in batch.schema.names:
        struct = batch.column(FEATURES)
        names = (field.name for field in struct.type)
        kept = dict(zip(names, struct.flatten(), strict=True))
        columns[FEATURES] = pc.is_valid(struct)
    else:
        columns[FEATURES] = pa.array(np.zeros(len(batch), np.bool_))
    columns |= {_FEATURE + name: kept[name] for name in features if name in kept}
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Join:
    """Joins and compares the rows of parts."""

    def __init__(
        self,
        features: Sequence[str],
        span: tuple[int, int],
        tolerance: float,
        changes: BinaryIO | None,
    ) -> None:
        self.tally = SkewTally()
        self.repeated = 0
        self.outside = 0
        self._features = features
        self._span = span
        self._tolerance = tolerance
        self._writer = None if changes is None else pq.ParquetWriter(changes, CHANGES)
        self._written = 0
        self._cut = False

    def add(self, first: pa.Table, second: pa.Table) -> None:
        """Compare the rows of a part of both archives."""
        first, second = self._distinct(first), self._distinct(second)
        found = pc.index_in(first["transaction_id"], value_set=second["transaction_id"])
        places = np.asarray(pc.fill_null(found, -1), dtype=np.int64)
        ours = np.flatnonzero(places >= 0)
        theirs = places[ours]
        self._single("only_in_first", first, np.flatnonzero(places < 0))
        alone = np.ones(len(second), np.bool_)
        alone[theirs] = False
        self._single("only_in_second", second, np.flatnonzero(alone))
        self._pairs(first.take(pa.array(ours)), second.take(pa.array(theirs)))

    def close(self) -> tuple[int, bool]:
        """Finish the file; return its rows, and whether there are more differences."""
        if self._writer is not None:
            self._writer.close()
        return self._written, self._cut

    def _distinct(self, rows: pa.Table) -> pa.Table:
        """Return the first row of each transaction."""
        codes = rows["transaction_id"].combine_chunks().dictionary_encode().indices
        _, places = np.unique(np.asarray(codes, dtype=np.int64), return_index=True)
        self.repeated += len(rows) - len(places)
        return rows if len(places) == len(rows) else rows.take(pa.array(np.sort(places)))

    def _single(self, side: Alone, rows: pa.Table, places: npt.NDArray[np.intp]) -> None:
        """Count the rows at places, whose transaction the other archive lacks."""
        times = event_micros(rows)[places]
        inside = (times >= self._span[0]) & (times <= self._span[1])
        self.outside += int((~inside).sum())
        chosen = places[inside]
        self.tally.add_single(side, times[inside] // DAY)
        self._write(rows.take(pa.array(chosen)), side, None, None)

    def _pairs(self, first: pa.Table, second: pa.Table) -> None:
        columns = list(self._compared(first, second))
        self.tally.add_pairs(event_micros(first) // DAY, columns)
        for column in columns:
            if self._writer is None or not column.differ.any():
                continue
            places = pa.array(np.flatnonzero(column.differ))
            name = column.name if column.kind != "feature" else _FEATURE + column.name
            values = [rows[name].take(places) for rows in (first, second)]
            self._write(first.take(places), column.name, *values)

    def _compared(self, first: pa.Table, second: pa.Table) -> Iterator[Compared]:
        every = np.ones(len(first), np.bool_)
        same_model = np.asarray(pc.equal(first["model_id"], second["model_id"]), dtype=np.bool_)
        self.tally.other_models += int((~same_model).sum())
        kept = np.asarray(pc.and_(first[FEATURES], second[FEATURES]), dtype=np.bool_)
        self.tally.without_features += int((~kept).sum())

        def numbers(name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
            one, other = (rows[name].to_numpy() for rows in (first, second))
            return one, other

        for name in _TEXTS:
            yield compared_texts(name, "row", first[name], second[name], every)
        yield compared_numbers("amount", "row", *numbers("amount"), every, self._tolerance)
        for feature in self._features:
            name = _FEATURE + feature
            both = np.asarray(
                pc.and_(pc.is_valid(first[name]), pc.is_valid(second[name])), dtype=np.bool_
            )
            yield compared_numbers(feature, "feature", *numbers(name), both, self._tolerance)
        yield compared_numbers("score", "score", *numbers("score"), same_model, self._tolerance)
        yield compared_texts(
            "decision", "decision", first["decision"], second["decision"], same_model
        )

    def _write(
        self,
        rows: pa.Table,
        column: str,
        first: pa.ChunkedArray | None,
        second: pa.ChunkedArray | None,
    ) -> None:
        """Write a difference for each row, as long as there is room."""
        if self._writer is None or not len(rows):
            return
        room = min(len(rows), MOST_CHANGES - self._written)
        self._cut |= room < len(rows)
        self._written += room
        numeric = first is not None and pa.types.is_floating(first.type)

        def values(side: pa.ChunkedArray | None, type: pa.DataType, *, wanted: bool) -> object:
            if side is None or not wanted:
                return pa.nulls(room, type)
            return side.slice(0, room).cast(type)

        self._writer.write_table(
            pa.table(
                [
                    rows["transaction_id"].slice(0, room),
                    rows["event_time"].slice(0, room),
                    pa.repeat(pa.scalar(column), room),
                    *(values(side, pa.float64(), wanted=numeric) for side in (first, second)),
                    *(values(side, pa.string(), wanted=not numeric) for side in (first, second)),
                ],
                schema=CHANGES,
            )
        )
