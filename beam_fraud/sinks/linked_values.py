"""Write values of declared columns, which link cases, to their table of a database."""

from __future__ import annotations

import pyarrow as pa

from beam_fraud.schema.stages import LINKED_VALUE
from beam_fraud.storage.database.retry import PATIENCE, persistently
from beam_fraud.storage.database.review_tables import LINKED_VALUES
from beam_fraud.storage.database.upsert import upsert_columns


def write_linked_values(url: str, batch: pa.RecordBatch, patience: float = PATIENCE) -> None:
    """Write values; idempotent.

    Args:
      url: a database after `prepare_database`.
      batch: n rows of the schema `stages.LINKED_VALUE`.
      patience: seconds of retries.

    Raises:
      FraudError: the database fails or cannot be reached.
    """
    if len(batch):
        columns = {name: batch.column(name) for name in LINKED_VALUE.names}
        persistently(url, lambda c: upsert_columns(c, LINKED_VALUES, columns), patience)
