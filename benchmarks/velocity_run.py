"""Run one engine on one core and print the seconds as JSON.

python -m benchmarks.velocity_run ENGINE FILE REPEAT
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.velocity_engines import ENGINES, Features, batch

_STATUS = Path("/proc/self/status")


def main() -> None:
    """Time the engine, then compare it with the batch engine."""
    name, file, repeat = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    transactions = pq.read_table(file).combine_chunks()
    # Imports and first calls are not what is measured.
    ENGINES[name](transactions.slice(0, 1000))
    before, seconds = _memory("VmRSS"), []
    features: Features = {}
    for _ in range(int(repeat)):
        start = time.perf_counter()
        features = ENGINES[name](transactions)
        seconds.append(time.perf_counter() - start)
    peak = _memory("VmHWM") - before
    differing = _differing(features, batch(transactions))
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "differing": differing}))


def _memory(of: str) -> int:
    """Return the present or peak bytes of this process; 0 without `/proc`."""
    try:
        match = re.search(rf"^{of}:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return 0 if match is None else int(match[1]) * 1024


def _differing(features: Features, expected: Features) -> int:
    """Return the number of values that differ from the batch engine's by more than 1e-9."""
    return sum(
        int(np.count_nonzero(~np.isclose(features[name], values, 1e-9, 1e-9, equal_nan=True)))
        for name, values in expected.items()
    )


if __name__ == "__main__":
    main()
