"""Cost of velocity features on one core: both engines, pandas, DuckDB and Polars."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.simulate.simulation import Simulation, simulate
from benchmarks.data import SEED
from benchmarks.measure import printed
from benchmarks.plan import Plan, Results, log
from benchmarks.table import Figure, Ratio
from benchmarks.velocity_engines import ENGINES

#: About half a year of 5,000 accounts; more rows are of more accounts and merchants.
_ROWS = 1_750_000
_DAYS = 200
_ROWS_OF_ACCOUNT = 350
#: Bounds are for at least so many rows.
_BOUND_ROWS = 1_000_000
#: Few rows, to see what a row of many costs beside them.
_FEW_ROWS = 100_000


@dataclass(frozen=True)
class Missing:
    """An engine that is not installed."""

    #: Its name.
    name: str
    #: What installs it.
    install: str


def make_transactions(rows: int, file: Path) -> None:
    """Write simulated transactions in the form of `Schema.transactions`, sorted by time."""
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
    """Run an engine in a new process.

    Returns:
      Its figure, and how many of its values differ from the batch engine's.
    """
    if name in ("duckdb", "polars") and importlib.util.find_spec(name) is None:
        return Missing(name, f"pip install {name}")
    command = [sys.executable, "-m", "benchmarks.velocity_run", name, str(file), str(repeat)]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    result = printed(command, environment)
    seconds = statistics.median(result["seconds"])
    peak = result["peak_bytes"] / 1e6
    least = min(result["seconds"])
    figure = Figure(name, None, rows, repeat, seconds, least, rows / seconds, peak)
    return figure, result["differing"]


def ratios(figures: dict[str, Figure], rows: int) -> list[Ratio]:
    """Return the ratios of the figures, with bounds if there are enough rows."""
    results = []
    batch = figures.get("batch")
    bounded = rows >= _BOUND_ROWS
    if batch:
        a_million = batch.seconds / rows * 1e6
        bound = 3 / 1.75 if bounded else None
        results.append(Ratio("batch, seconds a million rows", a_million, bound, aim=1.5 / 1.75))
        for name in ("pandas", "duckdb", "polars"):
            if name in figures:
                results.append(Ratio(f"{name} / batch", figures[name].seconds / batch.seconds))
    state = figures.get("state, 1,000 rows")
    if state:
        speed = rows / state.seconds / 1000
        bound = 200 if bounded else None
        results.append(Ratio("state at 1,000 rows, thousand rows/s", speed, bound, False, 400))
    return results


def measure_velocity(plan: Plan, results: Results) -> None:
    """Measure both engines and the other libraries, each on one core in a new process."""
    rows = min(_ROWS, plan.inputs.rows)
    file, figures = _transactions(plan, rows), {}
    for name in ENGINES:
        measured = measure(name, file, rows, plan.repeat)
        if isinstance(measured, Missing):
            log.warning("%s is not installed: %s", name, measured.install)
            continue
        figures[name], differing = measured
        log.info("%s, %s rows: %.2f s", name, f"{rows:,}", figures[name].seconds)
        if differing:
            log.info("%s: %d of %d values are not the batch engine's", name, differing, 12 * rows)
    results.figures += figures.values()
    results.ratios += ratios(figures, rows)
    few, many = (_batch(plan, size) for size in (min(_FEW_ROWS, rows), 2 * plan.inputs.rows))
    results.figures += (few, many)
    name = f"batch, cost of a row at {many.rows:,} / at {few.rows:,}"
    results.ratios.append(Ratio(name, _cost(many) / _cost(few)))
    results.ratios += _state_ratios(rows)


def _state_ratios(rows: int) -> list[Ratio]:
    """Return size and speed of a stream's state, in processor seconds."""
    bounded = rows >= _BOUND_ROWS
    command = [sys.executable, "-m", "benchmarks.velocity_state", "--rows", str(rows), "--json"]
    results = []
    for figure in printed(command):
        size = figure["batch_rows"]
        for key, bytes_a_row in figure["bytes_per_row"].items():
            name = f"state at {size:,} rows, bytes a transaction in its windows, {key}"
            results.append(Ratio(name, bytes_a_row, 40 if bounded else None))
        speed = figure["rows_per_second"] / 1000
        name = f"state at {size:,} rows, thousand rows a processor second"
        results.append(Ratio(name, speed, 200 if bounded and size == 1000 else None, False, 400))
    return results


def _cost(figure: Figure) -> float:
    assert figure.rows
    return figure.seconds / figure.rows


def _batch(plan: Plan, rows: int) -> Figure:
    measured = measure("batch", _transactions(plan, rows), rows, plan.repeat)
    assert not isinstance(measured, Missing)
    return measured[0]


def _transactions(plan: Plan, rows: int) -> Path:
    file = plan.inputs.work / f"velocity-{rows}.parquet"
    if not file.exists():
        log.info("making %s", file.name)
        make_transactions(rows, file)
    return file
