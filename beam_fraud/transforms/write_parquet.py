"""Record batches to a few large Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_fraud.outputs import RunOutputs
from beam_fraud.sinks.parquet_writer import ParquetBlockWriter


@dataclass
class WriteParquet(beam.PTransform):
    """Batches to `part-*.parquet` in a run's staging: one file a bundle of the runner.

    A bundle that a runner does again leaves a part behind that no result names; those are removed
    in the end.
    """

    #: Where the run writes.
    outputs: RunOutputs
    #: Which branch: a key of `RunOutputs.branches`.
    branch: str

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Write in the stage that made the batches; only the files' names are shuffled."""
        return (
            batches
            | "Parts" >> beam.ParDo(_WriteParts(self.outputs, self.branch)).with_output_types(str)
            | "Key" >> beam.WithKeys(0)
            | "Gather" >> beam.GroupByKey()
            | "Keep" >> beam.Map(_keep, self.outputs.staging / self.branch)
        )


class _WriteParts(beam.DoFn):
    def __init__(self, outputs: RunOutputs, branch: str) -> None:
        self._outputs = outputs
        self._branch = branch

    def start_bundle(self) -> None:
        self._path: Path | None = None

    def process(self, batch: pa.RecordBatch) -> None:
        try:
            if self._path is None:
                self._path = self._outputs.part(self._branch)
                self._writer = ParquetBlockWriter(self._path, self._outputs.branches[self._branch])
            self._writer.write(batch)
        except OSError as error:
            raise self._outputs.failure(error) from None

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._path is not None:
            try:
                self._writer.close()
            except OSError as error:
                raise self._outputs.failure(error) from None
            window = GlobalWindow()
            yield WindowedValue(self._path.name, window.max_timestamp(), [window])


def _keep(written: tuple[int, Iterable[str]], directory: Path) -> None:
    """Remove the parts of bundles that were done again."""
    kept = set(written[1])
    for part in directory.glob("part-*.parquet"):
        if part.name not in kept:
            part.unlink()
