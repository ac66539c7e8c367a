"""Requests to a server at an even rate, sent from another process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import ROOT
from tests.serving import Serve
from tests.stream_process import wait_until

#: The figure of scored rows.
SCORED = 'beam_fraud_serve_transactions_total{outcome="scored"}'


def write_bodies(file: Path, records: Iterable[bytes]) -> Path:
    """Write bodies of requests, one a line."""
    with file.open("wb") as lines:
        lines.writelines(record + b"\n" for record in records)
    return file


@contextmanager
def open_load(
    server: Serve, bodies: Path, rate: float, seconds: float, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Send requests during the body; all that were sent must have been answered with 200.

    Args:
      server: which runs.
      bodies: a body a line, enough for the whole load.
      rate: requests a second; the time of each counts from the moment at which it is due.
      seconds: most of them; the end of the body ends the load earlier.
      options: further options of `benchmarks.serve_load`.

    Yields:
      The process that sends.
    """
    command = [sys.executable, "-m", "benchmarks.serve_load", "--port", str(server.port)]
    command += ["--rate", str(rate), "--seconds", str(seconds), "--bodies", str(bodies)]
    process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: server.figure(SCORED) > 0)
        yield process
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=120)
    sent = json.loads(output)
    for name in ("p50", "p99", "p99_9", "longest"):
        print(f"{name}: {sent[name]} ms; sent late by {sent['lag'][name]} ms")
    assert (process.returncode, sent["missing"], sent["failed"]) == (0, 0, 0)
