"""Summarise the scored rows of an archive, on all cores, without holding them."""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.decisions.inputs import DECIDED_AT, FEATURES
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import Bundle, read_reference
from beam_fraud.models.drift import (
    SEGMENT_VALUES,
    Counter,
    arrivals_of,
    column_of,
    largest,
    measures_of,
    own_rows,
    segment_values,
    text_column,
)
from beam_fraud.models.reference import Reference
from beam_fraud.monitoring.drift.arrivals import Arrivals
from beam_fraud.monitoring.drift.summary import Layout, Segments, Summary
from beam_fraud.operations.audit.archive import Archive
from beam_fraud.operations.dead_letters.directory import read_headers
from beam_fraud.operations.dead_letters.store import ROWS_AT_A_TIME
from beam_fraud.operations.drift.dead_letter_days import DeadLetterDays
from beam_fraud.operations.drift.quality import RowsByScore, ScoreCounter
from beam_fraud.records.label_file import LabelFile
from beam_fraud.sources.filesystem import open_file
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES, STREAM
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line

_T = TypeVar("_T")
#: Rows counted at once.
_BLOCK_ROWS = 131_072
#: Distinct values above which a column divides rows into too many parts.
_MOST_VALUES = 100_000
#: Rows from which the weights of features are computed.
_SAMPLE_ROWS = 2_000
#: Columns in which few values repeat.
_REPEATING = {SCORES: ["model_id", "decision"], DEAD_LETTERS: ["reason"]}
#: Files that are read side by side.
_TOGETHER = min(os.cpu_count() or 1, 8)


@dataclass(frozen=True)
class Counted:
    """The counts of an archive."""

    summary: Summary
    #: The same rows by score, with the frauds that the labels name; empty of a database.
    by_score: RowsByScore
    reference: Reference
    #: Rows of other models, or of models that are only compared.
    rows_other_models: int
    #: Reason to the number of its dead letters, and those of them that belong to no day.
    dead_letters: dict[str, int]
    dead_letters_undated: int
    #: What it does not tell, and why.
    notes: tuple[str, ...]
    #: Features of some rows, float64[m, features]; None if the archive has none.
    sample: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None


def count_archive(
    place: Place,
    bundle: Bundle,
    segments: Sequence[str | Segments] = (),
    zone: tzinfo = UTC,
    reasons: Mapping[str, int] | None = None,
    labels: LabelFile | None = None,
) -> Counted:
    """Count the rows of an archive that a model decided.

    Args:
      place: `--out` of `score`, `stream` or `rescore`, or `--state` of `serve`.
      bundle: the model.
      segments: columns whose values divide the rows, too; or columns with the values to tell apart.
      zone: time zone of days and hours.
      reasons: reasons of dead letters to tell apart, with their number; None for its own.
      labels: labels of frauds to find among the rows, or None.

    Raises:
      FraudError: it holds no scores or none of the model, or a file cannot be read.
      UsageError: no file has the column of a segment, or it has too many values.
    """
    archive = Archive(place)
    archive.check()
    scan = _Scan(archive, bundle, zone)
    if not scan.files:
        raise FraudError(
            f"{place.shown}: its files of scores have no rows; give an archive with some",
            Code.PLACE_EMPTY,
        )
    divided = tuple(one if isinstance(one, Segments) else scan.segments(one) for one in segments)
    reference = read_reference(bundle)
    dead = scan.dead_letters()
    arrivals, notes = scan.arrivals()
    measures = measures_of(
        bundle.features,
        reference,
        kept=scan.kept,
        reasons=dead if reasons is None else reasons,
        late=arrivals is not None,
    )
    layout = Layout(measures, divided)
    counter = Counter(layout, bundle.model_id, bundle.features, zone, arrivals)
    summary, by_score, rows = scan.summary(counter, labels)
    own = int(summary.of("decision").sum())
    if not own:
        raise FraudError(
            f"{place.shown}: none of its {rows:,} rows was decided by {bundle.model_id}; give the "
            "bundle that scored them",
            Code.PLACE_EMPTY,
        )
    undated = 0
    if dead:
        letters, undated = scan.letters_by_day(
            counter, (int(summary.days[0]), int(summary.days[-1]))
        )
        summary = Summary.merged(counter.layout, (summary, letters))
    return Counted(
        summary,
        by_score,
        reference,
        rows - own,
        dead,
        undated,
        notes,
        scan.sample(own),
    )


def dead_letters_of(place: Place, bundle: Bundle) -> dict[str, int]:
    """Return the number of an archive's dead letters of each reason.

    Raises:
      FraudError: a file cannot be read.
    """
    return _Scan(Archive(place), bundle, UTC).dead_letters()


class _Scan:
    """The files of an archive."""

    def __init__(self, archive: Archive, bundle: Bundle, zone: tzinfo) -> None:
        self._archive = archive
        self._bundle = bundle
        self._features = bundle.features
        opened = self._each(SCORES, lambda name, file: (name, file.schema_arrow, file.metadata))
        #: Files with rows, and the schema of each.
        self.files = [(name, schema) for name, schema, meta in opened if meta.num_rows]
        names = list(self._features.names)
        #: Whether rows keep the features of the model.
        self.kept = any(
            FEATURES in schema.names
            and [field.name for field in schema.field(FEATURES).type] == names
            for _, schema in self.files
        )

    def segments(self, column: str) -> Segments:
        """Return the groups of a column: the most frequent values, and all others.

        Raises:
          UsageError: no file has it, or it has too many values.
        """
        known = self._features.categories.get(column)
        if known is not None and self.kept:
            return Segments(column, segment_values(known))
        columns = {column_of(column, schema, self._features) for _, schema in self.files} - {""}
        if not columns or FEATURES in columns:
            raise UsageError(
                f"--segment {column}: no row of {self._archive.place.shown} has it; give a column "
                "of scored rows, or with --keep-features a categorical feature or what rules read",
                Code.COLUMN_MISSING,
            )

        def tally(name: str, file: pq.ParquetFile) -> Tally[str]:
            own: Tally[str] = Tally()
            place = column_of(column, file.schema_arrow, self._features)
            for batch in file.iter_batches(_BLOCK_ROWS, columns=[place] if place else []):
                if place:
                    counts = pc.value_counts(text_column(batch, column).drop_null())
                    values, numbers = counts.field("values"), counts.field("counts")
                    own.update(dict(zip(values.to_pylist(), numbers.to_pylist(), strict=True)))
                if len(own) > _MOST_VALUES:
                    break
            return own

        total: Tally[str] = Tally()
        for one in self._each(SCORES, tally):
            total.update(one)
        if len(total) > _MOST_VALUES:
            raise UsageError(
                f"--segment {column}: has over {_MOST_VALUES:,} values; give a column with few",
                Code.OPTION_VALUE,
            )
        return Segments(column, tuple(largest(total, SEGMENT_VALUES)))

    def summary(
        self, counter: Counter, labels: LabelFile | None
    ) -> tuple[Summary, RowsByScore, int]:
        """Return the summary of all files, their rows by score, and the number of their rows."""
        scores = ScoreCounter(counter, labels)

        def of_file(name: str, file: pq.ParquetFile) -> tuple[Summary, RowsByScore, int]:
            parts: list[Summary] = []
            by_score: list[RowsByScore] = []
            rows = 0
            schema = file.schema_arrow
            columns = list(dict.fromkeys([*counter.columns(schema), *scores.columns(schema)]))
            for batch in file.iter_batches(_BLOCK_ROWS, columns=columns, use_threads=False):
                parts.append(counter.count(batch))
                by_score.append(scores.count(batch))
                rows += len(batch)
                if len(parts) > 16:
                    parts = [Summary.merged(counter.layout, parts)]
                    by_score = [RowsByScore.merged(by_score)]
            return Summary.merged(counter.layout, parts), RowsByScore.merged(by_score), rows

        found = self._each(SCORES, of_file)
        summary = Summary.merged(counter.layout, (one for one, _, _ in found))
        merged = RowsByScore.merged(one for _, one, _ in found)
        return summary, merged, sum(rows for _, _, rows in found)

    def arrivals(self) -> tuple[Arrivals | None, tuple[str, ...]]:
        """Return when rows arrived, or None and why that is unknown."""
        archive = self._archive
        live = any(archive.store.list(f"{above}{STREAM}/*") for above in ("", "[0-9]*/"))
        if not live:
            return None, (
                "How late rows arrive is not known: a run over files decides them at once, in no "
                "order of arrival. The archives of stream and serve tell it.",
            )

        def of_file(name: str, file: pq.ParquetFile) -> Arrivals:
            parts: list[Arrivals] = []
            if DECIDED_AT in file.schema_arrow.names:
                for batch in file.iter_batches(_BLOCK_ROWS, columns=["event_time", DECIDED_AT]):
                    parts.append(arrivals_of(batch))
            return Arrivals.merged(parts)

        found = Arrivals.merged(self._each(SCORES, of_file))
        if not len(found.minutes):
            return None, (
                "How late rows arrive is not known: they do not say when they were decided. Run "
                "stream or serve with --keep-features.",
            )
        return found, ()

    def letters_by_day(self, counter: Counter, days: tuple[int, int]) -> tuple[Summary, int]:
        """Return the summary of dead letters, and the number of those that belong to no day."""
        above = {Path(name).parent for name in self._archive.files(DEAD_LETTERS)}
        local = self._archive.place.local
        headers = {
            source: header
            for directory in above
            if local is not None
            for source, header in read_headers(local / directory).items()
        }
        schema = self._bundle.schema
        dated = DeadLetterDays(schema, counter.layout, days, counter.zone, headers)
        columns = ["source", "position", "reason", "payload"]

        def of_file(name: str, file: pq.ParquetFile) -> tuple[Summary, int]:
            parts, undated = [Summary.empty(counter.layout)], 0
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=columns):
                part, unknown = dated.count(batch)
                parts = [Summary.merged(counter.layout, [*parts, part])]
                undated += unknown
            return parts[0], undated

        found = self._each(DEAD_LETTERS, of_file)
        summary = Summary.merged(counter.layout, (part for part, _ in found))
        return summary, sum(unknown for _, unknown in found)

    def sample(self, own: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
        """Return the features of some rows, from files spread over the archive."""
        if not self.kept:
            return None
        chosen = self.files[:: max(1, len(self.files) // 8)]
        each = -(-_SAMPLE_ROWS // len(chosen))
        blocks: list[np.ndarray[tuple[int, int], np.dtype[np.float64]]] = []

        def some(name: str, file: pq.ParquetFile) -> None:
            if FEATURES not in file.schema_arrow.names:
                return
            columns = [FEATURES, "model_id"]
            batch = next(file.iter_batches(_BLOCK_ROWS, columns=columns), None)
            if batch is None:
                return
            rows = own_rows(batch, self._bundle.model_id)
            if len(rows):
                places = np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(np.int64)
                struct = rows.column(FEATURES).take(pa.array(places))
                blocks.append(np.column_stack([c.to_numpy() for c in struct.flatten()]))

        for name, _ in chosen:
            self._in_file(name, SCORES, some)
        return np.ascontiguousarray(np.concatenate(blocks)) if blocks else None

    def dead_letters(self) -> dict[str, int]:
        """Return the number of dead letters of each reason."""

        def reasons(name: str, file: pq.ParquetFile) -> Tally[str]:
            own: Tally[str] = Tally()
            for batch in file.iter_batches(_BLOCK_ROWS, columns=["reason"]):
                own.update(batch.column("reason").to_pylist())
            return own

        total: Tally[str] = Tally()
        for one in self._each(DEAD_LETTERS, reasons):
            total.update(one)
        return dict(sorted(total.items(), key=lambda one: (-one[1], one[0])))

    def _each(self, branch: str, of_file: Callable[[str, pq.ParquetFile], _T]) -> list[_T]:
        with ThreadPoolExecutor(_TOGETHER) as pool:
            return list(
                pool.map(
                    lambda name: self._in_file(name, branch, of_file), self._archive.files(branch)
                )
            )

    def _in_file(self, name: str, branch: str, of_file: Callable[[str, pq.ParquetFile], _T]) -> _T:
        path = self._archive.store.place(name)
        try:
            with (
                closing(open_file(Place(path, self._archive.place.local and Path(path)))) as opened,
                pq.ParquetFile(opened, read_dictionary=_REPEATING[branch]) as file,
            ):
                return of_file(name, file)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise FraudError(
                f"{path}: cannot be read ({first_line(error)})", Code.INPUT_DAMAGED
            ) from None
