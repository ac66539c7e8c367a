"""Write flagged rows into two databases and print the seconds as JSON.

UPSERTS_INTO="URL URL" python -m benchmarks.upserts_run ROWS
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.database import DatabaseSink

NEW, AGAIN, ALERTS = "new rows", "rows that are there", "new rows, an alert each"
#: Rows of a transaction, as `score` writes them.
_ROWS_AT_A_TIME = 10_000
_SECOND = 1_000_000


def flagged_rows(rows: int) -> pa.RecordBatch:
    """Return flagged transactions of a month, with two rules and four reasons each, in order of
    time.
    """
    rng = np.random.default_rng(1)
    moments = np.sort(rng.integers(0, 30 * 86_400 * _SECOND, rows)) + 1_700_000_000 * _SECOND
    reasons = pa.StructArray.from_arrays(
        [
            pa.array(["account_count_1h", "amount", "V14", "merchant_risk_30d_delay_7d"] * rows),
            pa.array(rng.random(4 * rows) * 100),
            pa.array(rng.random(4 * rows)),
            pa.array([f"{n % 50} transactions in 1 hour, usually 1" for n in range(4 * rows)]),
            pa.array(np.zeros(4 * rows, np.bool_)),
        ],
        fields=list(SCORED.field("reasons").type.value_type.fields),
    )
    rules = pa.array(["large_and_fast", "at_night"] * rows)
    columns = [
        # As random as ids of transactions are.
        pa.array([f"{key:016x}" for key in rng.integers(0, 1 << 62, rows)]),
        pa.array(moments, pa.timestamp("us", "UTC")),
        pa.array([f"account-{key}" for key in rng.integers(0, 50_000, rows)]),
        pa.array([f"merchant-{key}" for key in rng.integers(0, 5_000, rows)]),
        pa.array(rng.exponential(200, rows).round(2)),
        pa.array(rng.random(rows)),
        pa.array(np.ones(rows, np.bool_)),
        pa.array(["review"] * rows),
        pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * 2, rules),
        pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * 4, reasons),
        pa.array(["cards@0123456789ab"] * rows),
        pa.array(["rules@0123456789ab"] * rows),
        pa.array([[]] * rows, pa.list_(pa.string())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCORED)


def main() -> None:
    """Time new rows, the same rows again, and new rows with alerts."""
    rows = flagged_rows(int(sys.argv[1]))
    one, other = os.environ["UPSERTS_INTO"].split()
    seconds = {
        NEW: _write(one, rows, ()),
        AGAIN: _write(one, rows, ()),
        ALERTS: _write(other, rows, ("console",)),
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


def _write(url: str, rows: pa.RecordBatch, channels: Sequence[str]) -> float:
    sink = DatabaseSink(url)
    sink.begin("benchmark")
    writer = sink.open("benchmark")
    started = time.perf_counter()
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        writer.write(rows.slice(start, _ROWS_AT_A_TIME), channels)
    seconds = time.perf_counter() - started
    writer.close()
    return seconds


if __name__ == "__main__":
    main()
