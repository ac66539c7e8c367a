"""The results of a group of records, and of rows of a followed topic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.serve.answered_rows import AnsweredRows, Rows, batch_of, ids_of
from beam_fraud.serve.answers import Answered

#: Reason of a fallback.
TIMEOUT = "timeout"


def marked(
    answered: pa.RecordBatch, reason: str, where: pa.BooleanArray | None = None
) -> pa.RecordBatch:
    """Return rows of `ANSWERED` that are degraded for a reason, where `where` holds."""
    place = answered.schema.get_field_index("degraded")
    marks = pa.repeat(reason, len(answered))
    if where is not None:
        marks = pc.if_else(where, marks, answered.column("degraded"))
    return answered.set_column(place, answered.schema.field(place), marks)


@dataclass
class Group:
    """The results of a group of records, which its commit makes durable."""

    answered: Answered
    #: Record to the id of an answer that is in the archive alone.
    archived: dict[int, str]
    #: New answers, and the record of each, int64[m].
    recorded: Rows
    new_places: npt.NDArray[np.int64]

    @property
    def new(self) -> pa.RecordBatch:
        """The new answers as columns, rows of `ANSWERED`."""
        return batch_of(self.recorded)

    def audited(self, audit: AuditLane) -> bool:
        """Return whether new answers may be audited, without columns of a few."""
        if isinstance(self.recorded, AnsweredRows):
            return any(map(audit.chosen_one, ids_of(self.recorded)))
        return len(self.recorded) > 0

    def amend(self, rows: pa.RecordBatch) -> None:
        """Replace the new answers, also where they answer the calls."""
        places = self.answered.places.searchsorted(self.new_places)
        order = np.arange(len(self.answered.rows))
        order[places] = len(order) + np.arange(len(rows))
        joined = pa.concat_batches([self.answered.rows, rows]).take(pa.array(order))
        self.answered, self.recorded = replace(self.answered, given=joined), rows


class Followed(NamedTuple):
    """Result of scoring rows of a followed topic."""

    #: Rows of `ANSWERED`.
    new: pa.RecordBatch
    #: Rows of `stages.LABEL`, or None.
    labels: pa.RecordBatch | None
