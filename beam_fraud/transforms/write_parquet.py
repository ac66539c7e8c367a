"""Write record batches to a few large Parquet files; at a URL, publish them last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_fraud.storage.batch_outputs import RunOutputs
from beam_fraud.storage.objects import as_os_errors, create, give_up
from beam_fraud.storage.parquet_writer import ParquetBlockWriter

#: Type: a branch and the name of one of its files.
_Part = tuple[str, str]


@dataclass
class WriteParquet(beam.PTransform):
    """Write batches to `part-*.parquet` in a run's staging: one file per bundle.

    A repeated bundle leaves a part that no result names; those parts are removed at the end.
    """

    #: Outputs of the run.
    outputs: RunOutputs
    #: Name of the branch: a key of the outputs' `branches`.
    branch: str

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[str]:
        """Write in the stage that created the batches; only file names are shuffled.

        Returns:
          The names, for outputs at a URL, which the graph publishes (`Publish`).
        """
        parts = batches | "Parts" >> beam.ParDo(
            _WriteParts(self.outputs, self.branch)
        ).with_output_types(str)
        if self.outputs.at_url:
            return parts
        return (
            parts
            | "Key" >> beam.WithKeys(0)
            | "Gather" >> beam.GroupByKey()
            | "Keep" >> beam.Map(_keep, self.outputs.staging / self.branch)
        )


class _WriteParts(beam.DoFn):
    def __init__(self, outputs: RunOutputs, branch: str) -> None:
        self._outputs = outputs
        self._branch = branch

    def start_bundle(self) -> None:
        self._name: str | None = None
        self._file: BinaryIO | None = None

    def process(self, batch: pa.RecordBatch) -> None:
        with self._one_line_errors():
            if self._name is None:
                self._begin()
            self._writer.write(batch)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._name is not None:
            with self._one_line_errors():
                self._writer.close()
                if self._file is not None:
                    self._file.close()
            window = GlobalWindow()
            yield WindowedValue(self._name, window.max_timestamp(), [window])

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            with as_os_errors() if self._outputs.at_url else nullcontext():
                yield
        except OSError as error:
            if self._file is not None:
                give_up(self._file)
            raise self._outputs.failure(error) from None

    def _begin(self) -> None:
        schema = self._outputs.branches[self._branch]
        part = self._outputs.part(self._branch)
        if isinstance(part, str):
            self._file = create(part)
        self._writer = ParquetBlockWriter(self._file or Path(part), schema)
        self._name = Path(part).name


def _keep(written: tuple[int, Iterable[str]], directory: Path) -> None:
    """Remove the parts of repeated bundles."""
    names = set(written[1])
    for part in directory.glob("part-*.parquet"):
        if part.name not in names:
            part.unlink()


@dataclass
class Publish(beam.PTransform):
    """Publish parts, named by branch, after all other work."""

    #: Outputs of the run.
    outputs: RunOutputs
    #: Collections to wait for, beside the parts.
    after: Sequence[beam.PCollection] = ()

    def expand(self, parts: Mapping[str, beam.PCollection[str]]) -> beam.PCollection[None]:
        """Wait by a side input, and publish in one worker."""
        written = [
            names | f"Of {branch}" >> beam.Map(_named, branch).with_output_types(_Part)
            for branch, names in parts.items()
        ]
        written += [
            done | f"After {number}" >> beam.FlatMap(_nothing).with_output_types(_Part)
            for number, done in enumerate(self.after)
        ]
        root = next(iter(parts.values())).pipeline
        return (
            root
            | "Once" >> beam.Create([self.outputs])
            | "Move" >> beam.Map(_publish, beam.pvalue.AsList(written | "Parts" >> beam.Flatten()))
        )


def _named(name: str, branch: str) -> tuple[str, str]:
    return branch, name


def _nothing(done: object) -> Iterator[_Part]:
    yield from ()


def _publish(outputs: RunOutputs, parts: list[_Part]) -> None:
    committed: dict[str, list[str]] = {}
    for branch, name in parts:
        committed.setdefault(branch, []).append(name)
    outputs.publish_parts(committed)
