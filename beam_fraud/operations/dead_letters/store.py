"""The interface of a store of dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.stages import DEAD_LETTER
from beam_fraud.storage.batch_outputs import UNDELIVERED
from beam_fraud.wording import first_line

#: Schema of a dead letter with its replay mark.
STORED = DEAD_LETTER.append(pa.field("replayed", pa.bool_(), nullable=False))
#: Key columns of dead letters.
KEY = pa.schema([DEAD_LETTER.field("source"), DEAD_LETTER.field("position")])
#: Dead letters in memory at once: a payload may have megabytes.
ROWS_AT_A_TIME = 1_000


@dataclass(frozen=True)
class Choice:
    """Filters of dead letters."""

    #: Only those of this reason.
    reason: str | None = None
    #: Only those of this source.
    source: str | None = None


class DeadLetters(Protocol):
    """A store of dead letters. Every method raises FraudError if the store fails."""

    def read(self, choice: Choice, *, payloads: bool = True) -> Iterator[pa.RecordBatch]:
        """Yield the chosen ones, of the schema `STORED`; `payload` is null unless `payloads`."""

    def mark_replayed(self, keys: Iterator[pa.RecordBatch]) -> None:
        """Mark dead letters with these keys (`KEY`) as replayed.

        Unknown keys are ignored.
        """

    def headers(self) -> dict[str, str]:
        """Return the known headers of CSV sources."""

    def describe(self) -> str:
        """Return the store for messages."""


def undelivered_rows(out: Path) -> int:
    """Return the number of spilled rows under `out`.

    Raises:
      FraudError: a file there cannot be read.
    """
    rows = 0
    for part in sorted((out / UNDELIVERED).glob("*.parquet")):
        try:
            rows += pq.read_metadata(part).num_rows
        except (OSError, pa.ArrowException) as error:
            raise FraudError(
                f"{part}: is not a readable Parquet file: {first_line(error)}", Code.INPUT_DAMAGED
            ) from None
    return rows
