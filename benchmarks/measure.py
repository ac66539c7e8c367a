"""Run whole processes and measure their wall time and peak resident memory.

Memory is what Linux tells of every process in `/proc`. The system's own sum, `ru_maxrss`, is of no
use for it: it leaves out all but the largest process, and it begins with the memory that the
parent had when it started the process.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

#: The project's root, in which `python -m benchmarks.plain_loop` finds its module.
ROOT = Path(__file__).resolve().parent.parent
#: Seconds between two looks at the memory of a process tree: each takes a millisecond.
_INTERVAL = 0.1
_PROC = Path("/proc")
#: Kilobytes that a process holds, and the most that it ever held.
_MEMORY = re.compile(r"^Vm(HWM|RSS):\s*(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A case of a benchmark: commands that start together; the last one ends the case."""

    #: Name in the table.
    name: str
    #: What the commands score together, or None for what does not score.
    rows: int | None
    #: Program and arguments of each.
    commands: tuple[tuple[str, ...], ...]
    #: Kind of the model, or None.
    model: str | None = None


@dataclass(frozen=True)
class Run:
    """One run of a case."""

    #: Wall seconds from the start of the first command to the end of the last.
    seconds: float
    #: Bytes that all its processes held in memory at once, at most; 0 where there is no `/proc`.
    peak_bytes: int
    #: Seconds since the start, and bytes that all its processes held then; ten a second.
    held: tuple[tuple[float, int], ...] = ()
    #: Processor time of all its processes, of which none may run at the same time as another case.
    processor_seconds: float = 0.0


class ProcessFailedError(Exception):
    """A process failed; the message has its command and the end of its errors."""

    def __init__(self, command: Sequence[str], code: int, errors: bytes) -> None:
        last = " / ".join(errors.decode(errors="replace").strip().splitlines()[-3:])
        super().__init__(f"{' '.join(command)}: exit code {code}: {last}")


def run_in_turn(
    cases: Sequence[Case], repeat: int, report: Callable[[Case, Run], None] | None = None
) -> dict[Case, list[Run]]:
    """Run cases A B C A B C .., so that a temporary slowdown affects all.

    Args:
      cases: what to run.
      repeat: how often each.
      report: called after each run.

    Returns:
      Every case to its runs.

    Raises:
      ProcessFailedError: a process ended with another exit code than 0.
    """
    runs: dict[Case, list[Run]] = {case: [] for case in cases}
    for _ in range(repeat):
        for case in cases:
            runs[case].append(run(case))
            if report is not None:
                report(case, runs[case][-1])
    return runs


def printed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """Run a command and parse the JSON that it prints.

    Raises:
      ProcessFailedError: it ended with another exit code than 0.
    """
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    if done.returncode:
        raise ProcessFailedError(command, done.returncode, done.stderr)
    return json.loads(done.stdout)


def run(case: Case) -> Run:
    """Run a case once.

    Raises:
      ProcessFailedError: a process ended with another exit code than 0.
    """
    with TemporaryFile() as errors:
        start, used = time.perf_counter(), _processor_seconds()
        processes = [
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
            for command in case.commands
        ]
        with PeakMemory([process.pid for process in processes]) as memory:
            for process in processes:
                process.wait()
        seconds = time.perf_counter() - start
        for command, process in zip(case.commands, processes, strict=True):
            if process.returncode:
                errors.seek(0)
                raise ProcessFailedError(command, process.returncode, errors.read())
    return Run(seconds, memory.bytes, tuple(memory.held), _processor_seconds() - used)


def _processor_seconds() -> float:
    """Return the processor time of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class PeakMemory:
    """Samples the memory of process trees; measures nothing without `/proc`."""

    def __init__(self, roots: list[int]) -> None:
        """Describe the processes; the `with` block samples them."""
        #: The most that all held at once.
        self.bytes = 0
        #: Seconds since the start, and the bytes that all held then.
        self.held: list[tuple[float, int]] = []
        self._roots = roots
        self._start = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL):
            members = [_memory(member) for root in self._roots for member in _tree(root)]
            together = sum(now for now, _ in members)
            self.held.append((time.monotonic() - self._start, together))
            self.bytes = max(self.bytes, together, *(most for _, most in members))


def _tree(pid: int) -> list[int]:
    """Return a process and its descendants that still run."""
    pids = [pid]
    try:
        for children in (_PROC / str(pid) / "task").glob("*/children"):
            for child in children.read_text().split():
                pids += _tree(int(child))
    except OSError:
        pass
    return pids


def _memory(pid: int) -> tuple[int, int]:
    """Return the present and the peak bytes of a process; zeros if it has ended."""
    try:
        fields = dict(_MEMORY.findall((_PROC / str(pid) / "status").read_text()))
    except OSError:
        return 0, 0
    return int(fields.get("RSS", 0)) * 1024, int(fields.get("HWM", 0)) * 1024
