"""What keeps dead letters, whatever it is."""

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

#: A dead letter, and whether it was put through again.
KEPT = DEAD_LETTER.append(pa.field("replayed", pa.bool_(), nullable=False))
#: What tells dead letters apart.
KEY = pa.schema([DEAD_LETTER.field("source"), DEAD_LETTER.field("position")])
#: Dead letters that are in memory at once: a payload may be megabytes.
ROWS_AT_A_TIME = 1_000


@dataclass(frozen=True)
class Choice:
    """Which dead letters."""

    #: Only those of this reason.
    reason: str | None = None
    #: Only those of this source.
    source: str | None = None


class DeadLetters(Protocol):
    """A place of dead letters. Every method raises FraudError where the place refuses."""

    def read(self, choice: Choice, *, payloads: bool = True) -> Iterator[pa.RecordBatch]:
        """The chosen ones, of the schema `KEPT`; the column `payload` is null unless `payloads`."""

    def mark_replayed(self, keys: Iterator[pa.RecordBatch]) -> None:
        """Remember that those with these keys (`KEY`) were put through again.

        A key that is not there is passed over.
        """

    def headers(self) -> dict[str, str]:
        """Sources that are CSV to their headers, as far as they are known."""

    def describe(self) -> str:
        """Return the place, for messages."""


def undelivered_rows(out: Path) -> int:
    """Return how many rows wait under `out`.

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
