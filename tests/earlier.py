"""Scored rows as earlier versions wrote them."""

from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.schema.stages import LATER_COLUMNS

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)


def earlier(rows: _Rows) -> _Rows:
    """Return rows without the columns that were added later."""
    return rows.select([name for name in rows.schema.names if name not in LATER_COLUMNS])


def make_earlier(directory: Path) -> int:
    """Write the Parquet files below a directory again without those columns; return how many."""
    files = [*directory.rglob("*.parquet")]
    for file in files:
        table = pq.read_table(file, partitioning=None)
        pq.write_table(earlier(table).replace_schema_metadata(table.schema.metadata), file)
    return len(files)
