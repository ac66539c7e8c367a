"""Open cases and apply approved list requests while the review runs."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from pathlib import Path

from beam_fraud.errors import FraudError
from beam_fraud.review.list_requests import apply_requests
from beam_fraud.review.opening import open_cases
from beam_fraud.review.settings import ReviewSettings

_LOG = logging.getLogger(__name__)
#: Seconds between two looks; lists take up an entry within ten seconds, with the time that streams
#: take to look at them.
_EVERY = 1.0
#: Seconds between two transactions while many rows wait: people write in between.
_PAUSE = 0.1


def sweep(
    url: str, settings: ReviewSettings, stop: threading.Event, lists: Path | None = None
) -> None:
    """Work until `stop` is set; any number of processes may do so for one database.

    Args:
      url: a prepared database.
      settings: of the review.
      stop: ends the work.
      lists: directory of the lists; None to leave list requests alone.
    """
    more = False
    while not stop.wait(_PAUSE if more else _EVERY):
        try:
            more = sweep_once(url, settings, datetime.now(UTC), lists)
        except FraudError as error:
            more = False
            _LOG.error("%s; trying again", error)


def sweep_once(
    url: str, settings: ReviewSettings, now: datetime, lists: Path | None = None
) -> bool:
    """Open cases of some rows, and apply list requests; return whether more rows wait.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    if lists is not None:
        apply_requests(url, lists)
    return open_cases(url, settings, now).more
