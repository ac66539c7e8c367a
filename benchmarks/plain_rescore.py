"""Rescore simulated daily files without the product's pipeline: pyarrow, NumPy, scikit-learn.

It trusts its input and writes straight to its result. Windows are those of the batch engine, over
as many days at once as `--rows-at-once` allows, each time after the days that windows reach.

    python -m benchmarks.plain_rescore DIR --model BUNDLE --out DIR [--until DAY]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from beam_fraud.features.velocity.columns import with_velocity
from beam_fraud.schema.presets import HANDBOOK

_BLOCK_ROWS = 50_000
#: Days that the handbook's windows reach: 30, which end 7 days before.
_REACH = 37
_NAMES = {
    "TRANSACTION_ID": "transaction_id",
    "TX_DATETIME": "event_time",
    "CUSTOMER_ID": "account_id",
    "TERMINAL_ID": "merchant_id",
    "TX_AMOUNT": "amount",
    "TX_FRAUD": "label",
}
_IDS = ("transaction_id", "account_id", "merchant_id")
#: What the handbook's model has beside windows.
_CALENDAR = ("is_weekend", "is_night")


def rescore(days: Sequence[Path], bundle: Path, out: Path, rows_at_once: int) -> int:
    """Score the files of days, a Parquet file a day.

    Returns:
      The number of rows.
    """
    manifest_bytes = (bundle / "manifest.json").read_bytes()
    manifest = json.loads(manifest_bytes)
    model_id = f"{manifest['name']}@{hashlib.sha256(manifest_bytes).hexdigest()[:12]}"
    model, names = joblib.load(bundle / "model.joblib"), manifest["features"]
    threshold, rows = manifest["thresholds"]["review"], 0
    with threadpool_limits(1):
        for block, tables in _blocks(days, rows_at_once):
            # The days before the block are there for their windows alone.
            table = with_velocity(pa.concat_tables(tables).combine_chunks(), HANDBOOK.velocity)
            start = sum(len(one) for one in tables[: len(tables) - len(block)])
            for day, of_day in zip(block, tables[len(tables) - len(block) :], strict=True):
                _write(table.slice(start, len(of_day)), day, out, model, names, threshold, model_id)
                start += len(of_day)
                rows += len(of_day)
    return rows


def _blocks(
    days: Sequence[Path], rows_at_once: int
) -> Iterator[tuple[Sequence[Path], list[pa.Table]]]:
    """Yield days, and their transactions after those of the days that windows reach."""
    before: list[pa.Table] = []
    block: list[Path] = []
    now: list[pa.Table] = []
    for day in days:
        block.append(day)
        now.append(_read(day))
        if sum(map(len, now)) >= rows_at_once:
            yield block, [*before, *now]
            before, block, now = [*before, *now][-_REACH:], [], []
    if block:
        yield block, [*before, *now]


def _read(day: Path) -> pa.Table:
    """Return the transactions of a day by time, as the engine takes them."""
    files = sorted(day.glob("*.parquet"))
    table = pa.concat_tables(
        [pq.read_table(file, columns=list(_NAMES), partitioning=None) for file in files]
    ).rename_columns(list(_NAMES.values()))
    table = table.take(pc.sort_indices(table, [("event_time", "ascending")]))
    columns = {name: table[name] for name in table.column_names}
    columns |= {name: columns[name].cast(pa.string()) for name in _IDS}
    columns["event_time"] = columns["event_time"].cast(pa.timestamp("us", "UTC"))
    return pa.table(columns)


def _write(
    table: pa.Table,
    day: Path,
    out: Path,
    model: object,
    names: Sequence[str],
    threshold: float,
    model_id: str,
) -> None:
    place = out / day.name / "new.parquet"
    place.parent.mkdir(parents=True)
    writer = None
    for start in range(0, len(table), _BLOCK_ROWS):
        rows = table.slice(start, _BLOCK_ROWS).combine_chunks()
        columns = {name: rows[name].to_numpy() for name in names if name not in _CALENDAR}
        times = rows["event_time"].to_numpy()
        hours = times.astype("datetime64[h]").astype(np.int64) % 24
        weekdays = (times.astype("datetime64[D]").astype(np.int64) + 3) % 7
        columns |= {"is_weekend": (weekdays >= 5) * 1.0, "is_night": (hours <= 6) * 1.0}
        matrix = np.column_stack([columns[name] for name in names])
        scores = model.predict_proba(matrix)[:, 1]  # type: ignore[attr-defined]
        scored = _scored(rows, scores, threshold, model_id)
        writer = writer or pq.ParquetWriter(place, scored.schema, compression="zstd")
        writer.write_table(scored)
    if writer is not None:
        writer.close()


def _scored(
    rows: pa.Table, scores: np.ndarray[tuple[int], np.dtype[np.float64]], least: float, model: str
) -> pa.Table:
    """Return the columns that `rescore` writes, without the reasons of flagged rows."""
    n, flagged = len(rows), pa.array(scores >= least)
    no_rules = pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], "string"))
    columns = {name: rows[name] for name in (*_IDS, "event_time", "amount")}
    columns |= {
        "score": pa.array(scores),
        "flagged": flagged,
        "decision": pc.if_else(flagged, "review", "approve"),
        "rules": no_rules,
        "model_id": pa.repeat(model, n),
        "rules_id": pa.nulls(n, pa.string()),
        "shadow_rules": no_rules,
        "shadow": pa.repeat(False, n),
        "rule_set": pa.repeat("", n),
        "label": rows["label"],
    }
    return pa.table(columns)


def main() -> None:
    """Rescore the days of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--model", required=True, type=Path, metavar="BUNDLE")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--until", metavar="DAY", help="first day to leave out, as in 2024-02-07")
    parser.add_argument("--rows-at-once", type=int, default=15_000_000, metavar="N")
    options = parser.parse_args()
    end = f"date={options.until or '9'}"
    days = [day for day in sorted(options.directory.glob("date=*")) if day.name < end]
    rows = rescore(days, options.model, options.out, options.rows_at_once)
    print(f"{rows:,} rows scored")


if __name__ == "__main__":
    main()
