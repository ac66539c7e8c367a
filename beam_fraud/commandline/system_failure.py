"""What the operating system refuses, in one line: disks, permissions, memory, files, network."""

from __future__ import annotations

import errno
import os
import re
import socket

_ELSEWHERE = "give another place"
_PERMITTED = "change its permissions, or run as another user"
_ROOM = "make room there and run again"
_OPEN = "allow more open files (ulimit -n), or give fewer workers"
_MEMORY = "free some memory, or give fewer workers or files at a time"
_PROCESSES = "allow more processes (ulimit -u), or give fewer workers"
_DISK = "look into the system's log: the disk or its connection fails"
_NETWORK = "correct the address or start what should answer there, and run again"

#: What to do, by the number of what the system says.
_FIXES = {
    errno.EACCES: _PERMITTED,
    errno.EPERM: _PERMITTED,
    errno.EROFS: _ELSEWHERE,
    errno.ENOTDIR: f"a file stands where a directory should; {_ELSEWHERE}",
    errno.EISDIR: "give a file",
    errno.EEXIST: f"move it away, or {_ELSEWHERE}",
    errno.ENOTEMPTY: f"move it away, or {_ELSEWHERE}",
    errno.ENOENT: "put it back and run again, or correct its path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "remove the circle of symbolic links",
    errno.EXDEV: "give a place on the same disk",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "allow larger files (ulimit -f), or give another disk",
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EIO: _DISK,
    errno.ENODEV: _DISK,
    errno.ENXIO: _DISK,
    errno.ESTALE: _DISK,
    errno.EADDRINUSE: "another process listens there: stop it, or give another port",
    errno.EADDRNOTAVAIL: "give an address of this machine",
    errno.ECONNREFUSED: _NETWORK,
    errno.ECONNRESET: _NETWORK,
    errno.ECONNABORTED: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
    errno.EHOSTDOWN: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.ENETDOWN: _NETWORK,
    errno.ETIMEDOUT: _NETWORK,
    errno.EPIPE: _NETWORK,
}
_ANY_FIX = "mend that and run again"

#: An OSError as its text, after its number.
_NUMBERED = re.compile(r"Error: [^\n]*?\[Errno (\d+)\]")
#: How Arrow says the number, at the end of its own words.
_OF_ARROW = re.compile(r"\[errno (\d+)\]")
#: Paths in such a text, as Python prints them.
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
#: The step that Beam says it was in.
_STEP = re.compile(r"\[while running '([^\n]*?)'\]")
#: Kinds of errors whose text has no number, as they are named in the text of a runner.
_NO_MEMORY = re.compile(r"\b(?:\w*MemoryError|bad_alloc)\b")
_NO_THREAD = "can't start new thread"
_KILLED = re.compile(r"\b(?:BrokenProcessPool|TerminatedWorkerError)\b")
_OF_SQLITE = {
    "database or disk is full": _ROOM,
    "disk I/O error": _DISK,
    "unable to open database file": f"{_PERMITTED}, or {_OPEN}",
    "attempt to write a readonly database": _PERMITTED,
}


def system_failure(error: BaseException, line: str) -> str | None:
    """What a user is told of an error of the operating system; None for any other error.

    Args:
      error: as it was raised here, or by a runner with the text of what was raised elsewhere.
      line: the error in one line that begins with the name of its kind, as a traceback ends.
    """
    told = _of_error(error) or _of_text(line)
    if told is None:
        return None
    step = _STEP.search(str(error))
    return told if step is None else f"step {step[1]!r}: {told}"


def fix_of(error: OSError) -> str:
    """What a user can do about an error of the operating system."""
    return _FIXES.get(error.errno or 0, _ANY_FIX)


def _of_error(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return f"{error.strerror or error}; the name of a host is wrong, or no name server answers"
    if isinstance(error, OSError) and error.errno is not None:
        given = (error.filename, error.filename2)
        names = [os.fsdecode(name) for name in given if isinstance(name, str | bytes) and name]
        return _told(error.errno, names or _paths(str(error)))
    if isinstance(error, OSError) and not _NUMBERED.search(str(error)):
        # A library's own words, of a connection or of a file that it cannot make sense of.
        said = " ".join((str(error) or type(error).__name__).splitlines()[0].split())
        return f"{_STEP.sub('', said).strip()}; {_ANY_FIX}"
    return None


def _of_text(line: str) -> str | None:
    if _NO_MEMORY.search(line.partition(" [while")[0]):
        return f"there is not enough memory; {_MEMORY}"
    if _NO_THREAD in line:
        return f"no more threads can be started; {_PROCESSES}"
    if _KILLED.search(line):
        return f"the system has killed a worker process, mostly for want of memory; {_MEMORY}"
    for said, fix in _OF_SQLITE.items():
        if "OperationalError" in line and said in line:
            return f"a database: {said}; {fix}"
    found = _NUMBERED.search(line) or _OF_ARROW.search(line)
    return None if found is None else _told(int(found[1]), _paths(_STEP.sub("", line)))


def _told(number: int, paths: list[str]) -> str:
    said = os.strerror(number)
    where = f"{' to '.join(paths)}: " if paths else ""
    return f"{where}{said}; {_FIXES.get(number, _ANY_FIX)}"


def _paths(text: str) -> list[str]:
    return [one or other for one, other in _QUOTED.findall(text) if "/" in (one or other)]
