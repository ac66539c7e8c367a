"""Labels of a file, by transaction: what `label export` writes, or any other with its columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.json as pjson
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.records.identifiers import as_identifiers
from beam_fraud.records.numbers import as_numbers
from beam_fraud.records.times import as_times
from beam_fraud.wording import first_line, printable

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]

#: Label of a row that has none, and the time of a label that is unknown.
UNKNOWN = np.int8(-1)
NEVER = np.iinfo(np.int64).min
_COLUMNS = ("transaction_id", "label", "labelled_at", "probability")
_ENDINGS = (".parquet", ".csv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class LabelFile:
    """The labels of a file, 25 bytes each in memory."""

    #: Hash of ids.
    hashing: IdHash
    #: uint64[n], rising: hash of each id.
    ids: Hashes
    #: int8[n].
    labels: Labels
    #: int64[n]: when each was known; `NEVER` if unknown.
    known_at: Ints
    #: float64[n]: the probability with which the transaction was shown to people; NaN if unknown or
    #: if it was not shown.
    probability: Floats

    @property
    def newest(self) -> int | None:
        """When the newest label was known; None if no label has a time."""
        newest = int(self.known_at.max(initial=NEVER))
        return None if newest == NEVER else newest

    def replace(self, ids: pa.Array, labels: Labels, known_at: Ints) -> int:
        """Replace the labels of rows whose ids the file names; return their number.

        Args:
          ids: string[n].
          labels: int8[n].
          known_at: int64[n].
        """
        found, places = self._find(ids)
        labels[found] = self.labels[places]
        known_at[found] = self.known_at[places]
        return int(np.count_nonzero(found))

    def probabilities(self, ids: pa.Array) -> Floats:
        """Return with which probability people saw rows, float64[n]; NaN without such a label.

        Args:
          ids: string[n].
        """
        found, places = self._find(ids)
        probabilities = np.full(len(ids), np.nan)
        probabilities[found] = self.probability[places]
        return probabilities

    def _find(self, ids: pa.Array) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Return which of n rows have a label, bool[n], and the places of these labels."""
        if not len(self.ids):
            return np.zeros(len(ids), dtype=np.bool_), np.zeros(0, dtype=np.int64)
        hashes = self.hashing.of(ids)
        places = np.minimum(np.searchsorted(self.ids, hashes), len(self.ids) - 1)
        found = self.ids[places] == hashes
        return found, places[found]


def read_label_file(path: Path) -> LabelFile:
    """Read `transaction_id`, `label` and, if present, `labelled_at` and `probability`.

    The label that was known last counts where an id has several; the last one in the file without
    times.

    Raises:
      UsageError: the format is unknown.
      FraudError: the file cannot be read, lacks a column, or has a label that is not 0 or 1.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(f"--labels {path}: must end in {', '.join(_ENDINGS)}", Code.OPTION_VALUE)
    hashing = IdHash.random()
    parts: list[tuple[Hashes, Labels, Ints, Floats]] = []
    row = 0
    try:
        for batch in _batches(path):
            parts.append(_read(batch, hashing, path, row))
            row += batch.num_rows
    except FileNotFoundError:
        raise FraudError(f"--labels {path}: no such file", Code.INPUT_MISSING) from None
    except (pa.ArrowException, OSError) as error:
        raise FraudError(
            f"--labels {path}: cannot be read ({first_line(error)})", Code.INPUT_UNREADABLE
        ) from None
    if not parts:
        none = np.zeros(0, np.int64)
        return LabelFile(
            hashing, none.astype(np.uint64), none.astype(np.int8), none, none.astype(np.float64)
        )
    ids, labels, known_at, seen = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort((known_at, ids))
    last = order[np.append(ids[order][1:] != ids[order][:-1], True)]
    return LabelFile(hashing, ids[last], labels[last], known_at[last], seen[last])


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    ending = path.suffix.lower()
    if ending == ".parquet":
        with pq.ParquetFile(path) as file:
            there = [name for name in _COLUMNS if name in file.schema_arrow.names]
            yield from file.iter_batches(columns=there)
    elif ending == ".csv":
        # Ids may have leading zeros.
        texts = pcsv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string()))
        yield from pcsv.open_csv(path, convert_options=texts)
    else:
        yield from pjson.read_json(path).to_batches()


def _read(
    batch: pa.RecordBatch, hashing: IdHash, path: Path, row: int
) -> tuple[Hashes, Labels, Ints, Floats]:
    for column in _COLUMNS[:2]:
        if column not in batch.schema.names:
            there = ", ".join(printable(name, 40) for name in batch.schema.names[:8])
            raise FraudError(
                f"--labels {path}: has no column {column} (it has {there})", Code.COLUMN_MISSING
            )
    ids = as_identifiers(batch.column("transaction_id"))
    labels = as_numbers(batch.column("label")).values
    wrong = ~((labels == 0) | (labels == 1))
    known_at = np.full(len(labels), NEVER)
    if "labelled_at" in batch.schema.names:
        times = as_times(batch.column("labelled_at"))
        bad = times.unreadable | times.impossible
        known_at = np.where(times.absent, NEVER, times.micros)
    else:
        bad = np.zeros(len(labels), dtype=bool)
    seen, unlikely = _probabilities(batch)
    for column, faulty in (
        ("transaction_id", ids.absent | ids.unreadable | ids.too_long),
        ("label", wrong),
        ("labelled_at", bad),
        ("probability", unlikely),
    ):
        if faulty.any():
            at = int(np.argmax(faulty))
            value = printable(str(batch.column(column)[at].as_py()), 40)
            needed = _NEEDED[column]
            raise FraudError(
                f"--labels {path}: row {row + at}: {column} {value!r} is not {needed}",
                Code.ROWS_INVALID,
            )
    return hashing.of(ids.values), labels.astype(np.int8), known_at, seen


#: Column to what its values must be.
_NEEDED = {
    "transaction_id": "an id",
    "label": "0 or 1",
    "labelled_at": "a time",
    "probability": "above 0, at most 1",
}


def _probabilities(batch: pa.RecordBatch) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the column `probability`, NaN where it has no value, and which values are wrong."""
    if "probability" not in batch.schema.names:
        return np.full(len(batch), np.nan), np.zeros(len(batch), dtype=np.bool_)
    numbers = as_numbers(batch.column("probability"))
    seen = np.where(numbers.absent, np.nan, numbers.values)
    return seen, ~numbers.absent & ~((numbers.values > 0) & (numbers.values <= 1))
