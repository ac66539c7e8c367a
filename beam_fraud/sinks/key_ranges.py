"""Rows cut into parts that have no key in common."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def key_ranges(batch: pa.RecordBatch, key: str, parts: int) -> list[pa.RecordBatch]:
    """Cut rows where the key changes, in its order; rows of one key keep theirs.

    Args:
      batch: n rows.
      key: a column without nulls.
      parts: how many, nearly as large as each other where keys differ; at least 1.

    Returns:
      As many, or fewer if there are not so many keys; none for no rows.
    """
    ordered = batch.take(pc.sort_indices(batch.column(key)))
    keys = ordered.column(key)
    edges = [0]
    for part in range(1, parts):
        edge = max(edges[-1], len(keys) * part // parts)
        # A key that repeats goes whole into the part before.
        while 0 < edge < len(keys) and keys[edge] == keys[edge - 1]:
            edge += 1
        edges.append(edge)
    ends = [*edges[1:], len(keys)]
    ranges = [ordered.slice(start, end - start) for start, end in zip(edges, ends, strict=True)]
    return [rows for rows in ranges if len(rows)]
