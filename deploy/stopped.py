"""Servers that run until somebody stops them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from beam_fraud.errors import FraudError


def until_stopped(serve: Callable[[], None]) -> int:
    """Run a server until Ctrl-C or SIGTERM, which end it in order; the exit code.

    Args:
      serve: runs it and waits; what goes wrong is one line and a code.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve()
    except FraudError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    return 0
