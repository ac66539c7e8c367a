"""A server of this machine as a process that can be killed and started again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from beam_fraud.errors import Code, FraudError

#: Seconds that a server may take to shut down before it is killed.
STOP_SECONDS = 30.0


class ServerProcess:
    """A process whose output goes to a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> None:
        """Describe a process; `start` starts it.

        Args:
          name: What people call it.
          command: Program and arguments.
          log: File that it writes to; what is there stays.
          environment: Its whole environment; this process's by default.
          user: Who runs it, in the group of that name alone; whoever calls by default.
          stop_signal: What asks it to end.
        """
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._user = user
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None if the process does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, or restart it."""
        assert self._process is None, f"the {self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                # Ctrl-C is for the program that started it, and that stops it.
                start_new_session=True,
            )

    def wait_until(self, answers: Callable[[], bool], seconds: float) -> None:
        """Wait until the process is ready.

        Raises:
          FraudError: It ended, or stays silent.
        """
        deadline = time.monotonic() + seconds
        while not answers():
            self.refuse_ended()
            if time.monotonic() > deadline:
                raise FraudError(
                    f"the {self.name} doesn't answer: see {self.log}", Code.RUNNER_SILENT
                )
            time.sleep(0.05)

    def refuse_ended(self) -> None:
        """Check that the process runs.

        Raises:
          FraudError: It ended before it was stopped.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            raise FraudError(
                f"the {self.name} ended with code {code}: see {self.log}", Code.PIPELINE_FAILED
            )

    def wait(self) -> None:
        """Wait until the process ends.

        Raises:
          FraudError: It ended before it was stopped.
        """
        assert self._process is not None, f"the {self.name} doesn't run"
        self._process.wait()
        self.refuse_ended()

    def stop(self) -> None:
        """Stop the process, and kill it if it does not stop."""
        if self._process is not None:
            self._process.send_signal(self._stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self.kill()

    def kill(self) -> None:
        """Kill the process, as a crash would, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
