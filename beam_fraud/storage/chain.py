"""Entries of a log that form a chain: each holds the digest of the one before."""

from __future__ import annotations

import hashlib
from typing import Protocol

import msgspec


class ChainedEntry(Protocol):
    """An entry of a chain: a dataclass that JSON can encode."""

    @property
    def number(self) -> int:
        """From 1 on, without gaps."""

    @property
    def previous(self) -> str:
        """SHA-256 of the entry before, in hexadecimal; "" for the first."""


def line_of(entry: ChainedEntry) -> bytes:
    """Return an entry as a JSON object on one line: the same bytes for equal entries."""
    return msgspec.json.encode(entry, order="deterministic")


def digest_of(line: bytes) -> str:
    """Return the SHA-256 of a line, in hexadecimal."""
    return hashlib.sha256(line).hexdigest()


def follows(entry: ChainedEntry, number: int, head: str) -> bool:
    """Return whether an entry is the next of a chain.

    Args:
      entry: the entry.
      number: of the entry before; 0 without one.
      head: digest of the entry before; "" without one.
    """
    return entry.number == number + 1 and entry.previous == head
