"""A stream as a process that runs until a measurement is complete."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from benchmarks.measure import ROOT, ProcessFailedError

#: Seconds for the stream to start, and to score what is left.
PATIENCE = 120.0
#: Seconds to end after SIGTERM.
_END_SECONDS = 60.0


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process inside the `with` block; end it by SIGTERM.

    Raises:
      ProcessFailedError: it failed, or did not end.
    """
    with TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(_END_SECONDS)
        except (subprocess.TimeoutExpired, _NotInTimeError) as error:
            code = process.poll() or 0
            raise ProcessFailedError(command, code, _output(error, errors)) from None
        finally:
            process.kill()
            process.wait()
        # SIGTERM is how it should end, with the code that says so, or with 0.
        if process.returncode not in (0, 143, -signal.SIGTERM):
            raise ProcessFailedError(command, process.returncode, _output(None, errors))


class _NotInTimeError(Exception):
    """An expected event did not happen in time."""


def _output(error: Exception | None, errors: IO[bytes]) -> bytes:
    errors.seek(0)
    return errors.read() + (f"\n{error}".encode() if error else b"")


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Wait for an event of a stream.

    Args:
      condition: whether it has.
      process: the stream.
      what: it has to do, for the message if it doesn't: "scores all".
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            raise _NotInTimeError(f"the stream ended before it {what}: code {process.returncode}")
        if time.monotonic() > deadline:
            raise _NotInTimeError(f"the stream has not come so far that it {what}")
        time.sleep(0.1)
