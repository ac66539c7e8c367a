"""Calls in another process, so that their work delays nothing that this one answers.

One process is forked early, while a fork is safe: before files, connections, and threads that may
hold a lock. (A process of `serve --workers` has a thread by then, which only waits for the end of
its parent.) The fork has what this one has imported, in the same memory. It forks again for each
call, so that what a call loads, leaks or breaks ends with it.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import ParamSpec, TypeAlias, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from beam_fraud.errors import Code, FraudError, fraud_error_in, line_of
from beam_fraud.wording import place_of

_LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")
_FORKS = multiprocessing.get_context("fork")
#: Seconds in which a call gets the time that no other work wants. Then it begins again with a share
#: of the processors: on a busy machine there may be no such time.
_SPARE = 3.0
#: By how much less urgent than answers it is to the system from then on.
_NICENESS = 5
#: Bytes from which the data of an array is received where it is used, instead of being copied.
_LARGE = 1 << 16
#: Seconds until a process that shall end is killed.
_PATIENCE = 5.0
#: Type: what is sent at once: a pickle, and the data of its large arrays.
_Frames: TypeAlias = Sequence[bytes | memoryview]
_NUMBER = struct.Struct("!Q")


@dataclass(frozen=True)
class _Unsendable:
    """The result of a call whose result pickle does not know."""


class _GoneError(Exception):
    """Nobody waits for results any more."""


@dataclass(frozen=True)
class _Raised:
    """An error as the result of a call."""

    error: BaseException


class SideProcess:
    """Runs calls in forks of a process that was forked early (`side_process`).

    Args:
      connection: to that process.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._calling = threading.Lock()
        self._gone = self._closed = False

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return the result of a function, which has one thread of OpenMP and BLAS.

        It runs here if the other process has ended or pickle does not know its result.

        Args:
          function: a function of a module, or a method of what pickle knows, as its arguments.

        Raises:
          FraudError: its process ended without a result.
          EOFError, OSError: `close` was called meanwhile.
          Exception: what the function raised.
        """
        with self._calling:
            frames = self._answer(_pickled((function, args, kwargs)))
        if frames is not None:
            data, *arrays = frames
            # Of this program's own process, which has checked what it read.
            result: _T | _Raised | _Unsendable = pickle.loads(data, buffers=arrays)  # noqa: S301
            if isinstance(result, _Raised):
                raise result.error
            if not isinstance(result, _Unsendable):
                return result
        with threadpool_limits(1):
            return function(*args, **kwargs)

    def close(self) -> None:
        """End the process, and the call that it runs; in any thread."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        with suppress(OSError):
            # Closing alone would not wake a thread that waits for a result.
            self._connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, request: _Frames) -> list[memoryview] | None:
        """Return what the other process answers; None if it has ended.

        An error here ends it: the next call would read what this one left unread.
        """
        if self._gone:
            return None
        try:
            _send(self._connection, request)
            return _received(self._connection)
        except BaseException as error:
            if self._closed:
                raise
            self._gone = True
            self._end()
            if not isinstance(error, Exception):
                raise
            _LOG.warning(
                "the process that checks what is to be taken up has ended; this one does it from "
                "now on, which may delay answers: start it again"
            )
            return None


@contextmanager
def side_process() -> Iterator[SideProcess]:
    """Fork a process for calls during the body; enter early (see the module).

    Raises:
      OSError: the system refuses another process.
    """
    ours, theirs = socket.socketpair()
    process = _FORKS.Process(target=_serve, args=(theirs, ours), name="side process")
    with ours:
        with theirs:
            process.start()
        side = SideProcess(ours)
        try:
            yield side
        finally:
            side.close()
            process.join(_PATIENCE)
            process.kill()
            process.join()


def _serve(connection: socket.socket, parents: socket.socket) -> None:
    """Have each request answered by a fork until the parent has gone, even by a kill."""
    # Its own end of the connection here would keep that open.
    parents.close()
    # The parent drains first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # A collection would write to all memory, and so copy it.
    gc.disable()
    with suppress(EOFError, OSError, _GoneError):
        while True:
            request = _received(connection)
            frames = _forked(request, connection, spare=True)
            if not frames:
                frames = _forked(request, connection, spare=False)
            _send(connection, frames)


def _forked(request: _Frames, parent: socket.socket, *, spare: bool) -> _Frames:
    """Return the result of a call in another fork; with `spare`, [] if it got too little time.

    Raises:
      _GoneError: the parent has gone meanwhile.
    """
    ours, theirs = socket.socketpair()
    process = _FORKS.Process(target=_call, args=(request, theirs, spare, (ours, parent)))
    with ours:
        try:
            with theirs:
                process.start()
        except OSError as error:
            return _pickled(_Raised(error))
        try:
            if not wait([ours, parent], _SPARE if spare else None):
                return []
            return _received(ours, parent)
        except MemoryError as error:
            return _pickled(_Raised(error))
        except (EOFError, OSError):
            process.join()
            text = f"the process that checked it ended with exit code {process.exitcode}"
            return _pickled(_Raised(FraudError(text, Code.WORKER_ENDED)))
        finally:
            process.kill()
            process.join()


def _call(
    request: _Frames,
    connection: socket.socket,
    spare: bool,
    parents: Sequence[socket.socket],
) -> None:
    """Answer one request, and end; at once if the parent has gone, even by a kill."""
    # Open here, they would hide from this process and the server that the parent has gone.
    for socket_of_parent in parents:
        socket_of_parent.close()
    threading.Thread(target=_end_with, args=(connection,), name="parent", daemon=True).start()
    if not _give_way(spare=spare):
        # Its limit of time is not for work that has a share of the processors.
        _send(connection, [])
        return
    try:
        data, *arrays = request
        function, args, kwargs = pickle.loads(data, buffers=arrays)  # noqa: S301 of the parent
        with threadpool_limits(1):
            result = function(*args, **kwargs)
    except Exception as error:
        result = _Raised(_sendable(error))
    try:
        frames = _pickled(result)
    except Exception:
        # Whatever parts of it raise.
        frames = _pickled(_Unsendable())
    _send(connection, frames)


def _end_with(connection: socket.socket) -> None:
    """End this process once the parent, which sends nothing, has gone."""
    with suppress(OSError):
        connection.recv(1)
    os._exit(1)


def _give_way(*, spare: bool) -> bool:
    """Let the work of others go first; with `spare`, all of it, or return False."""
    if not spare:
        os.nice(_NICENESS)
        return True
    if sys.platform == "linux":
        # Some sandboxes refuse it.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return True
    return False


def _sendable(error: Exception) -> BaseException:
    """Return an error that says the same and that pickle knows; a note says where it was raised."""
    known = fraud_error_in(error) or error
    try:
        pickle.loads(pickle.dumps(known))  # noqa: S301 its own
    except Exception:
        known = RuntimeError(line_of(error))
    known.add_note(place_of(error))
    return known


def _pickled(result: object) -> _Frames:
    """Return a pickle and the data of its large arrays."""
    arrays = list[memoryview]()

    def stays(data: pickle.PickleBuffer) -> bool:
        raw = data.raw()
        if raw.nbytes >= _LARGE:
            arrays.append(raw)
        return raw.nbytes < _LARGE

    return [pickle.dumps(result, 5, buffer_callback=stays), *arrays]


def _send(connection: socket.socket, frames: _Frames) -> None:
    connection.sendall(_NUMBER.pack(len(frames)))
    for frame in frames:
        connection.sendall(_NUMBER.pack(len(frame)))
        connection.sendall(frame)


def _received(connection: socket.socket, parent: socket.socket | None = None) -> list[memoryview]:
    """Return the frames that the other side sends.

    Args:
      parent: who waits for them, and sends nothing meanwhile.

    Raises:
      EOFError: the other side has ended.
      _GoneError: the parent has gone.
    """

    def number() -> int:
        (value,) = _NUMBER.unpack(_exactly(connection, _NUMBER.size, parent))
        return int(value)

    return [_exactly(connection, number(), parent) for _ in range(number())]


def _exactly(connection: socket.socket, size: int, parent: socket.socket | None) -> memoryview:
    # Nothing is written twice, and the system writes without holding the interpreter.
    data = left = np.empty(size, np.uint8).data
    while left:
        if parent is not None and parent in wait([connection, parent]):
            raise _GoneError
        read = connection.recv_into(left)
        if not read:
            raise EOFError
        left = left[read:]
    return data
