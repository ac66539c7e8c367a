"""The contexts of flagged blocks: settings that their alerts need beside the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

import pyarrow as pa

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.transforms.deciders import Deciders

#: Type: settings that alerts need beside their rows: the same for all, or those of what decides.
Context: TypeAlias = AlertContext | Deciders | None


def context_of(context: Context) -> Callable[[pa.RecordBatch], AlertContext | None]:
    """Return a function that returns the context of a block, for the life of a step."""
    if not isinstance(context, Deciders):
        return lambda batch: context
    in_force = context.in_force()
    return lambda batch: in_force.of(batch).context


class WaitingRows:
    """Blocks that wait to be written together, with the contexts of their alerts."""

    def __init__(self) -> None:
        #: Their rows.
        self.rows = 0
        self._blocks: list[tuple[pa.RecordBatch, AlertContext | None]] = []

    def add(self, batch: pa.RecordBatch, context: AlertContext | None) -> None:
        """Add a block."""
        self._blocks.append((batch, context))
        self.rows += len(batch)

    def joined(self) -> Iterator[tuple[pa.RecordBatch, AlertContext | None]]:
        """Take all blocks out, joined where they follow each other with one context."""
        blocks, self._blocks, self.rows = self._blocks, [], 0
        for context, same in groupby(blocks, key=itemgetter(1)):
            table = pa.Table.from_batches([batch for batch, _ in same])
            for batch in table.combine_chunks().to_batches():
                yield batch, context
