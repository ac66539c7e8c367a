"""Answers in the finished files of the archive."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError
from beam_fraud.serve.answered_rows import ANSWERED
from beam_fraud.wording import reason_of


def find_answers(directory: Path, ids: Collection[str]) -> pa.Table:
    """Return the answers to some transactions.

    It reads the ids of every file, the newest first, until all are found: a retry comes soon.

    Args:
      directory: the archive.
      ids: ids of transactions.

    Returns:
      At most `len(ids)` rows of `ANSWERED`, without those that no file holds.

    Raises:
      FraudError: a file cannot be read.
    """
    found, left = [ANSWERED.empty_table()], set(ids)
    for part in sorted(directory.glob("part-*.parquet"), reverse=True):
        if not left:
            break
        try:
            rows = pq.read_table(part, filters=[("transaction_id", "in", left)], schema=ANSWERED)
        except (OSError, pa.ArrowException) as error:
            raise FraudError(
                f"{part}: cannot be read ({reason_of(error)})", Code.INPUT_UNREADABLE
            ) from None
        left -= set(rows.column("transaction_id").to_pylist())
        found.append(rows.cast(ANSWERED))
    return pa.concat_tables(found)
