"""Time the reasons of one model on one core and print the seconds as JSON.

Seconds are of the processor: a few milliseconds of wall time would tell what else it was doing.

python -m benchmarks.reasons_run BUNDLE FILE REPEAT
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.decisions.decision import decide
from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import open_bundle, shared_model
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.predict import predict_scores, use_one_thread
from beam_fraud.schema.schema import EVENT_TIME, Schema

#: Rows of a block that is predicted at once, and the share of them that is flagged.
_BLOCK_ROWS = 50_000
_FLAGGED = 0.05
#: Flagged rows of a block: of a quiet stream, of a busy one, of files.
_SIZES = (10, 100, 1_000)
_MOST = 5


def main() -> None:
    """Explain the rows with the highest scores in blocks of several sizes, then 5 % of all."""
    bundle_path, file, repeat = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    bundle = open_bundle(bundle_path)
    model = shared_model(bundle)
    use_one_thread()
    transactions = _transactions(pq.read_table(file), bundle.schema)
    matrix = feature_matrix(transactions, bundle.features)
    scores = predict_scores(model, matrix)
    start = time.process_time()
    reasons = Reasons.of(bundle, _MOST)
    prepared = time.process_time() - start
    first = np.argsort(-scores, kind="stable")
    result = {}
    for size in _SIZES:
        rows = pa.array(first[:size])
        scored = decide(transactions.take(rows), scores[rows], Thresholds(0.0), "model")
        block = matrix[rows]
        seconds = _timed(partial(reasons.add, scored, block), 10 * repeat)
        result[str(size)] = min(seconds) / size * 1e6
    blocks = [slice(i, i + _BLOCK_ROWS) for i in range(0, len(matrix), _BLOCK_ROWS)]
    thresholds = [Thresholds(float(np.quantile(scores[at], 1 - _FLAGGED))) for at in blocks]
    scored_blocks = [
        decide(transactions.slice(at.start, _BLOCK_ROWS), scores[at], threshold, "model")
        for at, threshold in zip(blocks, thresholds, strict=True)
    ]

    def predict() -> None:
        for at in blocks:
            predict_scores(model, matrix[at])

    def explain() -> None:
        for at, scored in zip(blocks, scored_blocks, strict=True):
            predict_scores(model, matrix[at])
            reasons.add(scored, matrix[at])

    plain, explained = [], []
    for _ in range(repeat):
        plain += _timed(predict, 1)
        explained += _timed(explain, 1)
    flagged = sum(int(np.count_nonzero(b.column("flagged"))) for b in scored_blocks)
    print(
        json.dumps(
            {
                "rows": len(matrix),
                "flagged": flagged,
                "prepared_seconds": prepared,
                "microseconds": result,
                "predict_seconds": plain,
                "explain_seconds": explained,
                "median_ratio": statistics.median(explained) / statistics.median(plain),
            }
        )
    )


def _timed(what: Callable[[], object], repeat: int) -> list[float]:
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        what()
        seconds.append(time.process_time() - start)
    return seconds


def _transactions(table: pa.Table, schema: Schema) -> pa.RecordBatch:
    """Return the ULB transactions in the form of `Schema.transactions`."""
    rows = table.num_rows
    ids = pa.array(np.arange(rows)).cast(pa.string())
    columns = {
        "transaction_id": ids,
        "event_time": pa.array(np.zeros(rows, dtype=np.int64)).cast(EVENT_TIME),
        "account_id": pa.nulls(rows, pa.string()),
        "merchant_id": pa.nulls(rows, pa.string()),
        "amount": table.column(schema.roles["amount"]).cast(pa.float64()),
    }
    columns |= {f.column: table.column(f.column).cast(pa.float64()) for f in schema.features}
    (batch,) = pa.table(columns).combine_chunks().to_batches()
    return batch


if __name__ == "__main__":
    main()
