"""Flagged rows a second that a database accepts."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from beam_fraud.errors import FraudError
from beam_fraud.storage.database.connection import sqlite_url
from benchmarks.measure import printed
from benchmarks.plan import Plan, Results, log
from benchmarks.table import Figure, Ratio
from benchmarks.upserts_run import NEW
from deploy.postgres.server import Server, program

#: Rows that are written; bounds are for so many.
_ROWS = 100_000
#: Thousand rows a second that there have to be at least.
_BOUNDS = {"SQLite": 50.0, "PostgreSQL": 30.0}


def measure_upserts(plan: Plan, results: Results) -> None:
    """Measure new rows, the same rows again, and rows with alerts; a new database for each run."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        # A PostgreSQL server that root starts runs as somebody else.
        home.chmod(0o755)
        _measure(plan, results, "SQLite", lambda run: sqlite_url(home / f"{run}.db"))
        try:
            program("initdb")
        except FraudError as error:
            log.warning("upserts into PostgreSQL, left out: %s", error)
            return
        with Server(home / "server") as server:
            _measure(plan, results, "PostgreSQL", server.create_database)


def _measure(plan: Plan, results: Results, kind: str, make_database: Callable[[str], str]) -> None:
    rows = min(_ROWS, plan.inputs.rows)
    seconds: dict[str, list[float]] = {}
    peak = 0
    for run in range(plan.repeat):
        command = [sys.executable, "-m", "benchmarks.upserts_run", str(rows)]
        # Not as an argument: others on the machine see those, and the URL has a password.
        urls = [make_database(f"{name}_{run}") for name in ("rows", "alerts")]
        measured = printed(command, {**os.environ, "UPSERTS_INTO": " ".join(urls)})
        for name, duration in measured["seconds"].items():
            seconds.setdefault(name, []).append(duration)
            log.info("upserts into %s, %s: %.2f s", kind, name, duration)
        peak = max(peak, measured["peak_bytes"])
    for name, duration in seconds.items():
        middle = statistics.median(duration)
        label = f"upserts into {kind}, {name}"
        results.figures.append(
            Figure(label, None, rows, plan.repeat, middle, min(duration), rows / middle, peak / 1e6)
        )
        bound = _BOUNDS[kind] if rows == _ROWS and name == NEW else None
        speed = rows / middle / 1000
        results.ratios.append(Ratio(f"{label}, thousand rows/s", speed, bound, at_most=False))
