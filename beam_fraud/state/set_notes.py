"""Encode the state of several sets of windows in one shard: sections, and notes about the sets."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from beam_fraud.errors import Code, FraudError

#: Headers of a section of a set's state, with the number of the set and the length, and of a note
#: about a set. The state of the first set alone has no sections: its deltas begin with 1 to 11.
_SECTION, _NOTE = 0x10, 0x11
_HEADER = struct.Struct("<BIQ")
#: Number of the set of the start.
FIRST = 0


class SetNote(msgspec.Struct, frozen=True):
    """A stored note about a set; the latest one is valid."""

    number: int
    revision: int
    #: Definitions as in a schema; empty for the set of the start.
    definitions: list[dict[str, object]]
    #: Event time from which windows are full enough to be used, microseconds.
    full_from: int
    ready: bool
    #: Event time since which no model needs it, or None.
    unused_since: int | None
    dropped: bool = False
    #: Whether earlier transactions are being read: such a set begins again after a restart.
    reading: bool = False

    def to_bytes(self) -> bytes:
        """Encode it for the state of a shard."""
        encoded = msgspec.json.encode(self)
        return _HEADER.pack(_NOTE, self.number, len(encoded)) + encoded


def section(number: int, data: bytes) -> bytes:
    """Encode a part of the state of a set."""
    return _HEADER.pack(_SECTION, number, len(data)) + data


def divided(stored: Sequence[bytes]) -> tuple[dict[int, list[bytes]], dict[int, SetNote]]:
    """Return the deltas of each set, and its latest note."""
    sections: dict[int, list[bytes]] = {}
    notes: dict[int, SetNote] = {}
    for data in stored:
        if data[:1] and data[0] not in (_SECTION, _NOTE):
            sections.setdefault(FIRST, []).append(data)
            continue
        at = 0
        while at < len(data):
            try:
                kind, number, length = _HEADER.unpack_from(data, at)
                at += _HEADER.size
                content = data[at : at + length]
                if len(content) < length:
                    raise ValueError("cut off")
                if kind == _NOTE:
                    note = msgspec.json.decode(content, type=SetNote)
                    if number not in notes or notes[number].revision < note.revision:
                        notes[number] = note
                else:
                    sections.setdefault(number, []).append(content)
            except (struct.error, ValueError):
                raise FraudError(
                    "the stream's state is damaged or of another version; start again with "
                    "another --out",
                    Code.STATE_UNREADABLE,
                ) from None
            at += length
    return sections, notes
