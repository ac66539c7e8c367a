"""Convert messages to raw batches, one per partition or one for all."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import methodcaller

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.json_records import records_of_array
from beam_fraud.sources.kafka.failure import Message
from beam_fraud.sources.kafka.topic import Content, Partition, partition_name
from beam_fraud.sources.raw import (
    APPENDED,
    PAYLOAD,
    POSITION,
    SOURCE,
    Origin,
    origin_of,
    sources_of,
    with_origin,
)

_SCHEMA = pa.schema([(POSITION, pa.int64()), (PAYLOAD, pa.binary()), (APPENDED, pa.int64())])
#: Maximum bytes of a batch, which the next steps hold several times over.
LARGE = 64 << 20
#: Earliest plausible time of a message: 1990, in milliseconds.
_EARLIEST = 631_152_000_000
_WARNED_OF_SECONDS = set[str]()
_LOG = logging.getLogger(__name__)
_PARTITION = methodcaller("partition")
_TOPIC = methodcaller("topic")
_OFFSET = methodcaller("offset")
_VALUE = methodcaller("value")


@dataclass(frozen=True)
class Chunk:
    """Consecutive messages of each of some partitions."""

    #: A raw batch (`sources.raw`); the payload of a message without a value is null.
    batch: pa.RecordBatch
    #: Topic and number to the offset after the last of its messages.
    next_offsets: Mapping[Partition, int]
    #: Their content.
    content: Content


@dataclass
class _Rows:
    """The fields of a partition's messages: the library's own objects are costly to keep."""

    offsets: list[int] = field(default_factory=list)
    #: None for a message without a value.
    payloads: list[bytes | None] = field(default_factory=list)
    #: Broker timestamps in milliseconds; negative without one.
    times: list[int] = field(default_factory=list)

    def add(self, messages: Sequence[Message]) -> None:
        self.offsets += map(_OFFSET, messages)
        self.payloads += map(_VALUE, messages)
        self.times += [message.timestamp()[1] for message in messages]

    @property
    def size(self) -> int:
        return sum(map(len, filter(None, self.payloads)))

    def halves(self) -> tuple[_Rows, _Rows]:
        half = len(self.offsets) // 2
        return (
            _Rows(self.offsets[:half], self.payloads[:half], self.times[:half]),
            _Rows(self.offsets[half:], self.payloads[half:], self.times[half:]),
        )


def chunks_of(blocks: Iterable[Sequence[Message]], contents: Mapping[str, Content]) -> list[Chunk]:
    """Return a chunk per partition, in order of the first message.

    Args:
      blocks: messages of a consumer, without errors.
      contents: of each topic.
    """
    by_partition: dict[Partition, _Rows] = defaultdict(_Rows)
    only = next(iter(contents)) if len(contents) == 1 else None
    for messages in blocks:
        # A broker's response contains runs of messages of one partition.
        for topic, of_topic in groupby(messages, _TOPIC) if only is None else [(only, messages)]:
            for number, run in groupby(of_topic, _PARTITION):
                by_partition[topic, number].add(list(run))
    return [
        chunk
        for partition, rows in by_partition.items()
        for chunk in _cut(partition, rows, contents[partition[0]])
    ]


def _cut(partition: Partition, rows: _Rows, content: Content) -> Iterator[Chunk]:
    if len(rows.offsets) > 1 and rows.size > LARGE:
        for half in rows.halves():
            yield from _cut(partition, half, content)
        return
    times = _arrivals(partition, rows.times)
    origin = Origin(
        source=partition_name(partition),
        format="jsonl",
        appended=int(times.min()),
        content=content,
    )
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(rows.offsets, pa.int64()),
            pa.array(rows.payloads, pa.binary()),
            pa.array(times),
        ],
        schema=with_origin(_SCHEMA, origin),
    )
    next_offsets = {partition: rows.offsets[-1] + 1}
    yield Chunk(_without_arrays(batch, origin), next_offsets, content)


def _arrivals(partition: Partition, times: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the arrival of messages in milliseconds: now for those whose time is none."""
    arrivals = np.array(times, dtype=np.int64)
    unknown = arrivals < _EARLIEST
    if unknown.any():
        _warn_of_seconds(partition, arrivals[unknown])
        arrivals = np.where(unknown, int(time.time() * 1000), arrivals)
    return arrivals


def _warn_of_seconds(partition: Partition, times: npt.NDArray[np.int64]) -> None:
    """Warn once per topic of timestamps that a producer wrote in seconds."""
    topic = partition[0]
    seconds = times[times > _EARLIEST // 1000]
    if not len(seconds) or topic in _WARNED_OF_SECONDS:
        return
    _WARNED_OF_SECONDS.add(topic)
    _LOG.warning(
        "topic %s: timestamps of messages are seconds, not milliseconds (%d would be in 1970): "
        "messages count as arrived when they are read, and --start TIME does not find them; the "
        "producer must write milliseconds",
        *(topic, seconds[0]),
    )


def _without_arrays(batch: pa.RecordBatch, origin: Origin) -> pa.RecordBatch:
    """Replace each message that is an array by its records, whose positions are those in it."""
    payloads = batch.column(PAYLOAD)
    first = pc.binary_slice(payloads, 0, 1)
    found = pc.equal(first, b"[")
    if not found.true_count:
        return batch
    names = pc.binary_join_element_wise(
        origin.source, batch.column(POSITION).cast(pa.string()), ":"
    )
    rows: list[int] = []
    positions: list[int] = []
    records: list[bytes | None] = []
    sources: list[str] = []
    for row, (offset, payload) in enumerate(
        zip(batch.column(POSITION).to_pylist(), payloads.to_pylist(), strict=True)
    ):
        inner = records_of_array(payload)
        rows += [row] * max(len(inner), 1)
        positions += range(len(inner)) if inner else [offset]
        records += inner or [payload]
        sources += [names[row].as_py()] * len(inner) if inner else [origin.source]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(positions, pa.int64()),
            pa.array(records, pa.binary()),
            batch.column(APPENDED).take(pa.array(rows)),
            pa.array(sources, pa.string()),
        ],
        schema=with_origin(_SCHEMA.append(pa.field(SOURCE, pa.string())), origin),
    )


def joined(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Join chunks of the same content up to a size limit, in order.

    Later steps take as long for a few rows as for some hundred.
    """
    groups: list[list[Chunk]] = []
    size = 0
    for chunk in chunks:
        alike = bool(groups) and groups[-1][0].content == chunk.content
        if not alike or size + chunk.batch.nbytes > LARGE:
            groups.append([])
            size = 0
        groups[-1].append(chunk)
        size += chunk.batch.nbytes
    return [group[0] if len(group) == 1 else _joined(group) for group in groups]


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    columns: list[list[pa.Array]] = [[] for _ in range(len(_SCHEMA) + 1)]
    next_offsets: dict[Partition, int] = {}
    for chunk in chunks:
        parts = (*map(chunk.batch.column, _SCHEMA.names), sources_of(chunk.batch))
        for column, values in zip(columns, parts, strict=True):
            column.append(values)
        next_offsets |= chunk.next_offsets
    origins = [origin_of(chunk.batch) for chunk in chunks]
    origin = replace(
        origins[0],
        source=" and ".join(dict.fromkeys(origin.source for origin in origins)),
        appended=min(origin.appended or 0 for origin in origins),
    )
    schema = with_origin(_SCHEMA.append(pa.field(SOURCE, pa.string())), origin)
    arrays = [pa.concat_arrays(column) for column in columns]
    return Chunk(pa.RecordBatch.from_arrays(arrays, schema=schema), next_offsets, chunks[0].content)
