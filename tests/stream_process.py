"""`beam-fraud stream` as a process that tests kill and start again."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pyarrow.parquet as pq

from deploy.kafka.broker import Broker
from tests import forked

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that the stream may take for anything.
_PATIENCE = 180.0


#: Options of a stream that shall end when nothing comes any more.
UNTIL_IDLE = ("--until-idle", "1")


def stream_command(broker: Broker, topic: str, bundle: Path, out: Path, *options: str) -> list[str]:
    """Return an endless `stream` of a topic from its first message on."""
    command = ["stream", "--kafka", broker.bootstrap]
    command += ["--topic", topic, "--model", str(bundle), "--out", str(out)]
    return [*command, "--start", "earliest", *options]


class Stream:
    """A stream as a process that tests kill and start again.

    Args:
      arguments: of `beam-fraud`.
      out: its output.
      directory: where it runs.
    """

    def __init__(self, arguments: Sequence[str], out: Path, directory: Path = ROOT) -> None:
        self._arguments = arguments
        self._out = out
        self._directory = directory
        self.log = out.with_name(f"{out.name}.log")
        self._process: ForkServerProcess | None = None

    def start(self, *options: str) -> None:
        """Start the process with further `options`."""
        arguments = [*self._arguments, *options]
        self._process = forked.start(arguments, self.log, os.environ, directory=self._directory)

    @property
    def runs(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int:
        """The process, which was started."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill the process and its children, as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            # One that has just been started leads no group yet.
            self._process.kill()
            self._process.join()

    def stop(self) -> None:
        """Interrupt the stream, as Ctrl-C does."""
        assert self.runs, self.said()
        os.kill(self.pid, signal.SIGTERM)

    def wait_for_end(self) -> None:
        """Wait until the process ends by itself, without an error."""
        assert self.wait_for_code() == 0, self.said()

    def wait_for_code(self) -> int:
        """Wait until the process ends by itself; return its exit code."""
        assert self._process is not None
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            self._abort()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def wait_for_progress(self, since: dict[str, str]) -> bool:
        """Wait until the stream has committed more than `since`; return False if it ended."""
        return self.wait_until(lambda: self.positions() != since)

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition holds; return False if the stream ends before."""
        try:
            wait_until(lambda: condition() or not self.runs)
        except AssertionError:
            self._abort()
            raise AssertionError(f"it takes too long; the stream said: {self.said()}") from None
        return condition()

    def _abort(self) -> None:
        """End the process, which first writes down what every thread does."""
        assert self._process is not None
        os.kill(self.pid, signal.SIGABRT)
        self._process.join()

    def positions(self) -> dict[str, str]:
        """Return the committed positions by source."""
        file = self._out / "stream" / "state.db"
        if not file.exists():
            return {}
        with closing(sqlite3.connect(file, timeout=10)) as connection:
            try:
                return dict(connection.execute("SELECT source, position FROM positions"))
            except sqlite3.OperationalError:
                return {}

    def said(self) -> str:
        """Return the end of its output."""
        return self.log.read_text("utf-8", errors="replace")[-20_000:]


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; return True, or fail."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)
    return True


def archived(out: Path) -> int:
    """Return the rows in the visible files of scores and dead letters.

    A stream that starts again may remove some meanwhile, whose rows come again.
    """
    result = 0
    for part in [*out.glob("scores/part-*.parquet"), *out.glob("dead_letters/part-*.parquet")]:
        with suppress(FileNotFoundError):
            result += pq.read_metadata(part).num_rows
    return result
