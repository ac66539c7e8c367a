"""Dead letters of `score` and `stream` under `--out DIR`, and headers of their CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError
from beam_fraud.operations.dead_letters.store import KEY, ROWS_AT_A_TIME, STORED, Choice
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.sources.csv import header_of
from beam_fraud.sources.segment import InputFile
from beam_fraud.storage.atomic import whole_file
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, new_run_id
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.storage.staging import HEADERS, REPLAYED
from beam_fraud.wording import first_line, reason_of


def note_headers(directory: Path, files: Sequence[InputFile]) -> None:
    """Write the headers of the CSV files among `files` into a directory of dead letters.

    Files with equal headers share its text, for example a year of days.
    """
    numbers: dict[str, int] = {}
    sources = {
        file.name: numbers.setdefault(header_of(file.csv), len(numbers))
        for file in files
        if file.csv is not None
    }
    if sources:
        noted = {"headers": list(numbers), "sources": sources}
        (directory / HEADERS).write_bytes(msgspec.json.encode(noted))


def read_headers(directory: Path) -> dict[str, str]:
    """Return the stored header of each source.

    Raises:
      FraudError: the file was changed and cannot be read.
    """
    path = directory / HEADERS
    try:
        noted = msgspec.json.decode(path.read_bytes(), type=_Noted)
        return {source: noted.headers[number] for source, number in noted.sources.items()}
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, IndexError):
        raise FraudError(
            f"{path}: cannot be read; remove it and give --header", Code.CSV_COLUMNS_UNKNOWN
        ) from None


class _Noted(msgspec.Struct):
    headers: list[str]
    sources: dict[str, int]


@dataclass(frozen=True)
class DeadLetterDirectory:
    """`DIR/dead_letters/*.parquet`, with files that list the replayed ones."""

    #: `--out` of their run, absolute.
    out: Path

    @property
    def directory(self) -> Path:
        """The directory of the Parquet files."""
        return self.out / DEAD_LETTERS

    def check(self) -> None:
        """Check that a run has written here.

        Raises:
          FraudError: no run has written dead letters there.
        """
        if not self.directory.is_dir():
            raise FraudError(
                f"{self.out}: holds no {DEAD_LETTERS}; give the --out of a score or stream",
                Code.PLACE_EMPTY,
            )

    def read(self, choice: Choice, *, payloads: bool = True) -> Iterator[pa.RecordBatch]:
        """Read by file."""
        replayed = self._replayed()
        names = [name for name in DEAD_LETTER.names if payloads or name != "payload"]
        for part in sorted(self.directory.glob("part-*.parquet")):
            for batch in _batches(part, names):
                batch = _chosen(batch, choice)
                if len(batch):
                    yield _marked(batch, replayed)

    def mark_replayed(self, keys: Iterator[pa.RecordBatch]) -> None:
        """List replayed ones in a file that appears atomically."""
        path = self.directory / f"{REPLAYED}{new_run_id()}.parquet"
        try:
            with whole_file(path) as file:
                writer = ParquetBlockWriter(file, KEY)
                for batch in keys:
                    writer.write(batch)
                writer.close()
        except OSError as error:
            raise FraudError(
                f"{path}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
            ) from None

    def headers(self) -> dict[str, str]:
        """Return the headers that `score` stored."""
        return read_headers(self.directory)

    def describe(self) -> str:
        """Return the directory."""
        return str(self.directory)

    def _replayed(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return the sorted replayed positions per source."""
        positions: dict[str, list[npt.NDArray[np.int64]]] = {}
        for path in sorted(self.directory.glob(f"{REPLAYED}*.parquet")):
            for batch in _batches(path, KEY.names, 131_072):
                sources = batch.column("source")
                for source in pc.unique(sources).to_pylist():
                    here = batch.filter(pc.equal(sources, source))
                    positions.setdefault(source, []).append(here.column("position").to_numpy())
        return {source: np.unique(np.concatenate(parts)) for source, parts in positions.items()}


def _batches(path: Path, names: list[str], rows: int = ROWS_AT_A_TIME) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            yield from file.iter_batches(rows, columns=names)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise FraudError(
            f"{path}: is no readable file of dead letters: {first_line(error)}", Code.INPUT_DAMAGED
        ) from None


def _chosen(batch: pa.RecordBatch, choice: Choice) -> pa.RecordBatch:
    for column, value in (("reason", choice.reason), ("source", choice.source)):
        if value is not None:
            batch = batch.filter(pc.equal(batch.column(column), value))
    return batch


def _marked(batch: pa.RecordBatch, replayed: dict[str, npt.NDArray[np.int64]]) -> pa.RecordBatch:
    done = np.zeros(len(batch), dtype=bool)
    sources, positions = batch.column("source"), batch.column("position").to_numpy()
    for source in pc.unique(sources).to_pylist() if replayed else ():
        if source in replayed:
            of_source = pc.equal(sources, source).to_numpy(zero_copy_only=False)
            done |= of_source & np.isin(positions, replayed[source])
    columns = [
        batch.column(name) if name in batch.schema.names else pa.nulls(len(batch), pa.binary())
        for name in DEAD_LETTER.names
    ]
    return pa.RecordBatch.from_arrays([*columns, pa.array(done)], schema=STORED)
