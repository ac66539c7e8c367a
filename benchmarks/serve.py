"""Latency and throughput of `serve`, and of the usual ways to serve the same model."""

from __future__ import annotations

import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.serve.http.bodies import ARROW, JSON
from beam_fraud.simulate.messages import handbook_messages
from benchmarks.bad_connections import bad_connections
from benchmarks.commands import BEAM_FRAUD, Command
from benchmarks.latency import Latency
from benchmarks.measure import ROOT, PeakMemory, ProcessFailedError, printed
from benchmarks.plan import Plan, Results, log
from benchmarks.running_stream import running, wait_until
from benchmarks.serve_load import LENGTH
from benchmarks.table import Figure, Ratio
from deploy.ports import free_port

#: Requests a second of the even loads: one with bounds, and one that every way can bear.
RATE, CALM = 500, 50
#: Rows per request with arrays.
ARRAY = 1_000
#: Earlier transactions, more than the 37 days that windows look back.
_HISTORY = 400_000
#: Seconds of a load without a rate, most requests a second then, and most arrays (of the usual
#: ways).
_SATURATED, _MOST, _ARRAYS, _RIVAL_ARRAYS = 10.0, 8_000, 1_500, 400
#: The part of the even load that does not count.
_WARM_UP = 0.1
#: What `serve --awake` writes to.
_LATENCY = Path("/dev/cpu_dma_latency")
#: Connections beside the good ones.
_BAD = 200
_RULES = """
[[rule]]
name = "large"
when = "amount > 400"
decision = "review"

[[rule]]
name = "busy_and_dear"
when = "account_count_1d >= 8 and amount > 2 * account_mean_30d"
decision = "review"
"""
#: What the usual ways run on; scikit-learn, NumPy and joblib have the versions of here.
_RIVALS = ("fastapi", "flask", "mlflow", "uvicorn[standard]", "waitress")
_SAME = ("joblib", "numpy", "scikit-learn")


def measure_serve(plan: Plan, results: Results) -> None:
    """Measure the server, then the usual ways with features that are computed already."""
    bodies = _bodies(plan)
    _measure_ours(plan, results, bodies)
    for way in _rivals(plan):
        _measure_rival(plan, results, way)


def measure_serve_monitor(plan: Plan, results: Results) -> None:
    """Measure the answers with and without `--monitor`: pairs of loads, each with a new state."""
    bodies, out = _bodies(plan), plan.inputs.work / "out" / "serve"
    plain, watched = "serve, without a monitor", "serve, with a monitor"
    took: dict[str, list[dict[str, Any]]] = {plain: [], watched: []}
    for _ in range(plan.repeat):
        # A machine that slows down meanwhile affects both.
        for name in (plain, watched, watched, plain):
            port = free_port()
            monitor = ("--monitor",) if name == watched else ()
            command = (*_command(plan, bodies, out, port), *monitor)
            with _served(name, command, port, "/readyz", results):
                took[name].append(_even(plan, results, name, (port, "/predict"), bodies.ones))
    for figure in ("p50", "p99"):
        for name, runs in took.items():
            middle = statistics.median(sent[figure] for sent in runs)
            results.ratios.append(Ratio(f"{name} at {RATE}/s, {figure}, ms", middle))


@dataclass(frozen=True)
class _Bodies:
    """Bodies of requests, one a line."""

    #: Directory of the files.
    home: Path
    #: Requests of one transaction, and of `ARRAY` of them, as JSON and as Arrow streams.
    ones: Path
    arrays: Path
    tables: Path


@dataclass(frozen=True)
class _Way:
    """A usual way to serve the model."""

    #: With versions.
    name: str
    command: Command
    port: int
    path: str
    #: Turns features into a body.
    shown: str


def _bodies(plan: Plan) -> _Bodies:
    """Return the requests of all loads, whose transactions occur once."""
    ones = int((2 * RATE + CALM) * plan.seconds + _MOST * _SATURATED)
    first, several = _HISTORY + ones, _ARRAYS * ARRAY
    rows = first + 2 * several
    home = plan.inputs.work / f"serve-{rows}"
    bodies = _Bodies(home, home / "ones.jsonl", home / "arrays.jsonl", home / "tables.arrows")
    if not bodies.tables.exists():
        home.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(plan.inputs.stream(rows)).drop_columns(["TX_FRAUD_SCENARIO"])
        pq.write_table(table.slice(0, _HISTORY), home / "history.parquet")
        (home / "rules.toml").write_text(_RULES)
        _write(bodies.ones, table.slice(_HISTORY, ones), 1)
        _write(bodies.arrays, table.slice(first, several), ARRAY)
        _write_tables(bodies.tables, table.slice(first + several))
        # The usual ways have no windows: they get a client's features, of some thousand rows.
        pq.write_table(table.slice(_HISTORY, 20 * ARRAY), home / "some.parquet")
        command = (BEAM_FRAUD, "features", str(home / "some.parquet"), "--schema", "handbook")
        printed((*command, "--out", str(home / "features"), "--json"))
    return bodies


def _write(path: Path, table: pa.Table, rows: int) -> None:
    # In one piece: blocks end where pieces do.
    table = table.combine_chunks()
    with path.open("wb") as file:
        for messages in handbook_messages(table, rows if rows > 1 else 10_000):
            if rows == 1:
                file.writelines(value + b"\n" for value in messages.values)
            else:
                file.write(b"[" + b",".join(messages.values) + b"]\n")


def _write_tables(path: Path, table: pa.Table) -> None:
    """Write Arrow streams of `ARRAY` rows, each after its length."""
    with path.open("wb") as file:
        for batch in table.combine_chunks().to_batches(max_chunksize=ARRAY):
            stream = pa.BufferOutputStream()
            with pa.ipc.new_stream(stream, batch.schema) as writer:
                writer.write_batch(batch)
            body = stream.getvalue()
            file.write(LENGTH.pack(body.size))
            file.write(body)


def _measure_ours(plan: Plan, results: Results, bodies: _Bodies) -> None:
    out, port = plan.inputs.work / "out" / "serve", free_port()
    command, place, ones = _command(plan, bodies, out, port), (port, "/predict"), bodies.ones
    if os.access(_LATENCY, os.W_OK):
        name = "serve --awake"
        with _served(name, (*command, "--awake"), port, "/readyz", results):
            awake = _even(plan, results, name, place, ones)
        results.ratios += _ratios(name, awake)
        shutil.rmtree(out)
    with _served("serve", command, port, "/readyz", results):
        even = _even(plan, results, "serve", place, ones)
        rows = even["answered"]
        calm = _even(plan, results, "serve", place, ones, rate=CALM, skipped=rows)
        rows += calm["answered"]
        with bad_connections(port, _BAD):
            name = f"serve beside {_BAD} bad connections"
            beside = _even(plan, results, name, place, ones, skipped=rows)
        rows += beside["answered"]
        alone = _saturated(results, "serve", place, ones, skipped=rows)
        arrays = _saturated(results, "serve", place, bodies.arrays, rows=ARRAY)
        tables = _saturated(results, "serve", place, bodies.tables, rows=ARRAY, media=ARROW)
        rows += alone["answered"] + (arrays["answered"] + tables["answered"]) * ARRAY
    found = sum(pq.read_metadata(part).num_rows for part in (out / "scores").glob("part-*.parquet"))
    if found != rows:
        raise ProcessFailedError(command, 0, f"{found:,} rows of {rows:,} are archived".encode())
    results.ratios += [
        *_ratios("serve", even),
        Ratio(f"serve beside {_BAD} bad connections, p99, ms", beside["p99"], 20.0),
        Ratio("serve, single rows/s", _rate(alone), 3_000.0, at_most=False, aim=5_000.0),
        Ratio(f"serve, rows/s in arrays of {ARRAY:,}", _rate(arrays) * ARRAY, 1e5, at_most=False),
        Ratio(
            f"serve, rows/s in Arrow streams of {ARRAY:,}",
            *(_rate(tables) * ARRAY, 1e5),
            at_most=False,
        ),
    ]


def _command(plan: Plan, bodies: _Bodies, out: Path, port: int) -> Command:
    """Return the command of a server with a new state."""
    shutil.rmtree(out, ignore_errors=True)
    model = ("--model", str(plan.inputs.stream_bundle()))
    rules = ("--rules", str(bodies.home / "rules.toml"), "--rule-limit", "1")
    history = ("--history", str(bodies.home / "history.parquet"))
    places = ("--state", str(out), "--port", str(port))
    return (BEAM_FRAUD, "serve", *model, *places, *history, *rules)


def _ratios(name: str, even: dict[str, Any]) -> Sequence[Ratio]:
    return (
        Ratio(f"{name} at {RATE}/s, p50, ms", even["p50"], 1.0),
        Ratio(f"{name} at {RATE}/s, p99, ms", even["p99"], 5.0, aim=3.0),
        Ratio(f"{name} at {RATE}/s, p99.9, ms", even["p99_9"], None, aim=10.0),
    )


def _measure_rival(plan: Plan, results: Results, way: _Way) -> None:
    ones, arrays = (_features(plan, way.shown, rows) for rows in (1, ARRAY))
    place = (way.port, way.path)
    with _served(way.name, way.command, way.port, None, results):
        for rate in (RATE, CALM):
            _even(plan, results, way.name, place, ones, rate=rate)
        _saturated(results, way.name, place, ones)
        _saturated(results, way.name, place, arrays, rows=ARRAY)


@contextmanager
def _served(
    name: str, command: Command, port: int, ready: str | None, results: Results
) -> Iterator[None]:
    """Run a server inside the `with`, and add the memory that it took to the figures."""
    log.info("starting %s", name)
    with running(command) as process, PeakMemory([process.pid]) as memory:
        wait_until(lambda: _answers(port, ready), process, "answers")
        first = len(results.figures)
        yield
    results.figures[first:] = [
        replace(figure, peak_mb=memory.bytes / 1e6) for figure in results.figures[first:]
    ]


def _answers(port: int, path: str | None) -> bool:
    """Return whether a server listens, and answers a route with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            if path is None:
                return True
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _even(
    plan: Plan,
    results: Results,
    name: str,
    place: tuple[int, str],
    bodies: Path,
    *,
    rate: int = RATE,
    skipped: int = 0,
) -> dict[str, Any]:
    """Send single rows at an even rate; add their latency, and the lag of the sender."""
    options = ("--rate", str(rate), "--seconds", str(plan.seconds), "--skip", str(skipped))
    sent = _loaded(place, bodies, *options, "--warm-up", str(_WARM_UP * plan.seconds))
    name, rows = f"{name}, {rate}/s", sent["counted"]
    results.latencies += [
        Latency(name, rows, sent["missing"], *_milliseconds(sent)),
        Latency("  until the sender had read", rows, 0, *_milliseconds(sent["until_read"])),
        Latency(
            "  behind its schedule, the sender", sent["answered"], 0, *_milliseconds(sent["lag"])
        ),
    ]
    return sent


def _milliseconds(measured: dict[str, Any]) -> Iterator[float]:
    return (measured[name] or math.nan for name in ("p50", "p99", "p99_9", "longest"))


def _saturated(
    results: Results,
    name: str,
    place: tuple[int, str],
    bodies: Path,
    *,
    rows: int = 1,
    skipped: int = 0,
    media: bytes = JSON,
) -> dict[str, Any]:
    """Send requests as fast as they are answered; add the rate."""
    several = f"{'arrays' if media == JSON else 'Arrow streams'} of {rows:,}"
    name = f"{name}, {'single rows' if rows == 1 else several}"
    connections = ("--connections", "32" if rows == 1 else "8", "--skip", str(skipped))
    options = ("--seconds", str(_SATURATED), "--media", media.decode(), *connections)
    sent = _loaded(place, bodies, *options)
    seconds, number = sent["seconds"], sent["answered"] * rows
    figures = (number, 1, seconds, seconds, number / seconds, math.nan)
    results.figures.append(Figure(name, "hist_gradient_boosting", *figures))
    return sent


def _loaded(place: tuple[int, str], bodies: Path, *options: str) -> dict[str, Any]:
    port, path = place
    load = (sys.executable, "-m", "benchmarks.serve_load", "--port", str(port), "--path", path)
    command = (*load, "--bodies", str(bodies), *options)
    sent: dict[str, Any] = printed(command)
    if sent["failed"]:
        raise ProcessFailedError(command, 0, f"{sent['failed']:,} answers are no 200".encode())
    return sent


def _rate(sent: dict[str, Any]) -> float:
    return float(sent["answered"] / sent["seconds"])


def _rivals(plan: Plan) -> Sequence[_Way]:
    """Return the usual ways, installed in an environment of their own."""
    home = plan.inputs.work / "rivals"
    python, model = home / "bin" / "python", plan.inputs.stream_bundle() / "model.joblib"
    if not python.exists():
        log.info("installing %s", ", ".join(_RIVALS))
        _run((sys.executable, "-m", "venv", str(home)))
    wanted = [*_RIVALS, *(f"{name}=={version(name)}" for name in _SAME)]
    _run((str(python), "-m", "pip", "install", "-q", "--no-input", *wanted))
    listed = printed((str(python), "-m", "pip", "list", "--format", "json"))
    has = {one["name"].lower(): one["version"] for one in listed}
    saved = home / "model"
    shutil.rmtree(saved, ignore_errors=True)
    script = (str(python), str(ROOT / "benchmarks" / "serve_rivals.py"))

    def way(name: str, short: str, path: str, shown: str, *options: str) -> _Way:
        port = free_port()
        command = (*script, short, "--model", str(model), "--port", str(port), *options)
        return _Way(name, command, port, path, shown)

    uvicorn = f"uvicorn {has['uvicorn']}"
    return (
        way(f"Flask {has['flask']}, waitress {has['waitress']}", "flask", "/predict", "rows"),
        way(f"FastAPI {has['fastapi']}, {uvicorn}", "fastapi", "/predict", "rows"),
        way(
            f"MLflow {has['mlflow']}, {uvicorn}",
            *("mlflow", "/invocations", "mlflow", "--work", str(saved)),
        ),
    )


def _run(command: Command) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    if done.returncode:
        raise ProcessFailedError(command, done.returncode, done.stderr)


def _features(plan: Plan, shown: str, rows: int) -> Path:
    """Write requests of features, as often as they may be sent."""
    home = _bodies(plan).home
    path = home / f"{shown}-{rows}.jsonl"
    if not path.exists():
        table = pq.read_table(home / "features" / "features").drop_columns(["transaction_id"])
        number = int(max(RATE * plan.seconds, _MOST * _SATURATED))
        records = table.to_pylist()
        blocks = [records[at : at + rows] for at in range(0, len(records), rows)]
        wrap = (lambda block: {"dataframe_records": block}) if shown == "mlflow" else _plain
        lines = [msgspec.json.encode(wrap(block)) + b"\n" for block in blocks]
        count = number if rows == 1 else _RIVAL_ARRAYS
        with path.open("wb") as file:
            file.writelines(lines[place % len(lines)] for place in range(count))
    return path


def _plain(block: list[dict[str, float]]) -> Any:
    return block[0] if len(block) == 1 else block
