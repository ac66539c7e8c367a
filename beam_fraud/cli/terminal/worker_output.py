"""Log the standard error output of worker processes instead of showing it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_STDERR = 2


@contextmanager
def worker_output_logged() -> Iterator[None]:
    """While the body runs, log output of started processes at level debug.

    Beam's worker processes inherit standard error and write every record and traceback to it,
    although the runner logs them here as well. So they get a pipe instead; this process keeps the
    original standard error.
    """
    own = sys.stderr
    terminal = os.dup(_STDERR)
    read_end, write_end = os.pipe()
    os.dup2(write_end, _STDERR)
    os.close(write_end)
    reader = threading.Thread(target=_log_lines, args=(read_end,), daemon=True)
    reader.start()
    if _writes_to(own, _STDERR):
        sys.stderr = os.fdopen(os.dup(terminal), "w", 1, own.encoding, own.errors)
    try:
        yield
    finally:
        os.dup2(terminal, _STDERR)
        os.close(terminal)
        # A worker that outlives the body keeps the pipe open, and the reader with it.
        reader.join(timeout=1.0)
        # Not earlier: until then the reader's lines go to `sys.stderr`.
        private, sys.stderr = sys.stderr, own
        if private is not own and not reader.is_alive():
            private.close()


def _writes_to(stream: object, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return False


def _log_lines(descriptor: int) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as pipe:
        for line in pipe:
            logger.debug("%s", line.rstrip())
