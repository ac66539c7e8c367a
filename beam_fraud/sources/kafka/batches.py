"""Messages to raw batches, one for each partition."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import methodcaller

import numpy as np
import pyarrow as pa

from beam_fraud.kafka.library import Message
from beam_fraud.sources.kafka.topic import Content, Partition, partition_name
from beam_fraud.sources.raw import APPENDED, PAYLOAD, POSITION, Origin, with_origin

_SCHEMA = pa.schema([(POSITION, pa.int64()), (PAYLOAD, pa.binary()), (APPENDED, pa.int64())])
#: Bytes of a batch from which on it is cut in two: the next steps hold it several times over.
LARGE = 64 << 20
_PARTITION = methodcaller("partition")
_TOPIC = methodcaller("topic")
_OFFSET = methodcaller("offset")


@dataclass(frozen=True)
class Chunk:
    """Messages of a partition that follow each other."""

    #: Topic and number.
    partition: Partition
    #: A raw batch (`sources.raw`); a message without a value has an empty payload.
    batch: pa.RecordBatch
    #: The offset after the last of them.
    next_offset: int
    #: What they are.
    content: Content


@dataclass
class _Rows:
    """Messages of a partition, taken apart: the library's own objects are costly to keep."""

    offsets: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    #: When the broker took them, in milliseconds; less than zero where it has no time.
    times: list[int] = field(default_factory=list)

    def add(self, messages: Sequence[Message]) -> None:
        self.offsets += map(_OFFSET, messages)
        self.payloads += [message.value() or b"" for message in messages]
        self.times += [message.timestamp()[1] for message in messages]

    def halves(self) -> tuple[_Rows, _Rows]:
        half = len(self.offsets) // 2
        return (
            _Rows(self.offsets[:half], self.payloads[:half], self.times[:half]),
            _Rows(self.offsets[half:], self.payloads[half:], self.times[half:]),
        )


def chunks_of(blocks: Iterable[Sequence[Message]], contents: Mapping[str, Content]) -> list[Chunk]:
    """A chunk for each partition, in the order in which their first messages came.

    Args:
      blocks: messages as a consumer has given them, without errors.
      contents: of each topic.
    """
    by_partition: dict[Partition, _Rows] = defaultdict(_Rows)
    only = next(iter(contents)) if len(contents) == 1 else None
    for messages in blocks:
        # A broker's answer brings many messages of a partition in a row.
        for topic, of_topic in groupby(messages, _TOPIC) if only is None else [(only, messages)]:
            for number, run in groupby(of_topic, _PARTITION):
                by_partition[topic, number].add(list(run))
    return [
        chunk
        for partition, rows in by_partition.items()
        for chunk in _cut(partition, rows, contents[partition[0]])
    ]


def _cut(partition: Partition, rows: _Rows, content: Content) -> Iterator[Chunk]:
    if len(rows.offsets) > 1 and sum(map(len, rows.payloads)) > LARGE:
        for half in rows.halves():
            yield from _cut(partition, half, content)
        return
    times = np.array(rows.times, dtype=np.int64)
    times = np.where(times > 0, times, int(time.time() * 1000))
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
    yield Chunk(partition, batch, rows.offsets[-1] + 1, content)
