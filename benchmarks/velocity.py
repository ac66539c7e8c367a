"""Prints what velocity features cost on one core: this project's engines, pandas, DuckDB, Polars.

python -m benchmarks.velocity [--rows N] [--repeat N] [--only ENGINE,ENGINE] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.schema import EVENT_TIME
from beam_fraud.simulate.simulation import Simulation, simulate
from benchmarks.data import SEED
from benchmarks.machine import machine
from benchmarks.measure import ROOT
from benchmarks.table import Figure, Ratio, render
from benchmarks.velocity_engines import ENGINES

#: About half a year of 5,000 accounts; more rows are of more accounts and merchants.
_ROWS = 1_750_000
_DAYS = 200
_ROWS_OF_ACCOUNT = 350
#: Bounds are for at least so many rows.
_BOUND_ROWS = 1_000_000


@dataclass(frozen=True)
class Missing:
    """An engine that is not installed."""

    #: Its name.
    name: str
    #: What installs it.
    install: str


def make_transactions(rows: int, file: Path) -> None:
    """Write simulated transactions as `Schema.transactions` describes them, sorted by time."""
    accounts, days = max(rows // _ROWS_OF_ACCOUNT, 1), _DAYS
    simulated = simulate(Simulation(days, accounts, 2 * accounts, SEED))
    while simulated.num_rows < rows:
        # Few accounts may by chance be quiet ones.
        days *= 2
        simulated = simulate(Simulation(days, accounts, 2 * accounts, SEED))
    simulated = simulated.slice(0, rows)
    # The simulation numbers accounts and merchants; ids are text everywhere else.
    columns = {
        "row": pa.array(np.arange(rows)),
        "event_time": simulated.column("TX_DATETIME").cast(EVENT_TIME),
        "account_id": simulated.column("CUSTOMER_ID").cast(pa.string()),
        "merchant_id": simulated.column("TERMINAL_ID").cast(pa.string()),
        "amount": simulated.column("TX_AMOUNT"),
        "label": simulated.column("TX_FRAUD"),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    pq.write_table(pa.table(columns), unfinished)
    unfinished.rename(file)


def measure(name: str, file: Path, rows: int, repeat: int) -> tuple[Figure, int] | Missing:
    """Run an engine in a process of its own.

    Returns:
      Its figure, and how many of its values differ from the batch engine's.
    """
    if name in ("duckdb", "polars") and importlib.util.find_spec(name) is None:
        return Missing(name, f"pip install {name}")
    command = [sys.executable, "-m", "benchmarks.velocity_run", name, str(file), str(repeat)]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    seconds = statistics.median(found["seconds"])
    peak = found["peak_bytes"] / 1e6
    least = min(found["seconds"])
    figure = Figure(name, None, rows, repeat, seconds, least, rows / seconds, peak)
    return figure, found["differing"]


def ratios(figures: dict[str, Figure], rows: int) -> list[Ratio]:
    """What the figures come to, and their bounds if rows are enough for them."""
    found = []
    batch = figures.get("batch")
    bounded = rows >= _BOUND_ROWS
    if batch:
        a_million = batch.seconds / rows * 1e6
        bound = 3 / 1.75 if bounded else None
        found.append(Ratio("batch, seconds a million rows", a_million, bound, aim=1.5 / 1.75))
        for name in ("pandas", "duckdb", "polars"):
            if name in figures:
                found.append(Ratio(f"{name} / batch", figures[name].seconds / batch.seconds))
    state = figures.get("state, 1,000 rows")
    if state:
        speed = rows / state.seconds / 1000
        bound = 200 if bounded else None
        found.append(Ratio("state at 1,000 rows, thousand rows/s", speed, bound, False, 400))
    return found


def main() -> int:
    """Measure and print."""
    options = _options()
    file = (ROOT / options.work / f"velocity-{options.rows}.parquet").resolve()
    if not file.exists():
        make_transactions(options.rows, file)
    figures: dict[str, Figure] = {}
    differing: dict[str, int] = {}
    missing: list[Missing] = []
    for name in options.only or ENGINES:
        try:
            measured = measure(name, file, options.rows, options.repeat)
        except subprocess.CalledProcessError as error:
            print(error, file=sys.stderr)
            return 1
        if isinstance(measured, Missing):
            missing.append(measured)
        else:
            figures[name], differing[name] = measured
    found = ratios(figures, options.rows)
    if options.json:
        printed = {
            "machine": machine(),
            "figures": [{**asdict(f), "differing": differing[n]} for n, f in figures.items()],
            "missing": [asdict(engine) for engine in missing],
            "ratios": [{**asdict(ratio), "holds": ratio.holds} for ratio in found],
        }
        print(json.dumps(printed, indent=2))
        return 0
    print(render(machine(), list(figures.values()), found))
    for name, values in differing.items():
        if values:
            print(
                f"\n{name}: {values:,} of {12 * options.rows:,} values are not the batch engine's"
            )
    for engine in missing:
        print(f"\n{engine.name} is not installed: {engine.install}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.velocity", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=_ROWS)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each engine")
    parser.add_argument("--only", action="append", choices=list(ENGINES), help="repeatable")
    parser.add_argument("--work", default="bench-data", help="folder for what is made, kept")
    parser.add_argument("--json", action="store_true", help="JSON in place of the table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
