"""The command lines that are measured."""

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
    given = ("--model", str(bundle), "--out", str(out))
    return (sys.executable, "-m", "benchmarks.plain_loop", *map(str, files), *given)


def pipeline(path: Path, bundle: Path, out: Path, *options: str) -> Command:
    """(b): `beam-fraud score` of a file or a directory."""
    given = ("--model", str(bundle), "--out", str(out), *options)
    return (BEAM_FRAUD, "score", str(path), *given)


def explore(path: Path, schema: str, page: Path) -> Command:
    """`beam-fraud explore` of a file."""
    return (BEAM_FRAUD, "explore", str(path), "--schema", schema, "--out", str(page))


def row_by_row(directory: Path, bundle: Path, out: Path) -> Command:
    """(c): Beam with an element a row."""
    given = ("--model", str(bundle), "--out", str(out))
    return (sys.executable, "-m", "benchmarks.row_by_row", str(directory), *given)


def row_by_row_one_thread(directory: Path, bundle: Path, out: Path) -> Command:
    """(c1): the same for those who know what OpenMP's threads do to small predictions."""
    return ("env", "OMP_NUM_THREADS=1", *row_by_row(directory, bundle, out))


def stream(bootstrap: str, topic: str, bundle: Path, out: Path, *options: str) -> Command:
    """`beam-fraud stream` of a topic from its first message on."""
    given = ("--model", str(bundle), "--out", str(out), "--start", "earliest", *options)
    return (BEAM_FRAUD, "stream", "--kafka", bootstrap, "--topic", topic, *given)


def stream_load(bootstrap: str, topic: str, rows: Path, *options: str) -> Command:
    """Transactions into a topic."""
    given = ("--kafka", bootstrap, "--topic", topic, "--rows", str(rows), *options)
    return (sys.executable, "-m", "benchmarks.stream_load", *given)


def stream_watch(database: Path, alerts: Path, out: Path) -> Command:
    """Somebody who waits for flagged rows and for alerts."""
    given = ("--database", str(database), "--alerts", str(alerts), "--out", str(out))
    return (sys.executable, "-m", "benchmarks.stream_watch", *given)
