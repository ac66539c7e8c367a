"""Join the pieces of batches within a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_fraud.state.rule_share import muted_in, with_muted, without_muted


def join(pieces: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield one batch of the pieces of each schema, in their order.

    Args:
      pieces: batches of any schemas; pieces that differ only in muted rules are joined, and the
        result names all muted rules.

    Yields:
      A batch per schema, in order of first appearance.
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


#: Rows of a joined batch, up to one piece more.
_ROWS = 10_000


class Join(beam.PTransform):
    """Join small batches: emit at the end of a bundle, or when there are enough rows.

    Without it, each step that divides batches would pass smaller ones on, and the fixed cost per
    batch would limit the speed of the stream.
    """

    def expand(self, pieces: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Join."""
        return pieces | "Join" >> beam.ParDo(_JoinInBundle()).with_output_types(pa.RecordBatch)


class _JoinInBundle(beam.DoFn):
    def start_bundle(self) -> None:
        self._pieces: list[pa.RecordBatch] = []
        self._rows = 0

    def process(self, piece: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        self._pieces.append(piece)
        self._rows += len(piece)
        if self._rows >= _ROWS:
            yield from self._joined()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for whole in self._joined():
            yield WindowedValue(whole, window.max_timestamp(), [window])

    def _joined(self) -> list[pa.RecordBatch]:
        pieces, self._pieces, self._rows = self._pieces, [], 0
        return list(join(pieces))
