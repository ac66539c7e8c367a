"""The load on a server counts what its clients wait, and bad connections are held open."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bad_connections import bad_connections
from benchmarks.measure import ROOT


@dataclass
class Answering:
    """A server that answers each request by its body, in order; some after a pause."""

    #: Number of a request to the seconds before its answer.
    pauses: dict[int, float] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            yield

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                self.connections += 1
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrong = (OSError, ValueError, MemoryError)
        with suppress(*wrong), connection, connection.makefile("rb") as stream:
            while stream.readline():
                length = 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    length = int(value) if name == b"Content-Length" else length
                self.bodies.append(stream.read(length))
                time.sleep(self.pauses.get(len(self.bodies), 0.0))
                head = f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n".encode()
                # In two parts, as a network may have it.
                connection.sendall(head + self.bodies[-1][:1])
                connection.sendall(self.bodies[-1][1:])


def loaded(server: Answering, directory: Path, bodies: int, *options: str) -> dict[str, Any]:
    file = directory / "bodies.jsonl"
    file.write_text("".join(f'{{"number": {number}}}\n' for number in range(bodies)))
    command = [sys.executable, "-m", "benchmarks.serve_load", "--port", str(server.port)]
    command += ["--bodies", str(file), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_pause_counts_for_all_that_should_have_been_sent(tmp_path: Path) -> None:
    server = Answering(pauses={20: 0.5})
    with server.running():
        options = ("--rate", "100", "--seconds", "1", "--connections", "1")
        sent = loaded(server, tmp_path, 200, *options)
    assert sent["answered"] == sent["counted"] == len(server.bodies) == 100
    assert sent["missing"] == sent["failed"] == 0
    # Half of the requests were due in the pause, or wait for those that were.
    assert sent["p50"] < 500 <= sent["longest"]
    assert sent["p99"] > 400
    # That was not the sender's fault.
    assert sent["lag"]["p50"] < 100


def test_without_a_rate_each_body_is_sent_once(tmp_path: Path) -> None:
    server = Answering()
    with server.running():
        options = ("--seconds", "20", "--connections", "4", "--skip", "10")
        sent = loaded(server, tmp_path, 60, *options)
    assert sent["answered"] == 50
    numbers = sorted(json.loads(body)["number"] for body in server.bodies)
    assert numbers == list(range(10, 60))


def test_bad_connections_are_opened_again() -> None:
    server, count = Answering(), 20
    with server.running(), bad_connections(server.port, count):
        until = time.monotonic() + 20
        while server.connections <= count and time.monotonic() < until:
            time.sleep(0.01)
    assert server.connections > count
