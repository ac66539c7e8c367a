"""Erase rows from Parquet files, each replaced atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError
from beam_fraud.operations.erasure.subject import Accounts, Before, Subject
from beam_fraud.storage import atomic
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.staging import REWRITTEN
from beam_fraud.wording import reason_of

#: Rows in memory at once, and the same for rows of megabytes.
_ROWS, _RECORDS = 50_000, 1_000

#: Type: which rows of a batch to erase: bool[n].
Test = Callable[[pa.RecordBatch], npt.NDArray[np.bool_]]


def erase_from_scored(directory: Path, subject: Subject, *, dry_run: bool = False) -> int:
    """Erase rows from the files `*.parquet` of a directory, all of `stages.SCORED` or
    `stages.SHADOWED`.

    Returns:
      Number of rows erased, or to erase.

    Raises:
      FraudError: a file cannot be read or written.
    """
    if isinstance(subject, Accounts):
        ids = pa.array(subject.ids, pa.string())

        def goes(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
            accounts = batch.column("account_id")
            mask = pc.is_in(accounts, value_set=ids)
            subject.note(accounts.filter(mask).unique().to_pylist())
            return _mask(mask)

        columns = ["account_id"]
    else:
        moment = pa.scalar(subject.moment)

        def goes(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
            return _mask(pc.less(batch.column("event_time"), moment))

        columns = ["event_time"]
    return sum(_erase(file, columns, goes, _ROWS, dry_run=dry_run) for file in _files(directory))


def erase_from_dead_letters(directory: Path, subject: Subject, *, dry_run: bool = False) -> int:
    """Return the same for the files of dead letters in a directory.

    Dead letters have no reliable time: their age is that of their file.
    """
    if isinstance(subject, Before):
        since = subject.moment.timestamp()
        old = [file for file in _files(directory) if file.stat().st_mtime < since]
        return sum(_erase(file, ["position"], _all_rows, _RECORDS, dry_run=dry_run) for file in old)

    def goes(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        details, payloads = batch.column("detail").to_pylist(), batch.column("payload").to_pylist()
        mask = [
            # No short circuit: each may contain another account.
            subject.are_in(payload or b"") | subject.are_in((detail or "").encode())
            for detail, payload in zip(details, payloads, strict=True)
        ]
        return np.array(mask, dtype=bool)

    return sum(
        _erase(file, ["detail", "payload"], goes, _RECORDS, dry_run=dry_run)
        for file in _files(directory)
    )


def _erase(file: Path, columns: list[str], goes: Test, rows: int, *, dry_run: bool) -> int:
    """Erase rows from a file; a file without such rows stays unchanged."""
    try:
        with pq.ParquetFile(file, buffer_size=1 << 20) as old:
            batches = old.iter_batches(rows, columns=columns)
            count = sum(int(goes(batch).sum()) for batch in batches)
            if count and not dry_run:
                _rewrite(file, old, goes, rows)
        return count
    except (OSError, pa.ArrowException, KeyError) as error:
        raise FraudError(
            f"{file}: rows cannot be taken out of it ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None


def _rewrite(file: Path, old: pq.ParquetFile, goes: Test, rows: int) -> None:
    """Replace a file by one without the rows; keep its modification time, which is used."""
    schema = old.schema_arrow
    metadata = {k: v for k, v in (schema.metadata or {}).items() if k != b"written_by"}
    schema = schema.with_metadata(metadata or None)
    times = file.stat()
    with atomic.whole_file(file, hidden=file.with_name(f"{REWRITTEN}{file.name}")) as new:
        writer = ParquetBlockWriter(new, schema)
        for batch in old.iter_batches(rows):
            writer.write(batch.filter(pa.array(~goes(batch))))
        writer.close()
        new.flush()
        os.utime(new.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.parquet") if not path.name.startswith("."))


def remove_unfinished(directory: Path) -> None:
    """Remove leftovers of killed erasures and runs, while no process writes there.

    Raises:
      FraudError: the file system reports an error.
    """
    try:
        atomic.remove_unfinished(directory)
        for rewritten in directory.glob(f"{REWRITTEN}*"):
            rewritten.unlink()
    except OSError as error:
        raise FraudError(
            f"{directory}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None


def _all_rows(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    return np.ones(len(batch), dtype=bool)


def _mask(mask: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=bool)
