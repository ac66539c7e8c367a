"""Milliseconds of a page of the review's queue, with 50 people at once."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from beam_fraud.errors import FraudError
from beam_fraud.storage.database.connection import sqlite_url
from benchmarks.measure import printed
from benchmarks.plan import Plan, Results, log
from benchmarks.table import Ratio
from deploy.postgres.server import Server, program

#: Alerts that are written, and those without `--full`.
_ALERTS, _FEWER = 1_000_000, 100_000
_USERS, _SECONDS = 50, 20
#: Processes that show the pages.
_WORKERS = 2
#: Mean seconds between two clicks, and how that is said.
_THINK = {0.0: "without pauses", 1.5: "with pauses of 1.5 s"}
#: Milliseconds that 95 % of pages may take.
_BOUND = 200.0
#: Milliseconds and kilobytes of the first page of a server with its files.
_FIRST, _SIZE = 300.0, 100.0


def measure_review(plan: Plan, results: Results) -> None:
    """Write alerts, open their cases, and let people use the pages."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        # A PostgreSQL server that root starts runs as somebody else.
        home.chmod(0o755)
        _measure(plan, results, "SQLite", sqlite_url(home / "review.db"))
        try:
            program("initdb")
        except FraudError as error:
            log.warning("review on PostgreSQL, left out: %s", error)
            return
        with Server(home / "server") as server:
            _measure(plan, results, "PostgreSQL", server.create_database("review"))


def _measure(plan: Plan, results: Results, kind: str, url: str) -> None:
    alerts = min(_ALERTS if plan.full else _FEWER, plan.inputs.rows)
    counts = {"alerts": alerts, "users": _USERS, "seconds": _SECONDS, "workers": _WORKERS}
    options = [f"--{name}={value}" for name, value in counts.items()]
    options += [f"--think={seconds}" for seconds in _THINK]
    command = [sys.executable, "-m", "benchmarks.review_load", *options]
    # Not as an argument: others on the machine see those, and the URL has a password.
    measured = printed(command, {**os.environ, "REVIEW_OF": url})
    log.info("review on %s: %s", kind, measured)
    for think, pause in _THINK.items():
        figures = measured[f"think {think:g}"]
        where = f"on {kind}, {alerts:,} alerts, {_USERS} people {pause}"
        bound = _BOUND if alerts == _ALERTS else None
        results.ratios += [
            Ratio(f"a page of the queue {where}, p95 in ms", figures["page_ms"]["p95"], bound),
            Ratio(f"opening a case {where}, p95 in ms", figures["case_ms"]["p95"]),
            Ratio(f"a form {where}, p95 in ms", figures["decision_ms"]["p95"]),
            Ratio(f"requests a second {where}", figures["requests_per_second"], at_most=False),
            Ratio(f"cases decided twice {where}", figures["twice"], 0.0),
        ]
    first = measured["first_page"]
    where = f"on {kind}, {alerts:,} alerts"
    results.ratios += [
        Ratio(f"the first page with its files {where}, in ms", first["first_ms"], _FIRST),
        Ratio(f"the first page with its files {where}, in kilobytes", first["kilobytes"], _SIZE),
    ]
    opened = alerts / measured["open_seconds"]
    results.ratios.append(Ratio(f"alerts a second that get cases, on {kind}", opened))
