"""Data sets and model bundles, made by other processes and reused between runs."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.commands import BEAM_FRAUD
from benchmarks.measure import ROOT, ProcessFailedError

#: The first moment of the last fifth of the ULB rows; models learn from what was before.
UNTIL = "2013-09-02T16:20:49Z"
#: The first moment of the handbook's test week.
_PUBLISHED_UNTIL = "2018-08-08"
#: Files of the large data set.
FILES = 6
#: Rows of the first part of the large data sets, for comparing memory, and for training on it.
FIRST_ROWS = 500_000
#: The handbook's simulation has about 9,600 transactions a day.
_HANDBOOK_SIZES = ("--accounts", "5000", "--merchants", "10000")
_ALERTS_A_DAY = 100
#: Days of an archive, and the end of those that its models learn from.
_YEAR, _WEEKS = 365, "2024-02-10"
#: Rows of some days: with fewer, the alerts a day of a threshold cannot be counted.
_DAYS_OF_ROWS = 50_000
#: Rows of models of which only the cost matters.
_FEW_ROWS = 100_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The data sets and the models that score them."""

    #: The ULB transactions, Parquet.
    source: Path
    #: The handbook's own transactions, Parquet.
    published: Path
    #: Where what is made is kept, absolute.
    work: Path
    #: Rows of the large data sets.
    rows: int

    @property
    def first_rows(self) -> int:
        """Number of rows of the smaller data set for comparisons of memory."""
        return min(FIRST_ROWS, self.rows)

    def ulb(self, rows: int, files: int | None = None) -> Path:
        """Return a directory of ULB rows, in six files if all rows, otherwise in one."""
        files = files or (FILES if rows == self.rows else 1)
        directory = self.work / f"ulb-{rows}x{files}"
        if not directory.exists():
            options = ("--source", str(self.source), "--rows", str(rows), "--files", str(files))
            _make(directory, (sys.executable, "-m", "benchmarks.data", "ulb", *options))
        return _in_memory(directory)

    def handbook(self) -> Path:
        """Return a directory of simulated transactions: `first.parquet` and `all.parquet`."""
        directory = self.work / f"handbook-{self.rows}"
        if not directory.exists():
            options = ("--rows", str(self.rows), "--keep", str(self.first_rows))
            _make(directory, (sys.executable, "-m", "benchmarks.data", "handbook", *options))
        return _in_memory(directory)

    def simulated(self, rows: int) -> Path:
        """Return a file of simulated transactions."""
        directory = self.work / f"simulated-{rows}"
        if not directory.exists():
            options = ("--rows", str(rows), "--keep", "0")
            _make(directory, (sys.executable, "-m", "benchmarks.data", "handbook", *options))
        return _in_memory(directory) / "all.parquet"

    def stream(self, rows: int) -> Path:
        """Return a file of transactions with the handbook's number of accounts and terminals."""
        directory = self.work / f"stream-{rows}"
        if not directory.exists():
            options = ("--rows", str(rows), "--keep", "0", *_HANDBOOK_SIZES)
            _make(directory, (sys.executable, "-m", "benchmarks.data", "handbook", *options))
        return _in_memory(directory) / "all.parquet"

    def ulb_bundle(self, kind: str) -> Path:
        """A model of the given kind for the ULB transactions."""
        bundle = self.work / f"{kind}.bundle"
        if not bundle.exists():
            options = ("--schema", "ulb", "--model", kind, "--until", UNTIL)
            _make(bundle, (BEAM_FRAUD, "train", str(self.source), *options))
        return bundle

    def handbook_bundle(self) -> Path:
        """A model for the simulated transactions."""
        bundle = self.work / f"handbook-{self.rows}.bundle"
        if not bundle.exists():
            options = ("--schema", "handbook", "--model", "hist_gradient_boosting")
            first = str(self.handbook() / "first.parquet")
            _make(bundle, (BEAM_FRAUD, "train", first, *options))
        return bundle

    def handbook_bundles(self, number: int) -> tuple[Path, ...]:
        """Return models for simulated transactions, of the same features and a few rows."""
        bundles = []
        for seed in range(number):
            bundle = self.work / f"handbook-{_FEW_ROWS}-{seed}.bundle"
            bundles.append(bundle)
            if not bundle.exists():
                kind = ("--schema", "handbook", "--model", "hist_gradient_boosting")
                rows = str(self.simulated(_FEW_ROWS))
                _make(bundle, (BEAM_FRAUD, "train", rows, *kind, "--seed", str(seed)))
        return tuple(bundles)

    def stream_bundle(self) -> Path:
        """Return a model of these transactions that flags about one in a hundred."""
        rows = max(self.first_rows, _DAYS_OF_ROWS)
        bundle = self.work / f"stream-{rows}.bundle"
        if not bundle.exists():
            made_of = str(self.stream(rows))
            kind = ("--schema", "handbook", "--model", "hist_gradient_boosting")
            budget = ("--threshold", f"budget={_ALERTS_A_DAY}")
            _make(bundle, (BEAM_FRAUD, "train", made_of, *kind, *budget))
        return bundle

    def published_bundle(self) -> Path:
        """A model of the handbook's own transactions."""
        bundle = self.work / "published.bundle"
        if not bundle.exists():
            kind = ("--schema", "handbook", "--model", "hist_gradient_boosting")
            until = ("--until", _PUBLISHED_UNTIL)
            _make(bundle, (BEAM_FRAUD, "train", str(self.published), *kind, *until))
        return bundle

    def archive(self, seeds: int) -> Path:
        """Return a year of simulated daily files, one of each seed a day."""
        directory = self.work / f"archive-{self.rows}x{seeds}"
        accounts = max(self.rows // (2 * _YEAR), 1)
        sizes = ("--accounts", str(accounts), "--merchants", str(2 * accounts))
        days = ("--days", str(_YEAR), "--partition", "day")
        unfinished = directory.with_name(f"{directory.name}.unfinished")
        if not directory.exists():
            for seed in range(1, seeds + 1):
                command = (BEAM_FRAUD, "simulate", *days, *sizes, "--seed", str(seed))
                _make(unfinished, command)
            unfinished.rename(directory)
        return directory

    def archive_rows(self, seeds: int, until: str = "9") -> int:
        """Return the rows of such an archive before a day."""
        days = [one for one in self.archive(seeds).iterdir() if one.name < f"date={until}"]
        return sum(self.rows_of(file) for day in days for file in day.iterdir())

    def archive_bundles(self, number: int) -> tuple[Path, ...]:
        """Return models of the first weeks of such an archive, of the same features."""
        bundles = []
        for seed in range(number):
            bundle = self.work / f"archive-{self.rows}-{seed}.bundle"
            bundles.append(bundle)
            if not bundle.exists():
                rows = str(self.archive(1))
                kind = ("--schema", "handbook", "--model", "hist_gradient_boosting")
                command = (BEAM_FRAUD, "train", rows, *kind, "--until", _WEEKS, "--seed", str(seed))
                _make(bundle, command)
        return tuple(bundles)

    def rows_of(self, file: Path) -> int:
        """Return the number of rows of a Parquet file."""
        return int(pq.read_metadata(file).num_rows)


def _make(path: Path, command: tuple[str, ...]) -> None:
    log.info("making %s", path.name)
    command = (*command, "--out", str(path))
    process = subprocess.run(command, cwd=ROOT, capture_output=True)
    if process.returncode:
        raise ProcessFailedError(command, process.returncode, process.stderr)


def _in_memory(directory: Path) -> Path:
    """Read all files once, so that no measurement waits for the disk."""
    for path in directory.glob("*.parquet"):
        with open(path, "rb") as file:
            while file.read(1 << 20):
                pass
    return directory
