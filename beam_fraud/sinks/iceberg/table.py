"""Iceberg tables of scored rows, by the library pyiceberg and its own settings of catalogues."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from beam_fraud.errors import Code, FraudError, extra_module
from beam_fraud.schema.stages import LATER_COLUMNS, SCORED
from beam_fraud.sinks.base import ErasedRows
from beam_fraud.wording import first_line

#: Column that tells the rows of runs apart.
RUN_OUTPUT = "run_output"
#: Columns of a table, in the order of a new one.
COLUMNS = SCORED.append(pa.field(RUN_OUTPUT, pa.string(), nullable=False))
#: The metadata keep whole values of that column, so that files are dropped without being read.
_PROPERTIES = {f"write.metadata.metrics.column.{RUN_OUTPUT}": "full"}
#: Attempts of a commit, beside pyiceberg's own.
_COMMITS = 4
_LOGIN = re.compile(r"//[^/\s]*@")


@dataclass(frozen=True)
class IcebergTable:
    """A table of a catalogue that `~/.pyiceberg.yaml` or `PYICEBERG_CATALOG__...` describe."""

    #: Option that names it, for messages.
    option: str
    #: Namespaces and name, with dots between.
    name: str
    #: Name of the catalogue; None for pyiceberg's default.
    catalog: str | None = None

    def __str__(self) -> str:
        return f"iceberg:{f'{self.catalog}/' if self.catalog else ''}{self.name}"

    def is_at(self, url: str) -> bool:
        """Return whether another output, by its URL, is this table."""
        own, other = (one.partition("?")[0].replace(":default/", ":") for one in (str(self), url))
        return own == other

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Open the catalogue, and convert what it raises to one line.

        Raises:
          FraudError: pyiceberg is missing; the catalogue is unknown, fails or refuses.
        """
        library = extra_module("pyiceberg.catalog", f"{self.option} {self}")
        name = self.catalog or "default"
        settings = f"~/.pyiceberg.yaml or PYICEBERG_CATALOG__{name.upper()}__URI"
        try:
            catalog = library.load_catalog(self.catalog)
        except ValueError:
            raise FraudError(
                f"{self.option} {self}: pyiceberg has no usable settings of the catalogue "
                f"{name!r}; give them in {settings}",
                Code.ICEBERG_CATALOG,
            ) from None
        except Exception as error:
            raise self._failure(error, settings) from None
        with catalog:
            try:
                yield catalog
            except FraudError:
                raise
            except Exception as error:
                raise self._failure(error, settings) from None

    def _failure(self, error: Exception, settings: str) -> FraudError:
        return FraudError(
            f"{self.option} {self}: {shown(error)}; the settings of its catalogue are in "
            f"{settings}",
            Code.ICEBERG_CATALOG,
        )

    def find(self, catalog: Any) -> Any | None:
        """Return the table of an open catalogue, or None if it is not there."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            return catalog.load_table(self.name)
        except (NoSuchNamespaceError, NoSuchTableError):
            return None

    def create(self, catalog: Any) -> None:
        """Create a missing table, with its namespace; add what one of an earlier version lacks."""
        table = self.find(catalog)
        if table is not None:
            self._add_columns(catalog, table)
            return
        parts = self.name.split(".")
        for depth in range(1, len(parts)):
            space = tuple(parts[:depth])
            if not catalog.namespace_exists(space):
                catalog.create_namespace_if_not_exists(space)
        catalog.create_table_if_not_exists(self.name, COLUMNS, properties=_PROPERTIES)

    def _add_columns(self, catalog: Any, table: Any) -> None:
        there = table.schema().as_arrow().names
        later = pa.schema([COLUMNS.field(n) for n in LATER_COLUMNS if n not in there])
        # A table that is refused stays as it is.
        self.check_columns(table)
        if not later:
            return

        def add(table: Any) -> None:
            with table.update_schema() as update:
                update.union_by_name(later)

        self.change(catalog, add)

    def check(self) -> None:
        """Check that the catalogue answers, and that a table takes scored rows; change nothing.

        Raises:
          FraudError: as `connected` and `check_columns`.
        """
        with self.connected() as catalog:
            table = self.find(catalog)
            if table is not None:
                self.check_columns(table)

    def check_columns(self, table: Any) -> None:
        """Check the columns of an open table, which may be of an earlier version.

        Raises:
          FraudError: a column differs from `COLUMNS`, or the table is partitioned.
        """
        found = table.schema().as_arrow()
        for name in dict.fromkeys([*COLUMNS.names, *found.names]):
            if name not in found.names:
                if name in LATER_COLUMNS:
                    continue
                self._refuse(f"lacks the column {name!r}")
            if name not in COLUMNS.names:
                self._refuse(f"has a column {name!r}, which scored rows lack")
            type, wanted = found.field(name).type, COLUMNS.field(name)
            if _plain(type) != _plain(wanted.type):
                self._refuse(f"has a column {name!r} of {type}, not {wanted.type}")
            if wanted.nullable and not found.field(name).nullable:
                self._refuse(f"has a column {name!r} that allows no nulls")
        if not table.spec().is_unpartitioned():
            self._refuse(f"is partitioned by {table.spec().fields[0].name!r}")

    def _refuse(self, why: str) -> NoReturn:
        raise FraudError(
            f"{self.option} {self}: the table {why}; name a new table, which the run creates",
            Code.ICEBERG_TABLE,
        )

    def files_of(self, table: Any, run: str) -> set[str]:
        """Return the data files of an open table that may have rows with this `run_output`."""
        from pyiceberg.expressions import EqualTo

        scan = table.scan(EqualTo(RUN_OUTPUT, run))
        return {task.file.file_path for task in scan.plan_files()}

    def change(self, catalog: Any, change: Callable[[Any], None]) -> None:
        """Change the table; once more on its newest version if another commit came between.

        Args:
          catalog: open catalogue.
          change: commits one change to the open table that it is given.

        Raises:
          FraudError: other commits came between every time.
        """
        conflicts = conflict_types()
        attempts = Retrying(
            retry=retry_if_exception_type(conflicts),
            stop=stop_after_attempt(_COMMITS),
            wait=wait_random_exponential(0.1, max=5),
            reraise=True,
        )
        try:
            with warnings.catch_warnings():
                # pyiceberg warns where nothing is to be deleted.
                warnings.simplefilter("ignore")
                for attempt in attempts:
                    with attempt:
                        change(catalog.load_table(self.name))
        except conflicts as error:
            raise FraudError(
                f"{self.option} {self}: other commits came between {_COMMITS} times "
                f"({first_line(error)}); the table is unchanged: run again",
                Code.ICEBERG_COMMIT,
            ) from None

    def erase(
        self, accounts: Sequence[str], before: datetime | None, *, dry_run: bool
    ) -> ErasedRows:
        """Delete rows of all runs; as `FlaggedSink.erase`."""
        with self.connected() as catalog:
            table = self.find(catalog)
            if table is None:
                raise FraudError(f"{self.option} {self}: is not there", Code.PLACE_EMPTY)
            from pyiceberg.expressions import In, LessThan

            known: set[str] = set()
            if before is not None:
                gone = LessThan("event_time", before.isoformat())
                rows = table.scan(gone).count()
            else:
                gone = In("account_id", set(accounts))
                found = table.scan(gone, selected_fields=("account_id",)).to_arrow()
                rows, known = len(found), set(found["account_id"].unique().to_pylist())
            if rows and not dry_run:
                self.change(catalog, lambda table: table.delete(gone))
        return ErasedRows({self.name: rows}, known)


def conflict_types() -> tuple[type[Exception], ...]:
    """Return what pyiceberg raises where another commit came between; nothing has changed then."""
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    return CommitFailedException, ValidationException


def shown(error: Exception) -> str:
    """Return a library's message without logins in URLs."""
    return _LOGIN.sub("//***@", first_line(error))


def _plain(type: pa.DataType) -> Any:
    """Return a type, equal for types that Iceberg does not distinguish."""
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        return [_plain(type.value_type)]
    if pa.types.is_struct(type):
        return {field.name: _plain(field.type) for field in type}
    return str(type).removeprefix("large_")
