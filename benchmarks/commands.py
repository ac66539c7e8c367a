"""Command lines of the benchmarks."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

#: The installed command, as a user calls it.
BEAM_FRAUD = str(Path(sysconfig.get_path("scripts")) / "beam-fraud")

Command = tuple[str, ...]


def plain_loop(files: Sequence[Path], bundle: Path, out: Path) -> Command:
    """(a): the same bundle over the same files without a pipeline."""
    options = ("--model", str(bundle), "--out", str(out))
    return (sys.executable, "-m", "benchmarks.plain_loop", *map(str, files), *options)


def pipeline(path: Path, bundle: Path, out: Path, *options: str) -> Command:
    """(b): `beam-fraud score` of a file or a directory."""
    arguments = ("--model", str(bundle), "--out", str(out), *options)
    return (BEAM_FRAUD, "score", str(path), *arguments)


def explore(path: Path, schema: str, page: Path) -> Command:
    """`beam-fraud explore` of a file."""
    return (BEAM_FRAUD, "explore", str(path), "--schema", schema, "--out", str(page))


def row_by_row(directory: Path, bundle: Path, out: Path) -> Command:
    """(c): Beam with an element a row."""
    options = ("--model", str(bundle), "--out", str(out))
    return (sys.executable, "-m", "benchmarks.row_by_row", str(directory), *options)


def row_by_row_one_thread(directory: Path, bundle: Path, out: Path) -> Command:
    """(c1): the same with OpenMP limited to one thread."""
    return ("env", "OMP_NUM_THREADS=1", *row_by_row(directory, bundle, out))


def stream(bootstrap: str, topic: str, bundle: Path, out: Path, *options: str) -> Command:
    """`beam-fraud stream` of a topic from its first message on."""
    arguments = ("--model", str(bundle), "--out", str(out), "--start", "earliest", *options)
    return (BEAM_FRAUD, "stream", "--kafka", bootstrap, "--topic", topic, *arguments)


def stream_load(bootstrap: str, topic: str, rows: Path, *options: str) -> Command:
    """A process that sends transactions to a topic."""
    arguments = ("--kafka", bootstrap, "--topic", topic, "--rows", str(rows), *options)
    return (sys.executable, "-m", "benchmarks.stream_load", *arguments)


def stream_watch(database: Path, alerts: Path, out: Path) -> Command:
    """A process that watches flagged rows and alerts."""
    arguments = ("--database", str(database), "--alerts", str(alerts), "--out", str(out))
    return (sys.executable, "-m", "benchmarks.stream_watch", *arguments)
