"""Memory, state and processor time of a job on a Flink cluster of this machine."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from deploy.flink.cluster import FlinkCluster
from tests.stream_process import wait_until

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
_FAMILY = re.compile(r'^\[CFOptions "(.*)"\]$', re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """The usage at one moment; processor seconds since the start of the processes."""

    #: When, in seconds of no particular beginning.
    at: float
    #: Names of states, over all tasks: column families of RocksDB.
    states: int
    #: Seconds of a core that task managers, and Python workers, have had.
    task_manager_seconds: float
    worker_seconds: float
    #: Bytes of memory that are resident.
    task_manager_bytes: int
    worker_bytes: int
    #: Clients of Kafka that the workers have, consumers and producers.
    clients: int
    #: Bytes of the state of the last complete checkpoint; 0 before the first.
    checkpoint_bytes: int
    #: Complete and failed checkpoints.
    checkpoints: int
    failed_checkpoints: int


def usage(cluster: FlinkCluster) -> Usage:
    """Return the usage of a cluster with one running job."""
    (job,) = cluster.jobs("RUNNING")
    message = cluster.get(f"/jobs/{job}/checkpoints")
    last = message["latest"]["completed"]
    java = [part.pid for name, part in cluster.parts.items() if name.startswith("task manager")]
    managers, python = [pid for pid in java if pid is not None], workers(cluster)
    return Usage(
        at=monotonic(),
        states=len(state_names(cluster)),
        task_manager_seconds=sum(map(_seconds, managers)),
        worker_seconds=sum(map(_seconds, python)),
        task_manager_bytes=sum(map(_resident, managers)),
        worker_bytes=sum(map(_resident, python)),
        clients=sum(map(_clients, python)),
        checkpoint_bytes=int(last["state_size"]) if last else 0,
        checkpoints=int(message["counts"]["completed"]),
        failed_checkpoints=int(message["counts"]["failed"]),
    )


def state_names(cluster: FlinkCluster) -> list[str]:
    """Return the names of the states of each task; states of two tasks count twice."""
    result = list[str]()
    for database in cluster.data.glob("temporary/tm_*/tmp/job_*/db"):
        # RocksDB writes the next file before it removes the last.
        with suppress(OSError, ValueError):
            newest = max(database.glob("OPTIONS-[0-9]*[0-9]"))
            result += _FAMILY.findall(newest.read_text("utf-8", errors="replace"))
    return result


def residuals(cluster: FlinkCluster) -> list[str]:
    """Return names of the states that hold residuals of the source; as `state_names`."""
    return [name for name in state_names(cluster) if name.startswith("sdf_checkpoint")]


def await_checkpoints(cluster: FlinkCluster, number: int) -> None:
    """Wait until so many more checkpoints are complete."""
    before = usage(cluster).checkpoints
    wait_until(lambda: usage(cluster).checkpoints >= before + number)


def workers(cluster: FlinkCluster) -> list[int]:
    """Return the processes of the pool of workers, the pool's own first."""
    parent = {int(path.parent.name): _parent(path) for path in Path("/proc").glob("[0-9]*/stat")}
    result, level = list[int](), [cluster.parts["worker pool"].pid]
    while level:
        level = [pid for pid, of in parent.items() if of in level]
        result = level + result
    return result


def _fields(stat: Path) -> list[str]:
    """Return the fields after the name, which may contain spaces."""
    return stat.read_text("utf-8").rpartition(")")[2].split()


def _parent(stat: Path) -> int | None:
    try:
        return int(_fields(stat)[1])
    except (OSError, IndexError):
        return None


def _seconds(pid: int) -> float:
    with suppress(OSError):
        fields = _fields(Path(f"/proc/{pid}/stat"))
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) * _PAGE
    return 0


def _clients(pid: int) -> int:
    """Count Kafka clients of a process by the names of their threads."""
    result = 0
    for name in Path(f"/proc/{pid}/task").glob("*/comm"):
        with suppress(OSError):
            result += name.read_text("utf-8").strip() == "rdk:main"
    return result
