"""`beam-fraud serve` as a process that tests kill and start again, and its clients."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from deploy.ports import free_port
from tests import forked
from tests.stream_process import wait_until

#: Seconds for an answer, far more than any takes.
_PATIENCE = 30.0
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


class Command:
    """A command of `beam-fraud` in a process of its own."""

    def __init__(self, arguments: Sequence[str], log: Path, look: float | None = None) -> None:
        """Prepare a process.

        Args:
          arguments: of the command.
          log: file of its output.
          look: seconds between two looks for another champion; None as in the field.
        """
        self.arguments = list(arguments)
        self.log = log
        self.look = look
        #: Variables that the process has besides.
        self.environment: dict[str, str] = {}
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start the process."""
        environment = {**os.environ, **self.environment}
        self._process = forked.start(self.arguments, self.log, environment, look=self.look)

    @property
    def pid(self) -> int:
        """The process, which runs."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.is_alive()

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def interrupt(self) -> None:
        """Ask the process to end, by SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int:
        """Return the exit code, once the process ends by itself."""
        assert self._process is not None
        self._process.join(_PATIENCE)
        assert self._process.exitcode is not None, f"it does not end: {self.said()}"
        return self._process.exitcode

    def said(self) -> str:
        """Return the end of its output."""
        return self.log.read_text("utf-8", errors="replace")[-20_000:]


class Serve(Command):
    """A server at a port that stays the same, with a state that it finds again.

    As a context manager it runs inside the `with`, and is killed at its end unless it has stopped.
    """

    def __init__(
        self,
        bundle: Path,
        state: Path,
        *options: str,
        by: str = "--model",
        look: float | None = None,
    ) -> None:
        """Prepare a server.

        Args:
          bundle: the bundle, or a registry with `by="--registry"`.
          state: its directory.
          options: further options.
          by: the option that names the bundle.
          look: as for `Command`.
        """
        self.state = state
        self.port = free_port()
        arguments = ["serve", by, str(bundle), "--state", str(state), "--json"]
        arguments += ["--port", str(self.port), "--access-log", "none", *options]
        super().__init__(arguments, state.with_name(f"{state.name}.log"), look)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        super().start()
        wait_until(lambda: self.ready or not self.runs)
        assert self.ready, self.said()

    @property
    def ready(self) -> bool:
        """Whether it answers predictions."""
        try:
            with Client(self.port) as client:
                return client.get("/readyz")[0] == 200
        except (OSError, HTTPException):
            return False

    @property
    def listens(self) -> bool:
        """Whether it answers anything."""
        try:
            with Client(self.port) as client:
                return client.get("/healthz")[0] == 200
        except (OSError, HTTPException):
            return False

    def stop(self) -> dict[str, Any]:
        """Stop the server cleanly; return its summary."""
        self.interrupt()
        assert self.wait() == 0, self.said()
        assert "Traceback" not in self.said()
        said = self.said()
        summary: dict[str, Any] = json.loads(said[said.rindex("\n{") :])
        return summary

    def metrics(self) -> str:
        """Return the page of its figures."""
        with Client(self.port) as client:
            return client.get("/metrics")[1].decode()

    def figure(self, name: str) -> float:
        """Return a figure of that page, 0 if it is absent."""
        lines = (line.rsplit(" ", 1) for line in self.metrics().splitlines())
        return next((float(line[1]) for line in lines if line[0] == name), 0.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.runs:
            os.kill(self.pid, signal.SIGABRT)
            self.wait()
            print(self.said())
        self.kill()


class Client:
    """A connection that is kept open."""

    def __init__(self, port: int, timeout: float = _PATIENCE) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=timeout)

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, response.read()

    def post(self, body: bytes, query: str = "") -> tuple[int, bytes, dict[str, str]]:
        """Send a body to `/predict`; return status, body and headers."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/predict{query}", body, headers)
        response = self._connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Payment:
    """A transaction, and the record that is sent."""

    id: str
    account: str
    amount: float
    record: bytes


def payments(count: int, accounts: int, seed: int, name: str = "t") -> list[Payment]:
    """Return transactions of the preset `handbook`, a second apart; amounts up to 200."""
    draw = np.random.default_rng(seed)
    account = draw.integers(accounts, size=count).tolist()
    amount = draw.uniform(1, 200, count).round(2).tolist()
    start = np.datetime64("2024-03-01T00:00:00") + np.arange(count).astype("timedelta64[s]")
    made = []
    for number, moment in enumerate(start.astype(str).tolist()):
        record = {
            "TRANSACTION_ID": f"{name}{number}",
            "TX_DATETIME": moment,
            "CUSTOMER_ID": f"account-{account[number]}",
            "TERMINAL_ID": f"terminal-{number % 17}",
            "TX_AMOUNT": amount[number],
        }
        made.append(
            Payment(
                str(record["TRANSACTION_ID"]),
                str(record["CUSTOMER_ID"]),
                amount[number],
                json.dumps(record).encode(),
            )
        )
    return made


def body_of(group: Sequence[Payment], *, array: bool) -> bytes:
    """Return the body of a request."""
    records = [payment.record for payment in group]
    return b"[" + b",".join(records) + b"]" if array else records[0]


def rows_of(body: bytes, *, array: bool) -> list[bytes]:
    """Return the answers of a body, byte for byte."""
    return [bytes(row) for row in _ROWS.decode(body)] if array else [body]


def same(before: bytes, after: bytes) -> bool:
    """Return whether a repeat got the answer of before; that by default gets its score later."""
    if b'"degraded":"timeout"' not in before:
        return before == after
    first, again = msgspec.json.decode(before), msgspec.json.decode(after)
    return all(first[n] == again[n] for n in ("transaction_id", "decision", "flagged", "degraded"))


@dataclass
class Load:
    """Clients that send transactions until all are acknowledged, whatever happens to the server.

    A client repeats a request that got no answer, with the same ids; and now and then one that was
    answered, whose answer must be the same.
    """

    port: int
    payments: Sequence[Payment]
    clients: int = 4
    #: Requests per second and client; None for as many as the server takes.
    rate: float | None = None
    #: Most transactions per request.
    most: int = 5
    seed: int = 0
    #: Id to its answer.
    answers: dict[str, bytes] = field(default_factory=dict)
    #: Seconds that each answer took.
    seconds: list[float] = field(default_factory=list)
    #: Requests without an answer, and with 503.
    broken: int = 0
    shed: int = 0
    #: What was not as it should be.
    wrong: list[str] = field(default_factory=list)
    #: No request begins after this.
    ended: threading.Event = field(default_factory=threading.Event)
    #: Transactions are sent once: a connection that breaks ends its client.
    once: bool = False

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Send during the `with` block and wait for the last answer at its end."""
        threads = [threading.Thread(target=self._client, args=(n,)) for n in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        except BaseException:
            self.ended.set()
            raise
        finally:
            for thread in threads:
                thread.join()
        assert not self.wrong, self.wrong[:3]

    def acknowledged(self, count: int) -> Callable[[], bool]:
        """Return a condition: at least so many transactions have an answer."""
        return lambda: len(self.answers) >= count or bool(self.wrong)

    def _client(self, number: int) -> None:
        draw = random.Random(self.seed * 1_000 + number)
        own = self.payments[number :: self.clients]
        at, begun, sent = 0, time.monotonic(), 0
        with Client(self.port) as client:
            while at < len(own) and not self.ended.is_set() and not self.wrong:
                size = draw.randint(0, self.most)
                array = size > 0
                group = own[at : at + max(size, 1)]
                if at and draw.random() < 0.1:
                    # Some that were answered, with the new ones.
                    array, group = True, [*draw.sample(own[:at], 1), *group]
                if not self._sent(client, group, array=array):
                    return
                at += max(size, 1)
                sent += 1
                if self.rate is not None:
                    self.ended.wait(max(begun + sent / self.rate - time.monotonic(), 0.0))

    def _sent(self, client: Client, group: Sequence[Payment], *, array: bool) -> bool:
        body = body_of(group, array=array)
        while not self.ended.is_set():
            begun = time.monotonic()
            try:
                status, answer, _ = client.post(body)
            except (OSError, HTTPException):
                client.close()
                self.broken += 1
                if self.once:
                    return False
                self.ended.wait(0.02)
                continue
            if status == 503:
                self.shed += 1
                if self.once:
                    return True
                self.ended.wait(0.02)
                continue
            self.seconds.append(time.monotonic() - begun)
            if status != 200:
                self.wrong.append(f"status {status}: {answer[:500]!r}")
                return False
            rows = rows_of(answer, array=array)
            for payment, row in zip(group, rows, strict=True):
                before = self.answers.setdefault(payment.id, row)
                if not same(before, row):
                    self.wrong.append(f"{payment.id} got {before!r}, then {row!r}")
            return True
        return False
