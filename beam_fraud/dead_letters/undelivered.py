"""Flagged rows that a database did not take, and that wait on disk for it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.errors import FraudError
from beam_fraud.outputs import UNDELIVERED


def undelivered_rows(out: Path) -> int:
    """How many rows wait under `out`.

    Raises:
      FraudError: a file there cannot be read.
    """
    rows = 0
    for part in sorted((out / UNDELIVERED).glob("*.parquet")):
        try:
            rows += pq.read_metadata(part).num_rows
        except (OSError, pa.ArrowException) as error:
            line = (str(error).splitlines() or ["unknown error"])[0]
            raise FraudError(f"{part}: is not a readable Parquet file: {line}") from None
    return rows
