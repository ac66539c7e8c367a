"""Where the entries of a list come from: what a file, a table and a topic have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import pyarrow as pa

from beam_fraud.decisions.lists.changes import Change


@dataclass(frozen=True)
class Update:
    """The changes that a source has found since its last read."""

    #: `changes.CHANGES`, in their order.
    changes: pa.Table
    #: Whether they replace all values of the list.
    whole: bool = False
    #: Number of values that the list has with them; None if the source cannot tell. With another
    #: number, values were removed unseen, and the source is read as a whole.
    total: int | None = None


class ListSource(ABC):
    """A source of entries; used by one thread at a time."""

    #: Seconds between two reads.
    look_seconds: float

    @abstractmethod
    def read_all(self) -> Update:
        """Return all entries, as an update that replaces what was there.

        Raises:
          FraudError: the source cannot be read.
        """

    @abstractmethod
    def read_new(self) -> Update | None:
        """Return what has changed since the last read; None if nothing has.

        Raises:
          FraudError: the source cannot be read.
        """

    @abstractmethod
    def history(self) -> list[Change]:
        """Return the changes that the source still has, the oldest first.

        Raises:
          FraudError: the source cannot be read.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return what it is, without secrets, such as `table blocked of database cards.db`."""

    def close(self) -> None:  # noqa: B027  # most have nothing to release
        """Release connections; the source is not used after that."""
