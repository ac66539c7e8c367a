"""Labels of scored rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from beam_fraud.records.label_file import NEVER, UNKNOWN, Ints, Labels


def labels_of(rows: pa.Table) -> tuple[Labels, Ints]:
    """Return the labels of n scored rows, int8[n], and when each was known, int64[n]."""
    labels = np.full(rows.num_rows, UNKNOWN)
    known_at = np.full(rows.num_rows, NEVER)
    if "label" in rows.column_names:
        column = rows.column("label").cast(pa.int8()).fill_null(int(UNKNOWN))
        labels = np.array(column.to_numpy(), dtype=np.int8)
    if "labelled_at" in rows.column_names:
        column = rows.column("labelled_at").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        known_at = np.array(column.fill_null(NEVER).to_numpy(), dtype=np.int64)
    return labels, known_at
