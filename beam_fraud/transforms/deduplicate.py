"""Drop and count transactions with repeated ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.features.hashing import IdHash
from beam_fraud.monitoring.counters import ROWS_DUPLICATE
from beam_fraud.records.duplicates import SeenIds, repeated
from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.schema.schema import Schema
from beam_fraud.sources.raw import POSITION, Origin, origin_of
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.sources.source import read_segment
from beam_fraud.transforms.counters import count

#: Type: source to the sorted positions of its repeated rows.
Repeated = dict[str, npt.NDArray[np.int64]]

_SHARDS = 16


@dataclass
class Deduplicate(beam.PTransform):
    """Drop transactions whose id an earlier row has.

    A worker that reads a whole file remembers its ids. For other files, `repeated` lists the rows
    to drop.
    """

    #: Output of `FindRepeated`; None if each file is read by one worker.
    repeated: beam.PCollection[Repeated] | None = None

    def expand(
        self, transactions: beam.PCollection[pa.RecordBatch]
    ) -> beam.PCollection[pa.RecordBatch]:
        """Filter rows, with a side input for files that are split."""
        beforehand = None if self.repeated is None else beam.pvalue.AsSingleton(self.repeated)
        return transactions | beam.ParDo(_Deduplicate(), beforehand).with_output_types(
            pa.RecordBatch
        )


class _Deduplicate(beam.DoFn):
    def setup(self) -> None:
        self._origin: Origin | None = None
        self._seen = SeenIds()

    def process(self, batch: pa.RecordBatch, repeated: Repeated | None) -> Iterator[pa.RecordBatch]:
        origin = origin_of(batch)
        if repeated is not None and origin.source in repeated:
            first = ~np.isin(batch.column(POSITION).to_numpy(), repeated[origin.source])
        else:
            self._follow(origin)
            first = self._seen.first_time(batch.column("transaction_id"))
        if not first.all():
            count(ROWS_DUPLICATE, int((~first).sum()))
            batch = batch.filter(pa.array(first))
        yield batch

    def _follow(self, origin: Origin) -> None:
        """Forget the ids of the last file when another begins."""
        if origin.block == 0:
            self._seen = SeenIds()
        elif self._origin is None or (origin.source, origin.block - 1) != (
            self._origin.source,
            self._origin.block,
        ):
            # Unreachable on a runner that fuses the step with the reading, as all of Beam's do.
            raise RuntimeError(f"blocks of {origin.source} came out of order")
        self._origin = origin


@dataclass
class FindRepeated(beam.PTransform):
    """Convert segments to one dictionary: each source to its repeated rows.

    It reads the files a second time, and shuffles 24 bytes per row.
    """

    #: The files of the segments, in the order in which the first position wins.
    files: tuple[InputFile, ...]
    #: Their schema.
    schema: Schema
    #: Whether an id must be unique over all files, or within each.
    across_files: bool
    #: Rows of a block.
    block_rows: int
    #: Key of the id hashes, one per run.
    hashing: IdHash = field(default_factory=IdHash.random)

    def expand(self, segments: beam.PCollection[Segment]) -> beam.PCollection[Repeated]:
        """Hash, group, compare, gather."""
        names = [file.name for file in self.files]
        hash_ids = _HashIds(names, self.schema, self.across_files, self.block_rows, self.hashing)
        return (
            segments
            | "Hash" >> beam.ParDo(hash_ids)
            | "Group" >> beam.GroupByKey()
            | "Compare" >> beam.FlatMap(_compare)
            | "Gather" >> beam.combiners.ToList()
            | "Name" >> beam.Map(_by_source, names)
        )


class _HashIds(beam.DoFn):
    def __init__(
        self,
        names: list[str],
        schema: Schema,
        across_files: bool,
        block_rows: int,
        hashing: IdHash,
    ) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._schema = schema
        self._across = across_files
        self._block_rows = block_rows
        self._hash = hashing

    def process(self, segment: Segment) -> Iterator[tuple[str, bytes]]:
        number = self._numbers[segment.file.name]
        scope = "" if self._across else str(number)
        for raw in read_segment(segment, self._schema, self._block_rows, labels="ignored"):
            parsed = parse(raw, self._schema, labels="ignored")
            valid, _ = validate(parsed, self._schema, labels="ignored")
            hashes = self._hash.wide(valid.column("transaction_id"))
            positions = valid.column(POSITION).to_numpy()
            shards = hashes[0] % _SHARDS
            for shard in np.unique(shards):
                here = shards == shard
                rows = np.empty((3, int(here.sum())), dtype=np.int64)
                rows[0], rows[1:] = positions[here], hashes[:, here].view(np.int64)
                yield f"{scope}/{shard}", number.to_bytes(4, "little") + rows.tobytes()


def _compare(group: tuple[str, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
    parts = [(int.from_bytes(part[:4], "little"), _rows(part)) for part in group[1]]
    numbers = np.concatenate([np.full(rows.shape[1], n, dtype=np.int64) for n, rows in parts])
    positions = np.concatenate([rows[0] for _, rows in parts])
    hashes = np.concatenate([rows[1:] for _, rows in parts], axis=1).view(np.uint64)
    places = repeated(hashes, numbers, positions)
    for number in np.unique(numbers):
        # Emit files without repeats too, as a sign that they were checked.
        yield int(number), positions[places[numbers[places] == number]].tobytes()


def _rows(part: bytes) -> npt.NDArray[np.int64]:
    return np.frombuffer(part, dtype=np.int64, offset=4).reshape(3, -1)


def _by_source(repeats: list[tuple[int, bytes]], names: list[str]) -> Repeated:
    gathered: dict[str, list[npt.NDArray[np.int64]]] = {}
    for number, positions in repeats:
        gathered.setdefault(names[number], []).append(np.frombuffer(positions, dtype=np.int64))
    return {name: np.sort(np.concatenate(parts)) for name, parts in gathered.items()}
