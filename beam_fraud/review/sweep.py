"""Open cases and apply approved list requests while the review runs."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from beam_fraud.errors import FraudError
from beam_fraud.review.list_requests import apply_requests
from beam_fraud.review.opening import ROWS_AT_A_TIME, open_cases
from beam_fraud.review.settings import ReviewSettings

_LOG = logging.getLogger(__name__)
#: Seconds between two looks; lists take up an entry within ten seconds, with the time that streams
#: take to look at them.
_EVERY = 1.0
#: Seconds that a transaction should take while many rows wait, and least seconds between two:
#: people write in between. On SQLite no other can write meanwhile.
_SPELL = 0.1
#: Fewest rows of a transaction.
_FEWEST_ROWS = 20


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
    more, rows, took = False, _FEWEST_ROWS, 0.0
    # It leaves the database to others for as long as it had it, or waited for it.
    while not stop.wait(max(_SPELL, took) if more else _EVERY):
        begun = monotonic()
        try:
            if lists is not None:
                apply_requests(url, lists)
            more = open_cases(url, settings, datetime.now(UTC), most=rows).more
        except FraudError as error:
            more = False
            _LOG.error("%s; trying again", error)
        took = monotonic() - begun
        if more:
            rows = min(max(round(rows * _SPELL / took), _FEWEST_ROWS), ROWS_AT_A_TIME)
