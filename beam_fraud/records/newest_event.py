"""The newest event time among a few JSON records, read without the rest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from beam_fraud.records.json_records import parse_json
from beam_fraud.records.times import as_times
from beam_fraud.schema import Schema


@dataclass(frozen=True)
class NewestEvent:
    """Finds the newest event time of records of a schema."""

    #: Column of the event time.
    column: str
    #: As in `Schema`: if set, times are seconds after this moment.
    time_origin: str | None = None

    @classmethod
    def of(cls, schema: Schema) -> NewestEvent:
        """For records of `schema`."""
        return cls(schema.roles["event_time"], schema.time_origin)

    def __call__(self, payloads: Sequence[bytes]) -> int | None:
        """The newest time in n JSON records, in microseconds; None if none can be read.

        Example:
          >>> NewestEvent("at")([b'{"at": 1, "x": 2}', b"rubbish", b'{"at": 3}'])
          3000000
        """
        # A schema needs an amount; nothing is made of it, so it may be the same column.
        roles = {"event_time": self.column, "amount": self.column}
        (times,), _ = parse_json(payloads, Schema("event time", roles), labels="ignored")
        read = as_times(times, self.time_origin)
        good = ~(read.absent | read.unreadable | read.impossible)
        return int(read.micros[good].max()) if good.any() else None
