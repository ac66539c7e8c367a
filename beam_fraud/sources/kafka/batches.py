"""Messages to raw batches, one for each partition."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import methodcaller
from typing import Literal

import pyarrow as pa

from beam_fraud.kafka.library import Message
from beam_fraud.sources.kafka.topic import Partition, partition_name
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, with_origin

_SCHEMA = pa.schema([(POSITION, pa.int64()), (PAYLOAD, pa.binary())])
#: Bytes of a batch from which on it is cut in two: the next steps hold it several times over.
_LARGE = 64 << 20
_PARTITION = methodcaller("partition")
_TOPIC = methodcaller("topic")


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
    content: Literal["transactions", "labels"]


def chunks_of(
    messages: Sequence[Message], contents: Mapping[str, Literal["transactions", "labels"]]
) -> list[Chunk]:
    """A chunk for each partition, in the order in which their first messages came.

    Args:
      messages: as a consumer has given them, without errors.
      contents: of each topic.
    """
    by_partition: dict[Partition, list[Message]] = {}
    only = next(iter(contents)) if len(contents) == 1 else None
    # A broker's answer brings many messages of a partition in a row.
    for topic, of_topic in groupby(messages, _TOPIC) if only is None else [(only, messages)]:
        for number, run in groupby(of_topic, _PARTITION):
            by_partition.setdefault((topic, number), []).extend(run)
    return [
        chunk
        for partition, found in by_partition.items()
        for chunk in _cut(partition, found, contents[partition[0]])
    ]


def _cut(
    partition: Partition, messages: list[Message], content: Literal["transactions", "labels"]
) -> Iterator[Chunk]:
    if len(messages) > 1 and sum(map(len, messages)) > _LARGE:
        half = len(messages) // 2
        yield from _cut(partition, messages[:half], content)
        yield from _cut(partition, messages[half:], content)
        return
    offsets = [message.offset() for message in messages]
    last = offsets[-1]
    assert last is not None
    # Milliseconds, or less than zero where the broker has none.
    times = [when for message in messages if (when := message.timestamp()[1]) > 0]
    origin = Origin(
        source=partition_name(partition),
        format="jsonl",
        appended=min(times) if times else int(time.time() * 1000),
        content=content,
    )
    columns = [
        pa.array(offsets, pa.int64()),
        pa.array([message.value() or b"" for message in messages], pa.binary()),
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=with_origin(_SCHEMA, origin))
    yield Chunk(partition, batch, last + 1, content)
