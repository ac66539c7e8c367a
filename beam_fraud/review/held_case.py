"""A case that one transaction changes: locked, checked, written back, logged and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from beam_fraud.review.audit_log import Deed, append_all, has_entry
from beam_fraud.review.errors import ConflictError, missing_case
from beam_fraud.review.events import Event, queue_events
from beam_fraud.review.queue import QUEUED, QueuedCase, queued_case
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.storage.database.review_tables import CASES


def write_case(connection: Connection, case: QueuedCase, changes: Mapping[str, object]) -> int:
    """Change columns of a held case; return its new version."""
    version = case.version + 1
    change_case(connection, case.case_id, {**changes, "version": version})
    return version


def change_case(connection: Connection, case_id: str, changes: Mapping[str, object]) -> None:
    """Change columns of a held case; its version stays unless it is among them."""
    connection.execute(_CHANGED, {"of_case": case_id, **changes})


# Statements are made once: that takes longer than to run them.
_CHANGED = CASES.update().where(CASES.c.case_id == bindparam("of_case"))
_HELD = QUEUED.where(CASES.c.case_id == bindparam("case_id")).with_for_update()


@dataclass
class Work:
    """The actions of a person in one transaction of the database."""

    connection: Connection
    settings: ReviewSettings
    who: str
    #: The current time, UTC; equal if a transaction is repeated.
    now: datetime
    _deeds: list[Deed] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)

    def hold(self, case_id: str, version: int | None = None, *, force: bool = False) -> QueuedCase:
        """Lock a case: others cannot change it before the transaction ends.

        Args:
          case_id: the case.
          version: as the person has seen it; None if any will do.
          force: whether somebody else's claim does not matter.

        Raises:
          MissingError: there is none.
          ConflictError: it has another version, or somebody else holds it.
        """
        row = self.connection.execute(_HELD, {"case_id": case_id}).first()
        if row is None:
            raise missing_case(case_id)
        held = queued_case(row, self.now)
        if held.claimed_by not in (None, self.who) and not force:
            raise ConflictError(f"case {case_id}: {held.claimed_by} works on it")
        if version is not None and held.version != version:
            raise ConflictError(
                f"case {case_id}: it has changed since you opened it; look at it again"
            )
        return held

    def was_done(self, action: str, case_id: str) -> bool:
        """Return whether an earlier attempt of this very transaction has succeeded."""
        return has_entry(self.connection, self.who, Deed(action, case_id), self.now)

    def note(
        self,
        action: str,
        case: QueuedCase | None,
        detail: Mapping[str, object] | None = None,
        *,
        account_id: str | None = None,
        merchant_id: str | None = None,
        event: bool = True,
    ) -> None:
        """Note an entry of the audit log, and an event unless it is of no interest elsewhere."""
        detail = {} if detail is None else detail
        case_id = None if case is None else case.case_id
        self._deeds.append(Deed(action, case_id, detail))
        if event:
            account = case.account_id if case is not None and account_id is None else account_id
            self._events.append(
                Event(action, self.who, self.now, case_id, account, merchant_id, detail)
            )

    def finish(self) -> None:
        """Write the noted events and entries: the last step of a transaction."""
        queue_events(self.connection, self.settings.channels, self._events, self.now)
        append_all(self.connection, self.who, self._deeds, self.now)
        self._deeds.clear()
        self._events.clear()


def version_now(connection: Connection, case_id: str) -> int:
    """Return the version of a case.

    Raises:
      MissingError: there is none.
    """
    version = connection.scalar(select(CASES.c.version).where(CASES.c.case_id == case_id))
    if version is None:
        raise missing_case(case_id)
    return int(version)
