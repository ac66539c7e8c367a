"""Score ULB transactions without a pipeline: pyarrow, scikit-learn and a loop.

It trusts its input: it validates nothing, writes straight to its result, and a value that is no
number ends it. What it writes has the columns of the pipeline's scores.

    python -m benchmarks.plain_loop FILE... --model BUNDLE --out FILE
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

BLOCK_ROWS = 50_000
_START = np.datetime64("2013-09-01T00:00:00", "us")
_REASONS = pa.struct(
    [
        ("feature", pa.string()),
        ("value", pa.float64()),
        ("contribution", pa.float64()),
        ("text", pa.string()),
        ("approximate", pa.bool_()),
    ]
)
_SCORES = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("account_id", pa.string()),
        pa.field("merchant_id", pa.string()),
        pa.field("amount", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("rules", pa.list_(pa.string())),
        pa.field("reasons", pa.list_(_REASONS)),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("rules_id", pa.string()),
        pa.field("shadow_rules", pa.list_(pa.string())),
    ]
)


def score(files: list[Path], bundle: Path, out: Path) -> int:
    """Score files block by block.

    Args:
      files: Parquet files with the ULB columns.
      bundle: directory of a model for them.
      out: Parquet file to write.

    Returns:
      The number of rows.
    """
    manifest_bytes = (bundle / "manifest.json").read_bytes()
    manifest = json.loads(manifest_bytes)
    model_id = f"{manifest['name']}@{hashlib.sha256(manifest_bytes).hexdigest()[:12]}"
    threshold = manifest["thresholds"]["review"]
    features = ["Amount" if name == "amount" else name for name in manifest["features"]]
    model = joblib.load(bundle / "model.joblib")
    rows = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1), pq.ParquetWriter(out, _SCORES, compression="zstd") as writer:
        for path in files:
            first = 0
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BLOCK_ROWS, columns=features):
                    matrix = np.column_stack([batch.column(name).to_numpy() for name in features])
                    scores = model.predict_proba(matrix)[:, 1]
                    ids = pa.array(np.arange(first, first + len(batch)))
                    writer.write_batch(_scored(batch, path.name, ids, scores, threshold, model_id))
                    first += len(batch)
            rows += first
    return rows


def _scored(
    batch: pa.RecordBatch, name: str, positions: pa.Array, scores: Any, threshold: float, model: str
) -> pa.RecordBatch:
    rows = len(batch)
    no_rules = pa.ListArray.from_arrays(
        pa.array(np.zeros(rows + 1, np.int32)), pa.array([], pa.string())
    )
    flagged = scores >= threshold
    times = _START + np.rint(batch.column("Time").to_numpy() * 1e6).astype("timedelta64[us]")
    columns = [
        pc.binary_join_element_wise(name, positions.cast(pa.string()), ":"),
        pa.array(times).cast(pa.timestamp("us", "UTC")),
        pa.nulls(rows, pa.string()),
        pa.nulls(rows, pa.string()),
        batch.column("Amount"),
        pa.array(scores),
        pa.array(flagged),
        pc.if_else(pa.array(flagged), "review", "approve"),
        no_rules,
        pa.nulls(rows, pa.list_(_REASONS)),
        pa.repeat(model, rows),
        pa.nulls(rows, pa.string()),
        no_rules,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCORES)


def main() -> None:
    """Score the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", required=True, type=Path, metavar="BUNDLE")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    options = parser.parse_args()
    print(f"{score(options.files, options.model, options.out):,} rows scored")


if __name__ == "__main__":
    main()
