"""The site: what all pages of a server share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.storage.database.connection import reading
from beam_fraud.storage.database.retry import persistently

if TYPE_CHECKING:
    from beam_fraud.review.people.openid import Provider

#: Seconds that a request waits for a busy database.
_PATIENCE = 5.0
#: The connection of the page that this thread makes.
_READING: ContextVar[Connection | None] = ContextVar("reading", default=None)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Site:
    """Settings and resources that the pages of a server share."""

    #: The database.
    url: str
    settings: ReviewSettings
    #: Directory of the lists that rules name; None if there are none.
    lists: Path | None = None
    #: Keyed hashes for ids; needed where a role sees them in place of ids.
    pseudonyms: Pseudonyms | None = field(default=None, repr=False)
    #: Where people log in beside passwords, or None.
    provider: Provider | None = None
    #: Directory of the figures of a stream or server, or None.
    live: Path | None = None

    @staticmethod
    def now() -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on a connection that reads.

        Raises:
          FraudError: the database cannot be read.
        """
        shared = _READING.get()
        if shared is not None:
            return work(shared)
        with reading(self.url) as connection:
            return work(connection)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the reads of a page share one connection.

        Raises:
          FraudError: the database cannot be read.
        """
        with reading(self.url) as connection:
            before = _READING.set(connection)
            try:
                yield
            finally:
                _READING.reset(before)

    def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in a write transaction, and once more after a conflict of the database.

        Raises:
          FraudError: the database cannot be written.
        """
        return persistently(self.url, work, _PATIENCE)
