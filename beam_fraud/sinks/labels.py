"""Labels into the table `labels` of a database."""

from __future__ import annotations

import pyarrow as pa

from beam_fraud.sinks.connection import writing
from beam_fraud.sinks.tables import LABELS
from beam_fraud.sinks.upsert import upsert
from beam_fraud.stages import LABEL


def write_labels(url: str, batch: pa.RecordBatch) -> None:
    """Write labels in one transaction; the same twice changes nothing.

    Of two labels that one person gives one transaction at one moment, the last written stays.

    Args:
      url: a database that `prepare_database` has prepared.
      batch: rows with the columns of `stages.LABEL`; others are left out.

    Raises:
      FraudError: the database refuses or cannot be reached.
    """
    with writing(url) as connection:
        upsert(connection, LABELS, batch.select(LABEL.names).to_pylist())
