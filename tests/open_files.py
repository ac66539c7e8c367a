"""What running processes have open, as Linux tells."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from beam_fraud.cli.terminal.interruption import descendants

_LISTENING, _ESTABLISHED = "0A", "01"


def open_files(process: int) -> list[str]:
    """Return what the descriptors of a process refer to: paths, or `socket:[INODE]`.

    A descriptor may be closed meanwhile, and the process may end: these are left out.
    """
    found = []
    for descriptor in Path(f"/proc/{process}/fd").glob("*"):
        with suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return found


def listening(port: int, parent: int) -> list[int]:
    """Return the descendants of a process that listen at a port."""
    sockets = _sockets(port, _LISTENING)
    return [one for one in descendants(parent) if not sockets.isdisjoint(open_files(one))]


def connections(port: int, parent: int) -> list[int]:
    """Return the numbers of connections to a port that descendants of a process have, if any."""
    sockets = _sockets(port, _ESTABLISHED)
    numbers = (len(sockets.intersection(open_files(one))) for one in descendants(parent))
    return [number for number in numbers if number]


def _sockets(port: int, state: str) -> set[str]:
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        f"socket:[{line[9]}]"
        for line in lines
        if line[3] == state and int(line[1].rpartition(":")[2], 16) == port
    }
