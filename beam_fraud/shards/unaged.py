"""Shards of which everything is kept until something replaces it."""

from __future__ import annotations

from collections.abc import Sequence


class Unaged:
    """The part of a `Shard` that says so: all its deltas are of `FOREVER`."""

    @property
    def needed_from(self) -> int:
        """Nothing may be dropped."""
        return -(1 << 63)

    def merge(self, kept: Sequence[bytes]) -> bytes:
        """Never asked for: deltas of `FOREVER` are not merged."""
        raise NotImplementedError("what this shard keeps does not age, so it is not merged")
