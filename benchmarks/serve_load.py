"""Send requests to a server at an even rate, or as fast as it answers; print what they took.

At a rate, a request's time counts from the moment at which it should have been sent, whatever the
server or this process was busy with then, until its answer is there: until the system has it, where
that notes the time, for this process may have to wake up to read it. How late it sent and read is
printed as well, and the times until it had read. SIGTERM ends it early, after the answers to what
was sent.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.latency import quantile
from benchmarks.pace import Pace

#: Of Linux' <sys/prctl.h>.
_PR_SET_TIMERSLACK = 29
#: Of Linux' <asm-generic/socket.h>: the system notes when data arrives; and its form of a time.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
#: Seconds before a request in which this process does not sleep.
_AWAKE = 0.0002
#: Seconds for the last answers.
_PATIENCE = 10.0
_END = b"\r\n\r\n"
#: Most bytes of a read, and of a head.
_READ, _LONGEST_HEAD = 1 << 19, 1 << 13
#: Before each body of a file of Arrow streams: its length.
LENGTH = struct.Struct("<Q")
_JSON = "application/json"


class _Connection:
    """A connection with at most one request on its way."""

    def __init__(self, address: tuple[str, int], *, keeps: bool = False) -> None:
        """Connect; with `keeps`, `body` is the last answer."""
        self.socket = socket.create_connection(address)
        # An answer of a thousand rows is read in few calls.
        self._buffer = bytearray(_READ)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.since = 0.0
        self._unsent = memoryview(b"")
        self._left = -1
        self._head = b""
        self._keeps = keeps
        self.body = b""
        self.ok = True
        #: When the end of the last answer was there, as far as the system says; and was read.
        self.arrived = self.read = 0.0

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: bytes, since: float) -> bool:
        """Begin to send a request; return whether all of it is sent."""
        self.since, self._left, self._head = since, -1, b""
        self._unsent = memoryview(request)
        return self.sent()

    def sent(self) -> bool:
        """Send what the system takes; return whether that is all.

        To wait for a server that reads slowly would keep the answers of others waiting.
        """
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self.socket.send(self._unsent, socket.MSG_DONTWAIT) :]
        return not self._unsent

    def received(self) -> bool:
        """Read what is there; return whether the answer is complete."""
        space = socket.CMSG_SPACE(_TIMESPEC.size)
        read, notes, _, _ = self.socket.recvmsg_into([self._buffer], space)
        if not read:
            raise ConnectionError("the server has closed a connection")
        self.arrived = self.read = time.perf_counter()
        for level, kind, value in notes:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                self.arrived -= (time.time_ns() - seconds * 10**9 - nanoseconds) / 1e9
        if self._left < 0:
            before = len(self._head)
            # Not all that was read: a copy of an answer of a thousand rows takes as long as a read.
            self._head += self._buffer[: min(read, _LONGEST_HEAD)]
            end = self._head.find(_END)
            if end < 0:
                if read > _LONGEST_HEAD:
                    raise ConnectionError("an answer with too long a head")
                return False
            head = self._head[:end].lower()
            place = head.find(b"content-length:")
            if place < 0:
                raise ConnectionError("an answer without Content-Length")
            length = int(head[place + 15 :].split(b"\r", 1)[0])
            self.ok = head.startswith(b"http/1.1 200")
            begin = end + len(_END) - before
            self.body = bytes(self._buffer[begin:read]) if self._keeps else b""
            self._left = length - (read - begin)
        else:
            if self._keeps:
                self.body += self._buffer[:read]
            self._left -= read
        if self._left <= 0 and self._unsent:
            raise ConnectionError("the server has answered before it had the request")
        return self._left <= 0


@dataclass
class _Load:
    connections: list[_Connection]
    requests: Iterator[bytes]
    #: Latencies in seconds with the moments from which they count, and those until answers were
    #: read; and how late requests were sent.
    took: list[tuple[float, float]] = field(default_factory=list)
    until_read: list[tuple[float, float]] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    failed: int = 0
    #: The answers in the order of `took`, or None to forget them.
    answers: list[bytes] | None = None
    #: Whether to send no more.
    ended: bool = False

    def __post_init__(self) -> None:
        self._free = deque(self.connections)
        self._busy: set[_Connection] = set()
        self._sending: set[_Connection] = set()

    def at_rate(self, pace: Pace) -> int:
        """Send at a rate; return the number of requests that got no answer."""
        start, sent, freed = time.perf_counter(), 0, 0.0
        while sent < pace.messages and not self.ended:
            now = time.perf_counter() - start
            due = pace.moment(sent)
            if due > now:
                # A process that sleeps wakes up too late.
                self._read(max(due - now - _AWAKE, 0.0))
            elif self._free:
                if due > freed:
                    self.lags.append(now - due)
                self._send(next(self.requests), start + due)
                sent += 1
            elif not self._freed():
                return pace.messages - len(self.took)
            else:
                # What was due until now is late by the server's fault.
                freed = time.perf_counter() - start
        return self._finish()

    def as_fast_as_answered(self, seconds: float) -> int:
        """Send the next request on each connection that has its answer, for so many seconds."""
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end and not self.ended:
            while self._free and (request := next(self.requests, None)) is not None:
                self._send(request, time.perf_counter())
            if not self._busy:
                break
            self._read(end - now)
        return self._finish()

    def _send(self, request: bytes, since: float) -> None:
        connection = self._free.popleft()
        if not connection.send(request, since):
            self._sending.add(connection)
        self._busy.add(connection)

    def _read(self, seconds: float) -> None:
        """Read answers for at most so many seconds, and send on; return at the first."""
        # Of all calls that wait, this one alone is exact to the microsecond.
        ready, writable, _ = select.select(self._busy, self._sending, (), seconds)
        self._sending.difference_update([one for one in writable if one.sent()])
        for connection in ready:
            if connection.received():
                since = connection.since
                self.took.append((since, connection.arrived - since))
                self.until_read.append((since, connection.read - since))
                self.failed += not connection.ok
                if self.answers is not None:
                    self.answers.append(connection.body)
                self._busy.remove(connection)
                self._free.append(connection)

    def _freed(self) -> bool:
        """Wait for an answer; return False if none is complete in time."""
        until = time.perf_counter() + _PATIENCE
        while not self._free and (left := until - time.perf_counter()) > 0:
            self._read(left)
        return bool(self._free)

    def _finish(self) -> int:
        until = time.perf_counter() + _PATIENCE
        while self._busy and (left := until - time.perf_counter()) > 0:
            self._read(left)
        return len(self._busy)


def requests(path: str, bodies: Iterator[bytes], media: str) -> Iterator[bytes]:
    """Yield a request of each body."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media}\r\n"
    for body in bodies:
        yield f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _bodies(file: Path, media: str) -> Iterator[bytes]:
    """Yield the bodies of a file: of JSON one a line, else each after its length."""
    with file.open("rb") as data:
        if media == _JSON:
            yield from (line.rstrip(b"\n") for line in data)
            return
        while length := data.read(LENGTH.size):
            yield data.read(*LENGTH.unpack(length))


def main() -> int:
    """Send a load, and print a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/predict")
    parser.add_argument("--bodies", type=Path, required=True, help="a body a line, or sized ones")
    parser.add_argument("--media", default=_JSON, help="media type of the bodies")
    parser.add_argument("--skip", type=int, default=0, help="bodies that were sent before")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, help="requests a second; else as fast as answered")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds that do not count")
    parser.add_argument(
        "--answers",
        type=Path,
        help="file of a line for each answer: the second of the monotonic clock at which its "
        "request was due, how many milliseconds it took, the answer",
    )
    options = parser.parse_args()
    address = ("127.0.0.1", options.port)
    # In memory: the disk is no part of the schedule.
    bodies = islice(_bodies(options.bodies, options.media), options.skip, None)
    prepared = list(requests(options.path, bodies, options.media))
    _wake_in_time()
    gc.disable()
    keeps = options.answers is not None
    connections = [_Connection(address, keeps=keeps) for _ in range(options.connections)]
    load = _Load(connections, iter(prepared), answers=[] if keeps else None)
    signal.signal(signal.SIGTERM, lambda *_: setattr(load, "ended", True))
    begun = time.perf_counter()
    if options.rate is None:
        missing = load.as_fast_as_answered(options.seconds)
    else:
        messages = min(int(options.rate * options.seconds), len(prepared))
        missing = load.at_rate(Pace(options.rate, messages))
    seconds = time.perf_counter() - begun
    if load.answers is not None:
        with options.answers.open("wb") as file:
            for (since, took), answer in zip(load.took, load.answers, strict=True):
                file.write(b"%.6f\t%.4f\t%s\n" % (since, took * 1000, answer))
    first = begun + options.warm_up
    counted = [took * 1000 for since, took in load.took if since >= first]
    until_read = [took * 1000 for since, took in load.until_read if since >= first]
    print(
        json.dumps(
            {
                "answered": len(load.took),
                "failed": load.failed,
                "missing": missing,
                "seconds": seconds,
                "counted": len(counted),
                **_quantiles(counted),
                "until_read": _quantiles(until_read),
                "lag": _quantiles([lag * 1000 for lag in load.lags]),
            }
        )
    )
    return 0


def _wake_in_time() -> None:
    """Let waits of this process end when they should, not up to 50 microseconds later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def _quantiles(values: list[float]) -> dict[str, float | None]:
    """Return quantiles of milliseconds; null without any."""
    shares = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999, "longest": 1.0}
    if not values:
        return dict.fromkeys(shares)
    return {name: quantile(np.array(values), share) for name, share in shares.items()}


if __name__ == "__main__":
    sys.exit(main())
