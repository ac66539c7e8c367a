"""Transactions to transactions with velocity features."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_fraud.errors import FraudError, fix_of
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.velocity.columns import by_key, part_of
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.folder import reason_of
from beam_fraud.transforms.shuffle.spill import SpilledPart, SpillWriter, split
from beam_fraud.transforms.shuffle.velocity import velocity_of_part

#: Parts on this machine: one at a time is in memory, and while it is split a little of each.
_LOCAL_PARTS = 32
#: Parts on a cluster, whose size nobody knows here.
_CLUSTER_PARTS = 256


@dataclass
class AddVelocity(beam.PTransform):
    """Ordered transactions (`transforms.order`) to the same with velocity features, by key.

    There is a pass for each key: rows of one key are brought together, then looked at. Where all
    workers see `spill` that goes through files there, because the local runner's own shuffle holds
    everything in memory; elsewhere the runner shuffles record batches.
    """

    #: What to add.
    definitions: tuple[Velocity, ...]
    #: Rows of a batch.
    block_rows: int
    #: A directory that all workers see, or None.
    spill: Path | None
    #: The same for all workers of a run, another for each run.
    hashing: IdHash = field(default_factory=IdHash.random)

    def expand(
        self, inputs: tuple[beam.PCollection[pa.RecordBatch], ...]
    ) -> beam.PCollection[pa.RecordBatch]:
        """Split, group and compute, once a key."""
        for key, definitions in by_key(self.definitions).items():
            label = " and ".join(key)
            parts = tuple(
                self._split(transactions, key, f"{label} {number}")
                for number, transactions in enumerate(inputs)
            )
            grouped = parts | f"All {label}" >> beam.Flatten() | f"By {label}" >> beam.GroupByKey()
            compute = _OfFiles if self.spill else _OfBatches
            step = beam.ParDo(compute(definitions, self.block_rows, self.spill))
            inputs = (grouped | f"Of {label}" >> step.with_output_types(pa.RecordBatch),)
        return inputs[0]

    def _split(
        self, transactions: beam.PCollection[pa.RecordBatch], key: tuple[str, ...], label: str
    ) -> beam.PCollection[tuple[int, SpilledPart | pa.RecordBatch]]:
        if self.spill is None:
            return transactions | f"Split {label}" >> beam.FlatMap(
                _split, key, _CLUSTER_PARTS, self.hashing
            ).with_output_types(tuple[int, pa.RecordBatch])
        return transactions | f"Spill {label}" >> beam.ParDo(
            _Spill(key, self.spill, self.hashing)
        ).with_output_types(tuple[int, SpilledPart])


def _split(
    transactions: pa.RecordBatch, key: tuple[str, ...], parts: int, hashing: IdHash
) -> Iterator[tuple[int, pa.RecordBatch]]:
    yield from split(transactions, part_of(transactions, key, parts, hashing))


@contextmanager
def _spilling_to(directory: Path) -> Iterator[None]:
    """Say in one line where the disk is full or gone."""
    try:
        yield
    except OSError as error:
        raise FraudError(
            f"{directory}: rows that wait cannot be kept there ({reason_of(error)}); "
            f"{fix_of(error)}"
        ) from None


class _Spill(beam.DoFn):
    """Rows to files of their parts, written anew by a bundle that is done again."""

    def __init__(self, key: tuple[str, ...], directory: Path, hashing: IdHash) -> None:
        self._key = key
        self._hash = hashing
        self._directory = directory
        self._writer: SpillWriter | None = None

    def process(self, transactions: pa.RecordBatch) -> None:
        with _spilling_to(self._directory):
            if self._writer is None:
                self._writer = SpillWriter(self._directory, uuid.uuid4().hex)
            for part, rows in _split(transactions, self._key, _LOCAL_PARTS, self._hash):
                self._writer.write(part, rows)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._writer is not None:
            window = GlobalWindow()
            with _spilling_to(self._directory):
                parts = self._writer.close()
            for spilled in parts:
                yield WindowedValue((spilled.part, spilled), window.max_timestamp(), [window])
            self._writer = None


class _OfFiles(beam.DoFn):
    """The files of a part to its rows with features."""

    def __init__(
        self, definitions: tuple[Velocity, ...], block_rows: int, scratch: Path | None
    ) -> None:
        self._definitions = definitions
        self._block_rows = block_rows
        self._scratch = scratch

    def process(self, part: tuple[int, Iterable[SpilledPart]]) -> Iterator[pa.RecordBatch]:
        assert self._scratch is not None
        with _spilling_to(self._scratch):
            yield from velocity_of_part(
                sorted(part[1], key=lambda spilled: spilled.path),
                self._definitions,
                scratch=self._scratch,
                block_rows=self._block_rows,
            )


class _OfBatches(_OfFiles):
    """The batches of a part to its rows with features; they wait on the worker's own disk."""

    def process(self, part: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        with (
            _spilling_to(Path(gettempdir())),
            TemporaryDirectory(prefix="beam-fraud-") as directory,
        ):
            writer = SpillWriter(Path(directory), "part")
            for batch in part[1]:
                writer.write(part[0], batch)
            yield from velocity_of_part(
                writer.close(),
                self._definitions,
                scratch=Path(directory),
                block_rows=self._block_rows,
            )
