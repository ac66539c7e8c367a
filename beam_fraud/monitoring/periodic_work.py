"""Work that a thread does again and again while something else runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beam_fraud.errors import FraudError
from beam_fraud.wording import place_of

_LOG = logging.getLogger(__name__)


@contextmanager
def periodically(
    work: Callable[[], object],
    seconds: float,
    what: str,
    *,
    at_once: bool = True,
    patience: float | None = None,
) -> Iterator[None]:
    """Call a function each so many seconds while the body runs, and once more at its end.

    One call runs at a time. A failure is logged, and ends neither the body nor the calls.

    Args:
      work: the function.
      seconds: from the end of a call to the next one.
      what: what works, for messages: `the monitor`.
      at_once: whether the first call is at the begin; otherwise it comes after `seconds`.
      patience: at the end, seconds for a call that has begun; if they do not suffice, there is no
        last call. None to wait for it.
    """
    ended = threading.Event()

    def call() -> None:
        try:
            work()
        except FraudError as error:
            _LOG.warning("%s: %s [%s]", what, error, error.code)
        except Exception as error:
            # The text of an exception may hold values of a transaction.
            _LOG.error("%s failed: %s", what, place_of(error))

    def repeat() -> None:
        if at_once:
            call()
        while not ended.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, name=what, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(patience)
        if not thread.is_alive():
            call()
