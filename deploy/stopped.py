"""Servers that run until a signal stops them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from beam_fraud.errors import FraudError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def until_stopped(serve: Callable[[], None]) -> int:
    """Run a server until Ctrl-C or SIGTERM stops it; return the exit code.

    A second signal changes nothing: what the server has started would be left behind.

    Args:
      serve: runs it and waits; what goes wrong is one line and a code.
    """
    for number in _SIGNALS:
        signal.signal(number, _stop)
    try:
        serve()
    except FraudError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    return 0


def _stop(_number: int, _frame: object) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
