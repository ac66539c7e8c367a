"""Write dead letters to their table of a database."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pyarrow as pa

from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.storage.database.errors import PassingDatabaseError
from beam_fraud.storage.database.retry import PATIENCE, persistently
from beam_fraud.storage.database.tables import DEAD_LETTERS
from beam_fraud.storage.database.upsert import upsert_columns

_LOG = logging.getLogger(__name__)
#: Bytes per transaction, roughly: payloads may be large.
_BYTES_AT_A_TIME = 32 << 20


def write_dead_letters(url: str, batch: pa.RecordBatch, patience: float = PATIENCE) -> bool:
    """Write dead letters; idempotent.

    Parquet files hold them as well, so an outage of the database costs a warning, not the run.

    Args:
      url: a database after `prepare_database`.
      batch: n rows of the schema `stages.DEAD_LETTER`.
      patience: seconds of retries.

    Returns:
      Whether the database has them.

    Raises:
      FraudError: the database fails permanently.
    """
    if len(batch) > 1 and batch.nbytes > _BYTES_AT_A_TIME:
        half = len(batch) // 2
        halves = (batch.slice(0, half), batch.slice(half))
        # Close both, even if the first fails.
        written = [write_dead_letters(url, part, patience) for part in halves]
        return all(written)
    columns = {name: batch.column(name).to_pylist() for name in DEAD_LETTER.names}
    columns["dead_at"] = [datetime.now(UTC)] * len(batch)
    try:
        persistently(
            url, lambda c: upsert_columns(c, DEAD_LETTERS, columns, keep=("dead_at",)), patience
        )
    except PassingDatabaseError as error:
        _LOG.warning(
            "%d dead letters are in the Parquet files alone, not in the table: %s",
            len(batch),
            error,
        )
        return False
    return True
