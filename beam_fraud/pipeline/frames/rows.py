"""Convert inputs and results: data frames, Arrow tables and files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.dataset import Source, load_dataset
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle, check_packages, load_bundle
from beam_fraud.records.dead_share import DeadShare
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place

#: Paths, directories or globs.
Files: TypeAlias = str | Path | Sequence[str | Path]
#: Type of transactions: a data frame, a table, or paths of files.
Transactions: TypeAlias = pd.DataFrame | pa.Table | Files
#: Treatment of invalid rows.
OnInvalid: TypeAlias = Literal["raise", "keep"]
#: A `pandas.DataFrame` for a data frame, a `pyarrow.Table` for a table or files.
Frame = TypeVar("Frame")


@dataclass(frozen=True)
class Checked(Generic[Frame]):
    """The result for valid rows, and the dead letters."""

    #: One row per transaction.
    rows: Frame
    #: `source`, `position`, `reason`, `detail` and `payload` of each invalid row.
    dead_letters: Frame
    #: Number of dropped rows that repeat a transaction_id of the same source.
    duplicates: int


@dataclass(frozen=True)
class Reading:
    """Transactions in the order of the input."""

    #: `Schema.transactions` and the velocity features.
    transactions: pa.Table
    #: `stages.DEAD_LETTER`.
    dead_letters: pa.Table
    #: Number of rows that repeat an id.
    duplicates: int
    #: int64[transactions]: position of each among all rows of the input.
    places: npt.NDArray[np.int64]

    def result(
        self, rows: pa.Table, transactions: Transactions, on_invalid: OnInvalid
    ) -> pd.DataFrame | pa.Table | Checked[pd.DataFrame] | Checked[pa.Table]:
        """Return the result in the form of the input.

        Args:
          rows: one per transaction, in order.
          transactions: the input.
          on_invalid: `keep` adds the dead letters.
        """
        if not isinstance(transactions, pd.DataFrame):
            if on_invalid == "raise":
                return rows
            return Checked(rows, self.dead_letters, self.duplicates)
        frame = rows.to_pandas().set_axis(transactions.index[self.places])
        if on_invalid == "raise":
            return frame
        dead = self.dead_letters.to_pandas()
        dead = dead.set_axis(transactions.index[dead["position"].to_numpy(dtype=np.int64)])
        return Checked(frame, dead, self.duplicates)


def read(
    transactions: Transactions,
    history: Transactions | None,
    features: FeatureSet,
    on_invalid: OnInvalid,
) -> Reading:
    """Validate rows and add their velocity features, point-in-time correct.

    Warns of repeated ids, of windows that earlier rows do not fill and of dead letters.

    Raises:
      UsageError: `on_invalid` is unknown.
      FraudError: rows cannot be read; some, or all, are invalid.
    """
    if on_invalid not in ("raise", "keep"):
        raise UsageError(f"on_invalid={on_invalid!r}: must be 'raise' or 'keep'", Code.OPTION_VALUE)
    schema = features.schema
    labels = features.labels
    dataset = load_dataset(
        source_of(transactions, schema, labels),
        schema,
        history=history_of(history, schema, labels),
        labels=labels,
        keep_dead_letters=True,
    )
    if dataset.rows_dead:
        share = DeadShare(dataset.rows_in, dataset.dead_reasons, dataset.first_dead)
        message = (
            f"{dataset.rows_dead:,} of {dataset.rows_in:,} rows are no transactions {share.why}"
        )
        if on_invalid == "raise":
            raise FraudError(
                f"{message}; on_invalid='keep' returns them as dead_letters", Code.ROWS_INVALID
            )
        warn(message, 2)
    if dataset.rows_duplicate:
        warn(f"{dataset.rows_duplicate:,} rows repeat the transaction_id of an earlier row", 2)
    if dataset.reach is not None:
        warn(dataset.reach.warning(), 2)
    order = np.argsort(dataset.places)
    return Reading(
        dataset.transactions.take(pa.array(order)).combine_chunks(),
        dataset.dead_letters,
        dataset.rows_duplicate,
        dataset.places[order],
    )


def source_of(rows: Transactions, schema: Schema, labels: Labels) -> Source:
    """Return rows for `load_dataset`: places of files, or a table with the schema's columns."""
    if isinstance(rows, pd.DataFrame):
        return _table(rows, frozenset(schema.columns(labels=labels)))
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, str | Path):
        return (Place.of(rows),)
    return tuple(map(Place.of, rows))


def history_of(rows: Transactions | None, schema: Schema, labels: Labels) -> Source:
    """Return the same for earlier rows; empty for None."""
    return () if rows is None else source_of(rows, schema, labels)


def names_of(rows: Transactions) -> tuple[str, ...]:
    """Return the names of rows in a model card: files, or the type of table."""
    if isinstance(rows, pd.DataFrame | pa.Table):
        return (f"a {type(rows).__name__} of {len(rows):,} rows",)
    files = (rows,) if isinstance(rows, str | Path) else rows
    return tuple(Path(file).name for file in files)


def bundle_of(model: Bundle | str | Path) -> Bundle:
    """Return a usable bundle.

    Raises:
      FraudError: it cannot be read, or a package that its model needs is not installed.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    check_packages(bundle)
    return bundle


def schema_of(schema: Schema | str | Path) -> Schema:
    """Return a schema from itself, the name of a preset or a TOML file."""
    return schema if isinstance(schema, Schema) else load_schema(schema)


def moment_of(name: str, moment: datetime | str | None) -> datetime | None:
    """Return an aware time in UTC; a time without a zone is UTC.

    Raises:
      UsageError: it is no time.
    """
    if moment is None:
        return None
    try:
        known = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        return (known if known.tzinfo else known.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{name}={moment!r}: is not an ISO 8601 time (2024-02-08)", Code.TIME_INVALID
        ) from None


def warn(warning: str | None, calls: int = 1) -> None:
    """Show a warning where the public function is called; None shows nothing.

    Args:
      warning: a line.
      calls: number of calls between, that of the public function included.
    """
    if warning is not None:
        # Messages on options hold for arguments as well.
        warnings.warn(warning.replace("--history", "history"), stacklevel=calls + 2)


def _table(frame: pd.DataFrame, used: frozenset[str]) -> pa.Table:
    """Return a data frame as a table; unused columns have their name only."""
    names = [str(name) for name in frame.columns]
    columns = [
        _column(frame.iloc[:, place]) if name in used else pa.nulls(len(frame))
        for place, name in enumerate(names)
    ]
    return pa.Table.from_arrays(columns, names)


def _column(values: pd.Series) -> pa.Array | pa.ChunkedArray:
    """Return the values of a column; as text if types are mixed, so that each is checked."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError):
        absent = values.isna()
        texts = (str(value).encode("utf-8", "surrogatepass") for value in values)
        text_or_null = [None if none else text for text, none in zip(texts, absent, strict=True)]
        return pa.array(text_or_null, pa.binary())
