"""Find a transaction in the archive of a run, a stream, a server or a rescore.

Ids are read column by column, and only of row groups whose statistics admit them; other columns are
read of row groups with a hit alone.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.decisions.rules.files import RuleFiles
from beam_fraud.decisions.rules.kept import DIRECTORY, kept_rules
from beam_fraud.errors import Code, FraudError
from beam_fraud.operations.erasure.subject import token_pattern
from beam_fraud.sources.filesystem import open_file
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, SCORES
from beam_fraud.storage.rescore_outputs import PARTITIONS
from beam_fraud.storage.store import Store, store_at
from beam_fraud.storage.urls import Place
from beam_fraud.wording import first_line, reason_of

_T = TypeVar("_T")
#: Where the branches of an archive are: of a run or stream, of each partition of a rescore, and of
#: each of several servers.
_DIRECTORIES = ("", f"{PARTITIONS}/*/", "[0-9]*/")
#: Files that are read side by side.
_TOGETHER = min(os.cpu_count() or 1, 8)
#: Records of dead letters in memory at once: one may have megabytes.
_RECORDS = 1_000


@dataclass(frozen=True)
class ArchivedRow:
    """A scored row of an archive."""

    #: Its file, relative to the archive.
    file: str
    #: One row with all columns of the file.
    row: pa.Table

    def value(self, column: str) -> Any:
        """Return a value of the row; None for null or an absent column."""
        if column not in self.row.column_names:
            return None
        return self.row.column(column)[0].as_py()


@dataclass(frozen=True)
class Archive:
    """The Parquet files under `--out`."""

    place: Place

    def check(self) -> None:
        """Check that a command wrote scores there.

        Raises:
          FraudError: none did, or it cannot be listed.
        """
        if not self.files(SCORES):
            raise FraudError(
                f"{self.place.shown}: holds no scores; give the --out of score, stream or rescore, "
                "or the --state of serve",
                Code.PLACE_EMPTY,
            )

    def find(self, transaction_id: str) -> list[ArchivedRow]:
        """Return the rows of a transaction, in the order of the files.

        Raises:
          FraudError: a file cannot be read.
        """
        if not _is_text(transaction_id):
            return []
        return self._in_files(SCORES, partial(_rows_of, transaction_id))

    def plain_id(self, pseudonym: str, pseudonyms: Pseudonyms) -> str | None:
        """Return the id whose pseudonym an alert showed; None without such a flagged row.

        Raises:
          FraudError: a file cannot be read.
        """
        search = partial(_ids_of, pseudonym, pseudonyms)
        return next(iter(self._in_files(SCORES, search)), None)

    def dead_letters(self, transaction_id: str, column: str | None) -> list[dict[str, Any]]:
        """Return the dead letters whose record has an id.

        Args:
          transaction_id: the id.
          column: the column of ids; None if unknown: then the id may be anywhere in the record.

        Returns:
          `file`, `source`, `position`, `reason` and `detail` of each.

        Raises:
          FraudError: a file cannot be read.
        """
        if not transaction_id or not _is_text(transaction_id):
            return []
        return self._in_files(DEAD_LETTERS, partial(_dead_letters_of, transaction_id, column))

    def rules(self, rules_id: str) -> RuleFiles | None:
        """Return the rules that a run kept there; None without them.

        Args:
          rules_id: their id, a safe name of a file.

        Raises:
          FraudError: a file cannot be read.
        """
        with self._one_line_errors():
            for name in self._listed(f"{DIRECTORY}/{glob.escape(rules_id)}.toml"):
                try:
                    above = name.removesuffix(f"{DIRECTORY}/{rules_id}.toml")
                    return kept_rules(self.store, above, rules_id)
                except ValueError as error:
                    raise FraudError(
                        f"{self.place.shown}/{name}: the file of its lists is damaged ({error})",
                        Code.RULES_UNREADABLE,
                    ) from None
        return None

    @property
    def store(self) -> Store:
        """The directory or URL."""
        return store_at(self.place.local or self.place.name)

    def files(self, branch: str) -> list[str]:
        """Return the Parquet files of a branch, relative to the archive.

        Args:
          branch: `scores` or `dead_letters`.

        Raises:
          FraudError: the archive cannot be listed.
        """
        with self._one_line_errors():
            return self._listed(f"{branch}/part-*.parquet")

    def _listed(self, pattern: str) -> list[str]:
        found = (self.store.list(f"{directory}{pattern}") for directory in _DIRECTORIES)
        return [name for names in found for name in names]

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FraudError(
                f"{self.place.shown}: cannot be read ({reason_of(error)})", Code.INPUT_UNREADABLE
            ) from None

    def _in_files(
        self, branch: str, search: Callable[[str, pq.ParquetFile], Iterable[_T]]
    ) -> list[_T]:
        def in_file(name: str) -> list[_T]:
            path = self.store.place(name)
            opened = open_file(Place(path, self.place.local and Path(path)))
            try:
                with closing(opened), pq.ParquetFile(opened) as file:
                    return list(search(name, file))
            except (OSError, pa.ArrowException, KeyError) as error:
                raise FraudError(
                    f"{path}: cannot be read ({first_line(error)})",
                    Code.INPUT_DAMAGED,
                ) from None

        with ThreadPoolExecutor(_TOGETHER) as pool:
            found = pool.map(in_file, self.files(branch))
            return [one for each in found for one in each]


def _rows_of(transaction_id: str, name: str, file: pq.ParquetFile) -> Iterator[ArchivedRow]:
    for group in range(file.num_row_groups):
        if not _admits(file, group, transaction_id):
            continue
        ids = file.read_row_group(group, columns=["transaction_id"]).column("transaction_id")
        places = np.flatnonzero(pc.equal(ids, transaction_id))
        if len(places):
            rows = file.read_row_group(group).take(pa.array(places))
            yield from (ArchivedRow(name, rows.slice(at, 1)) for at in range(len(places)))


def _admits(file: pq.ParquetFile, group: int, transaction_id: str) -> bool:
    """Return whether the statistics of a row group admit an id."""
    described = file.metadata.row_group(group)
    column = next(
        described.column(at)
        for at in range(described.num_columns)
        if described.column(at).path_in_schema == "transaction_id"
    )
    figures = column.statistics
    if figures is None or not figures.has_min_max:
        return True
    # Both orders are by code point.
    return bool(figures.min <= transaction_id <= figures.max)


def _ids_of(
    pseudonym: str, pseudonyms: Pseudonyms, name: str, file: pq.ParquetFile
) -> Iterator[str]:
    # Alerts are of flagged rows.
    for batch in file.iter_batches(columns=["transaction_id", "flagged"]):
        for one in batch.column("transaction_id").filter(batch.column("flagged")).to_pylist():
            if pseudonyms.of("transaction", one) == pseudonym:
                yield one


def _dead_letters_of(
    transaction_id: str, column: str | None, name: str, file: pq.ParquetFile
) -> Iterator[dict[str, Any]]:
    pattern = token_pattern((transaction_id,))
    for batch in file.iter_batches(_RECORDS):
        for row in batch.to_pylist():
            record = row.pop("payload") or b""
            # Rows without a column of ids are named by their place.
            derived = f"{row['source']}:{row['position']}" == transaction_id
            if derived or (pattern.search(record) and _may_name(record, column, transaction_id)):
                yield {"file": name, **row}


def _may_name(record: bytes, column: str | None, transaction_id: str) -> bool:
    """Return False if the record is a JSON object whose column of ids has another value."""
    if column is None:
        return True
    try:
        values = msgspec.json.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    if not isinstance(values, dict) or column not in values:
        return True
    return str(values[column]) == transaction_id


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
