"""The access log: a line per request, without card data, written beside the requests."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from beam_fraud.errors import Code, FraudError, fix_of

_LOG = logging.getLogger(__name__)
#: Lines that wait for a slow disk or terminal; more are dropped and counted.
_MOST_WAITING = 20_000
#: Seconds between two writes.
_PAUSE = 0.2


class Entry(msgspec.Struct):
    """A request. Names and times alone: bodies, values of queries and tokens are in no field."""

    timestamp: str
    level: Literal["info", "warning", "error"]
    logger: str
    method: str
    route: str
    flags: str
    status: int
    ms: float
    bytes_in: int
    bytes_out: int
    rows: int
    token: str | None
    client: str
    request_id: str
    code: str | None


@dataclass(frozen=True)
class AccessLogSettings:
    """Settings of the access log."""

    #: `text`, or `json` for one object per line.
    form: Literal["text", "json"] = "text"
    #: File to append to; None for standard error.
    file: Path | None = None
    #: Whether requests are logged at all.
    on: bool = True


class AccessLog:
    """Collects entries on the event loop; a thread writes them together."""

    def __init__(self, settings: AccessLogSettings, lost: Callable[[], None]) -> None:
        """Open the log.

        Args:
          settings: form and file.
          lost: called for each entry that cannot be kept.

        Raises:
          FraudError: the file cannot be written.
        """
        self._encode = msgspec.json.encode if settings.form == "json" else _text
        self._lost = lost
        # Its ends are safe for two threads.
        self._waiting: deque[bytes] = deque()
        self._second, self._prefix = -1, ""
        self._ended = threading.Event()
        self._file = _opened(settings.file) if settings.on else None
        self._owned = settings.file is not None
        self._thread = threading.Thread(target=self._write, name="access log", daemon=True)
        if settings.on:
            self._thread.start()

    @property
    def on(self) -> bool:
        """Return whether entries are written."""
        return self._file is not None

    def add(self, entry: Entry) -> None:
        """Keep an entry until it is written."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(self._encode(entry))
        else:
            self._lost()

    def timestamp(self) -> str:
        """Return the time as the project's log writes it."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}Z"

    def close(self) -> None:
        """Write what waits, and end."""
        if self._file is None:
            return
        self._ended.set()
        self._thread.join(timeout=5)
        if self._owned:
            os.close(self._file)
        self._file = None

    def _write(self) -> None:
        failed = False
        while True:
            ended = self._ended.wait(_PAUSE)
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if lines and self._file is not None:
                try:
                    _write_all(self._file, b"\n".join([*lines, b""]))
                except OSError as error:
                    for _ in lines:
                        self._lost()
                    if not failed:
                        _LOG.error("the access log cannot be written: %s", error.strerror)
                    failed = True
            if ended:
                return


def _opened(file: Path | None) -> int:
    if file is None:
        try:
            return sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):
            # Python's standard error may be an object without a descriptor.
            return 2
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise FraudError(
            f"the access log {file}: {error.strerror}; {fix_of(error)}", Code.OUTPUT_UNWRITABLE
        ) from None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _text(entry: Entry) -> bytes:
    flags = f"?{entry.flags}" if entry.flags else ""
    code = f" {entry.code}" if entry.code else ""
    return (
        f"{entry.timestamp} {entry.level} {entry.method} {entry.route}{flags} {entry.status}{code} "
        f"{entry.ms:.3f} ms {entry.bytes_in} B in {entry.bytes_out} B out {entry.rows} rows "
        f"token={entry.token or '-'} client={entry.client} id={entry.request_id}"
    ).encode()
