"""Labels to a database."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.sinks.labels import write_labels


@dataclass
class WriteLabels(beam.PTransform):
    """Labels to the table `labels`, a transaction a batch; what is done again changes nothing."""

    #: The database, prepared by `sinks.connection.prepare_database`.
    url: str

    def expand(self, labels: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """One step."""
        return labels | beam.ParDo(_WriteLabels(self.url))


class _WriteLabels(beam.DoFn):
    def __init__(self, url: str) -> None:
        self._url = url

    def process(self, labels: pa.RecordBatch) -> None:
        if len(labels):
            write_labels(self._url, labels)
