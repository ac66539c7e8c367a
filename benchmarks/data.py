"""Write the benchmarks' transactions: copies of the ULB ones, and simulated ones with ids.

python -m benchmarks.data ulb --source FILE --out DIR --rows N [--files N]
python -m benchmarks.data handbook --out DIR --rows N --keep N [--accounts N --merchants N]
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.simulate.simulation import Simulation, simulate

SEED = 20130901
ROW_GROUP_ROWS = 131_072
#: Standard deviation of the noise on V1..V28, whose own are 0.3 to 2.
_JITTER = 0.01
#: Accounts of the simulation; each makes about two transactions a day.
_ACCOUNTS = 10_000
_MERCHANTS = Simulation.merchants
#: The first day; a thousand days later is still past, and a stream refuses what lies ahead.
_START = date(2018, 4, 1)


def make_ulb(source: Path, directory: Path, rows: int, files: int) -> None:
    """Write ULB transactions repeatedly: the first copy unchanged, later copies with noise.

    Later copies have normal noise on V1..V28 and factors within 1 % on the amounts, so that no
    two rows are the same for a model or for a compressor. `row` numbers the rows of all files.

    Args:
      source: the ULB transactions, Parquet.
      directory: where `part-<n>.parquet` are written, the same number of rows in each.
      rows: of all files together.
      files: how many.
    """
    original = pq.read_table(source)
    ends = [rows * (part + 1) // files for part in range(files)]
    with _whole(directory) as unfinished:
        copies = _copies(original)
        left, row = next(copies), 0
        for part, end in enumerate(ends):
            tables = []
            while row < end:
                if not left.num_rows:
                    left = next(copies)
                piece = left.slice(0, end - row)
                left = left.slice(piece.num_rows)
                numbers = pa.array(np.arange(row, row + piece.num_rows))
                tables.append(piece.append_column("row", numbers))
                row += piece.num_rows
            _write(pa.concat_tables(tables), unfinished / f"part-{part}.parquet")


def make_handbook(
    directory: Path, rows: int, keep: int, accounts: int = _ACCOUNTS, merchants: int = _MERCHANTS
) -> None:
    """Simulate transactions; write all to `all.parquet` and the first ones to `first.parquet`.

    Args:
      directory: where the files are written.
      rows: of `all.parquet`.
      keep: rows of `first.parquet`.
      accounts: each makes about two transactions a day.
      merchants: where they buy.
    """
    days = max(30, round(rows / (2 * accounts) * 1.1) + 1)
    spec = Simulation(days, accounts, merchants, SEED, start=_START)
    table = simulate(spec).slice(0, rows)
    if table.num_rows < rows:
        raise SystemExit(f"{days} days give only {table.num_rows} rows of {rows}")
    with _whole(directory) as unfinished:
        _write(table, unfinished / "all.parquet")
        if keep:
            _write(table.slice(0, keep), unfinished / "first.parquet")


def _copies(original: pa.Table) -> Iterator[pa.Table]:
    yield original
    rng = np.random.default_rng(SEED)
    while True:
        columns = {name: original.column(name).to_numpy() for name in original.column_names}
        for name, values in columns.items():
            if name.startswith("V"):
                columns[name] = values + rng.normal(0, _JITTER, len(values))
        factors = rng.uniform(0.99, 1.01, original.num_rows)
        columns["Amount"] = np.round(columns["Amount"] * factors, 2)
        yield pa.table(columns, schema=original.schema)


def _write(table: pa.Table, path: Path) -> None:
    # No dictionaries: hardly a value occurs twice.
    pq.write_table(
        table, path, compression="zstd", row_group_size=ROW_GROUP_ROWS, use_dictionary=False
    )


class _whole:  # noqa: N801  used as a function
    """Create a directory that appears complete or not at all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unfinished = directory.with_name(f"{directory.name}.unfinished")

    def __enter__(self) -> Path:
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True)
        return self._unfinished

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._unfinished.rename(self._directory)


def main() -> None:
    """Write the data set of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    ulb, handbook = kinds.add_parser("ulb"), kinds.add_parser("handbook")
    ulb.add_argument("--source", required=True, type=Path)
    ulb.add_argument("--files", type=int, default=1)
    handbook.add_argument("--keep", required=True, type=int)
    handbook.add_argument("--accounts", default=_ACCOUNTS, type=int)
    handbook.add_argument("--merchants", default=_MERCHANTS, type=int)
    for kind in (ulb, handbook):
        kind.add_argument("--out", required=True, type=Path)
        kind.add_argument("--rows", required=True, type=int)
    options = parser.parse_args()
    if options.kind == "ulb":
        make_ulb(options.source, options.out, options.rows, options.files)
    else:
        sizes = (options.rows, options.keep, options.accounts, options.merchants)
        make_handbook(options.out, *sizes)


if __name__ == "__main__":
    main()
