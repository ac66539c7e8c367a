"""Pieces of batches to whole ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from beam_fraud.rules.muted import muted_in, with_muted, without_muted


def join(pieces: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """One batch of all pieces of a schema, in the order of the pieces.

    Args:
      pieces: of any schemas; those that differ in what was muted only are joined, and the whole
        says what was muted in any of them.

    Yields:
      A batch for each schema, in the order in which they came first.
    """
    by_schema: dict[bytes, list[pa.RecordBatch]] = {}
    for piece in pieces:
        schema = without_muted(piece).schema.serialize().to_pybytes()
        by_schema.setdefault(schema, []).append(piece)
    for same in by_schema.values():
        if len(same) == 1:
            yield same[0]
            continue
        muted = [rule for piece in same for rule in muted_in(piece)]
        table = pa.Table.from_batches([without_muted(piece) for piece in same])
        for whole in table.unify_dictionaries().combine_chunks().to_batches():
            yield with_muted(whole, muted)
