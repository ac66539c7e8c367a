"""The rows that sides decide differently: all to a file, a sample for the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.evaluation.comparison.figures import ChangedRow
from beam_fraud.evaluation.comparison.scored_rows import OF_ROW, OF_SIDE, Block, Side
from beam_fraud.evaluation.comparison.tally import Arrays
from beam_fraud.features.hashing import UNKEYED
from beam_fraud.records.label_file import NEVER, UNKNOWN
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import SCORED
from beam_fraud.storage.parquet_writer import ParquetBlockWriter
from beam_fraud.wording import reason_of

#: Maximum of sampled rows that the new side alone flags, and of those it no longer flags.
_SAMPLED = 12


class ChangedRows:
    """A writer of changed rows that samples some.

    Args:
      sides: the sides, the new one first.
      segments: columns of segments.
      path: the file, which appears on `close`; None writes none.
    """

    def __init__(self, sides: Sequence[Side], segments: Sequence[str], path: Path | None) -> None:
        self._sides = sides
        self._segments = [name for name in segments if name not in OF_ROW]
        self._schema = changed_schema(sides, self._segments)
        self._path = path
        #: Rows so far.
        self.rows = 0
        self._sampled: list[pa.Table] = []
        self._writer = None if path is None else self._opened(path)

    def add(self, block: Block, arrays: Arrays, differing: npt.NDArray[np.bool_]) -> None:
        """Add the differing rows, bool[n], of a block."""
        places = pa.array(np.flatnonzero(differing))
        known = arrays.known[differing]
        known_at = arrays.known_at[differing]
        rows = block.rows.take(places)
        columns: list[Any] = [rows.column(name) for name in OF_ROW]
        columns.append(pa.array(known, mask=known == UNKNOWN))
        columns.append(pa.array(known_at, mask=known_at == NEVER).cast(EVENT_TIME))
        columns += [rows.column(name).cast(pa.string()) for name in self._segments]
        for side in block.sides:
            taken = side.take(places)
            columns += [taken.column(name) for name in OF_SIDE]
        table = pa.table(columns, names=self._schema.names).cast(self._schema)
        self.rows += table.num_rows
        self._sample(table)
        if self._writer is not None and self._path is not None:
            try:
                for batch in table.combine_chunks().to_batches():
                    self._writer.write(batch)
            except OSError as error:
                raise _unwritable(self._path, error) from None

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None and self._path is not None:
            try:
                self._writer.close()
            except OSError as error:
                raise _unwritable(self._path, error) from None

    def give_up(self) -> None:
        """Leave an earlier file as it is."""
        if self._writer is not None:
            self._writer.give_up()

    def sample(self) -> tuple[ChangedRow, ...]:
        """Return the sampled rows: first those that the new side alone flags."""
        return tuple(
            _changed_row(row, self._sides[0].key, self._sides[1].key)
            for table in self._sampled
            for row in table.sort_by("event_time").to_pylist()
        )

    def _opened(self, path: Path) -> ParquetBlockWriter:
        try:
            return ParquetBlockWriter(path, self._schema)
        except OSError as error:
            raise _unwritable(path, error) from None

    def _sample(self, table: pa.Table) -> None:
        """Keep the rows with the lowest hashes of ids: at random, and the same in every run."""
        if len(self._sides) < 2:
            return
        new, old = (
            np.asarray(table.column(f"{side.key}_flagged").to_numpy(), dtype=bool)
            for side in self._sides[:2]
        )
        before = self._sampled or [table.slice(0, 0), table.slice(0, 0)]
        self._sampled = [
            lowest(pa.concat_tables([kept, table.take(pa.array(np.flatnonzero(flags)))]))
            for kept, flags in zip(before, (new & ~old, old & ~new), strict=True)
        ]


def changed_schema(sides: Sequence[Side], segments: Sequence[str]) -> pa.Schema:
    """Return the columns of `changed.parquet`."""
    fields = [SCORED.field(name) for name in OF_ROW]
    fields += [pa.field("label", pa.int8()), pa.field("labelled_at", EVENT_TIME)]
    fields += [pa.field(name, pa.string()) for name in segments]
    for side in sides:
        for name in OF_SIDE:
            fields.append(SCORED.field(name).with_name(f"{side.key}_{name}"))
    return pa.schema(fields)


def lowest(table: pa.Table) -> pa.Table:
    """Return the rows with the lowest hashes of `transaction_id`: the same ones in every run."""
    if table.num_rows <= _SAMPLED:
        return table
    hashes = UNKEYED.of(table.column("transaction_id").combine_chunks())
    return table.take(pa.array(np.sort(np.argsort(hashes, kind="stable")[:_SAMPLED])))


def _changed_row(row: dict[str, Any], new: str, old: str) -> ChangedRow:
    def both(name: str) -> tuple[Any, Any]:
        return row[f"{new}_{name}"], row[f"{old}_{name}"]

    reasons = [
        tuple(reason["text"] or reason["feature"] or "" for reason in each or ())
        for each in both("reasons")
    ]
    rules = [tuple(each or ()) for each in both("rules")]
    return ChangedRow(
        transaction_id=row["transaction_id"],
        event_time=row["event_time"].isoformat(timespec="seconds"),
        account_id=row["account_id"],
        amount=row["amount"],
        label=row["label"],
        scores=both("score"),
        decisions=both("decision"),
        rules=(rules[0], rules[1]),
        reasons=(reasons[0], reasons[1]),
    )


def _unwritable(path: Path, error: OSError) -> FraudError:
    return FraudError(f"{path}: cannot be written: {reason_of(error)}", Code.OUTPUT_UNWRITABLE)
