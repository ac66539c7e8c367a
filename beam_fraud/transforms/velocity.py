"""Add velocity features to transactions."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_fraud.errors import Code, FraudError, UsageError, fix_of
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.columns import by_key, part_of
from beam_fraud.features.velocity.reach import WindowReach, look_back
from beam_fraud.monitoring.counters import (
    ACCOUNTS,
    ACCOUNTS_KNOWN,
    EARLIEST_HISTORY_ROW,
    EARLIEST_ROW,
)
from beam_fraud.schema.schema import Labels
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.source import find_history
from beam_fraud.storage.spill import SpilledPart, SpillWriter, split
from beam_fraud.storage.temporary import temporary_directory
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.counters import count, note_earliest
from beam_fraud.transforms.order import ORDER, FromFile, Order, file_of, order_of
from beam_fraud.transforms.read import ReadHistory
from beam_fraud.transforms.shuffle import velocity_of_part
from beam_fraud.wording import reason_of

_LOG = logging.getLogger(__name__)
#: Parts on this machine: one at a time is in memory, and a buffer of each during the split.
_LOCAL_PARTS = 32
#: Parts on a cluster of unknown size.
_CLUSTER_PARTS = 256


@dataclass
class AddVelocity(beam.PTransform):
    """Add velocity features, by key, to ordered transactions (`transforms.order`).

    One pass per key brings the rows of each value together and computes their features. If all
    workers see `spill`, rows go through files there, because the local runner's shuffle holds
    everything in memory; elsewhere the runner shuffles record batches.
    """

    #: Features to add.
    definitions: tuple[Velocity, ...]
    #: Rows per batch.
    block_rows: int
    #: A directory that all workers share, or None.
    spill: Path | None
    #: Number of the first file that is no history.
    first: int = 0
    #: Key of the hashes, one per run.
    hashing: IdHash = field(default_factory=IdHash.random)

    def expand(
        self, inputs: tuple[beam.PCollection[pa.RecordBatch], ...]
    ) -> beam.PCollection[pa.RecordBatch]:
        """Split, group and compute, once per key."""
        for key, definitions in by_key(self.definitions).items():
            label = " and ".join(key)
            parts = tuple(
                self._split(transactions, key, f"{label} {number}")
                for number, transactions in enumerate(inputs)
            )
            grouped = parts | f"All {label}" >> beam.Flatten() | f"By {label}" >> beam.GroupByKey()
            compute = _OfFiles if self.spill else _OfBatches
            first = self.first if key == ("account_id",) else None
            step = beam.ParDo(compute(definitions, self.block_rows, self.spill, first))
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


#: Orders of numeric ids stay below this bound, those of hashes above.
_HASHED = 1 << 61


@dataclass
class VelocityOfRecords(beam.PTransform):
    """Add velocity features to the transactions of a bounded collection.

    Records have no positions: of transactions with equal key and time, the one with the lower
    numeric id comes first; other ids follow in an order that is the same in every run.
    """

    #: The features to compute, and their schema.
    features: FeatureSet
    #: Files, directories or globs of earlier transactions.
    history: tuple[Place, ...]
    #: Treatment of their labels.
    labels: Labels
    #: Rows per batch.
    block_rows: int = 50_000

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """Read the history, group the rows of each key, drop the history."""
        schema = self.features.schema
        files = find_history(self.history, (), schema, labels=self.labels)
        if not self.features.velocity:
            return transactions
        self._refuse_open(transactions)
        if not files:
            reach = WindowReach(look_back(self.features.velocity), history=False)
            _LOG.warning("%s", reach.warning())
        ordered = [
            transactions
            | "Order" >> beam.Map(_ordered_by_id, len(files)).with_output_types(pa.RecordBatch)
        ]
        if files:
            read = ReadHistory(tuple(files), schema, self.labels, self.block_rows)
            order = Order([file.name for file in files], earliest=EARLIEST_HISTORY_ROW)
            root = transactions.pipeline
            ordered.append(root | "History" >> read | "OrderHistory" >> order)
        add = AddVelocity(self.features.velocity, self.block_rows, None, len(files))
        return tuple(ordered) | "Velocity" >> add | "Given" >> FromFile(len(files))

    def _refuse_open(self, transactions: beam.PCollection[pa.RecordBatch]) -> None:
        if transactions.is_bounded and transactions.windowing.is_default():
            return
        what = "windowed" if transactions.is_bounded else "unbounded"
        raise UsageError(
            f"the model has velocity features, and the collection is {what}: a key's windows need "
            "all of its rows; use `beam-fraud stream` for unbounded data, or score a bounded "
            "collection in the global window",
            Code.COLLECTION_UNSUITED,
        )


def _ordered_by_id(transactions: pa.RecordBatch, file: int) -> pa.RecordBatch:
    note_earliest(EARLIEST_ROW, transactions)
    ids = transactions.column("transaction_id")
    number = pc.match_substring_regex(ids, "^[0-9]{1,17}$")
    values = pc.if_else(number, ids, "0").cast(pa.int64())
    if not pc.all(number).as_py():
        # Equal in every process, unlike Python's own hashes.
        hashes = pd.util.hash_array(ids.to_numpy(zero_copy_only=False), categorize=False)
        other = (hashes >> np.uint64(4)).astype(np.int64) + _HASHED
        values = pc.if_else(number, values, pa.array(other))
    return transactions.append_column(ORDER, order_of(file, values))


def _split(
    transactions: pa.RecordBatch, key: tuple[str, ...], parts: int, hashing: IdHash
) -> Iterator[tuple[int, pa.RecordBatch]]:
    yield from split(transactions, part_of(transactions, key, parts, hashing))


@contextmanager
def _spilling_to(directory: Path) -> Iterator[None]:
    """Raise one line if the disk is full or unavailable."""
    try:
        yield
    except OSError as error:
        raise FraudError(
            f"{directory}: rows that wait cannot be kept there ({reason_of(error)}); "
            f"{fix_of(error)}",
            Code.OUTPUT_UNWRITABLE,
        ) from None


class _Spill(beam.DoFn):
    """Spill rows to files of their parts; a repeated bundle writes them again."""

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
    """Compute the features of a part from its files."""

    def __init__(
        self,
        definitions: tuple[Velocity, ...],
        block_rows: int,
        scratch: Path | None,
        first: int | None,
    ) -> None:
        self._definitions = definitions
        self._block_rows = block_rows
        self._scratch = scratch
        #: Number of the first file that is no history, to count accounts; None if they are no key.
        self._first = first

    def process(self, part: tuple[int, Iterable[SpilledPart]]) -> Iterator[pa.RecordBatch]:
        assert self._scratch is not None
        with _spilling_to(self._scratch):
            yield from self._counted(
                velocity_of_part(
                    sorted(part[1], key=lambda spilled: spilled.path),
                    self._definitions,
                    scratch=self._scratch,
                    block_rows=self._block_rows,
                )
            )

    def _counted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass on the batches of a part, and count its accounts."""
        if self._first is None:
            yield from batches
            return
        here, before = [], []
        for batch in batches:
            new = pa.array(file_of(batch.column(ORDER)) >= self._first)
            ids = batch.column("account_id")
            here.append(ids.filter(new).unique())
            before.append(ids.filter(pc.invert(new)).unique())
            yield batch
        accounts = pa.chunked_array(here, pa.string()).unique().drop_null()
        known = pc.is_in(accounts, value_set=pa.chunked_array(before, pa.string()).unique())
        count(ACCOUNTS, len(accounts))
        count(ACCOUNTS_KNOWN, known.true_count)


class _OfBatches(_OfFiles):
    """Compute the features of a part from its batches, spilled to the worker's own disk."""

    def process(self, part: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        with (
            _spilling_to(Path(gettempdir())),
            temporary_directory() as directory,
        ):
            writer = SpillWriter(directory, "part")
            for batch in part[1]:
                writer.write(part[0], batch)
            yield from self._counted(
                velocity_of_part(
                    writer.close(),
                    self._definitions,
                    scratch=directory,
                    block_rows=self._block_rows,
                )
            )
