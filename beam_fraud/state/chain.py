"""Chain shards of one key to one, so that rows need not move between them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.state.shard import Delta, Effects, Shard

#: Header of a link's state: its position in the chain, and the length.
_HEADER = struct.Struct("<BI")


class ChainShard:
    """Each link takes the output of the previous one.

    A delta belongs to one link, a merged one has a section per link. Links must not replace their
    state (`Effects.replaces`).

    Args:
      links: the links in order, at most 255.
    """

    def __init__(self, links: Sequence[Shard]) -> None:
        self._links = tuple(links)

    @property
    def needed_from(self) -> int:
        """The minimum over the links."""
        return min(link.needed_from for link in self._links)

    @property
    def waiting(self) -> bool:
        """Return whether a link waits."""
        return any(link.waiting for link in self._links)

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore every link, the last first, so that rows a link emits find the next one ready."""
        sections = _sections(deltas, len(self._links))
        effects = []
        for place in reversed(range(len(self._links))):
            restored = self._links[place].restore(sections[place])
            effects.append(self._onward(place, restored))
        return _together(effects)

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Pass a batch through every link."""
        return self._onward(-1, Effects([batch]))

    def tick(self, now: float) -> Effects:
        """Pass the time to every link."""
        return self._each(lambda link: link.tick(now))

    def finish(self) -> Effects:
        """Finish every link in order."""
        return self._each(lambda link: link.finish())

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Return a section of each link with state."""
        sections = _sections(deltas, len(self._links))
        merged = (
            _section(place, self._links[place].merge(section))
            for place, section in enumerate(sections)
            if section
        )
        return b"".join(merged)

    def _each(self, call: Callable[[Shard], Effects]) -> Effects:
        return _together([self._onward(at, call(link)) for at, link in enumerate(self._links)])

    def _onward(self, place: int, effects: Effects) -> Effects:
        """Pass a link's effects through the later links."""
        rows, deltas = effects.rows, list(_marked(place, effects))
        for after in range(place + 1, len(self._links)):
            rows_onward: list[pa.RecordBatch] = []
            for batch in rows:
                result = self._links[after].take(batch)
                rows_onward += result.rows
                deltas += _marked(after, result)
            rows = rows_onward
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


def _sections(deltas: Sequence[bytes], links: int) -> list[list[bytes]]:
    sections: list[list[bytes]] = [[] for _ in range(links)]
    for data in deltas:
        at = 0
        while at < len(data):
            place, length = _HEADER.unpack_from(data, at) if at + 5 <= len(data) else (links, 0)
            at += _HEADER.size + length
            if place >= links or at > len(data):
                raise FraudError(
                    "the stream's state is damaged or of another version; "
                    "start again with another --out",
                    Code.STATE_UNREADABLE,
                )
            sections[place].append(data[at - length : at])
    return sections
