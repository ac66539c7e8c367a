"""Shards of the same key one after the other, as one: between them nothing has to be moved."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.state.shard import Delta, Effects, Shard

#: Ahead of what a link keeps: its place in the chain, and the length.
_HEADER = struct.Struct("<BI")


class ChainShard:
    """Each link takes what the one before it gives on.

    A delta is of one link, a merged one has a section of each. Links must not replace what they
    have kept (`Effects.replaces`).

    Args:
      links: in their order, at most 255.
    """

    def __init__(self, links: Sequence[Shard]) -> None:
        self._links = tuple(links)

    @property
    def needed_from(self) -> int:
        """What some link needs."""
        return min(link.needed_from for link in self._links)

    @property
    def waiting(self) -> bool:
        """Whether one of them waits."""
        return any(link.waiting for link in self._links)

    def restore(self, kept: Sequence[bytes]) -> Effects:
        """Every link takes up its own, the last one first: rows that one gives on find the next."""
        sections = _sections(kept, len(self._links))
        effects = []
        for place in reversed(range(len(self._links))):
            restored = self._links[place].restore(sections[place])
            effects.append(self._onward(place, restored))
        return _together(effects)

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Through every link."""
        return self._onward(-1, Effects([batch]))

    def tick(self, now: float) -> Effects:
        """Time has passed for every link."""
        return self._each(lambda link: link.tick(now))

    def finish(self) -> Effects:
        """Return every link gives all it has."""
        return self._each(lambda link: link.finish())

    def merge(self, kept: Sequence[bytes]) -> bytes:
        """Return a section of each link that has kept anything."""
        sections = _sections(kept, len(self._links))
        merged = (
            _section(place, self._links[place].merge(found))
            for place, found in enumerate(sections)
            if found
        )
        return b"".join(merged)

    def _each(self, call: Callable[[Shard], Effects]) -> Effects:
        return _together([self._onward(at, call(link)) for at, link in enumerate(self._links)])

    def _onward(self, place: int, effects: Effects) -> Effects:
        """Return what came of the link at a place, taken by those after it."""
        rows, deltas = effects.rows, list(_marked(place, effects))
        for after in range(place + 1, len(self._links)):
            given: list[pa.RecordBatch] = []
            for batch in rows:
                taken = self._links[after].take(batch)
                given += taken.rows
                deltas += _marked(after, taken)
            rows = given
        return Effects(rows, deltas)


def _marked(place: int, effects: Effects) -> Iterator[Delta]:
    assert not effects.replaces, "a link of a chain does not replace what it has kept"
    for delta in effects.deltas:
        yield Delta(_section(place, delta.data), delta.newest)


def _together(effects: Sequence[Effects]) -> Effects:
    rows = [batch for one in effects for batch in one.rows]
    return Effects(rows, [delta for one in effects for delta in one.deltas])


def _section(place: int, data: bytes) -> bytes:
    return _HEADER.pack(place, len(data)) + data


def _sections(kept: Sequence[bytes], links: int) -> list[list[bytes]]:
    found: list[list[bytes]] = [[] for _ in range(links)]
    for data in kept:
        at = 0
        while at < len(data):
            place, length = _HEADER.unpack_from(data, at) if at + 5 <= len(data) else (links, 0)
            at += _HEADER.size + length
            if place >= links or at > len(data):
                raise FraudError(
                    "the stream's state is damaged or of another version; "
                    "start anew with another --out",
                    Code.STATE_UNREADABLE,
                )
            found[place].append(data[at - length : at])
    return found
