"""The audit lane: a random share of the unflagged transactions, which people label as well.

A model sees the labels of what it flagged; how much fraud it misses shows in these alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import Code, UsageError
from beam_fraud.features.hashing import IdHash
from beam_fraud.schema.stages import SEEN

Mask = npt.NDArray[np.bool_]
#: It must never change: a replay chooses the same transactions.
_HASH = IdHash(blake2b(b"", digest_size=16, person=b"audit lane").digest())
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(%?)")


@dataclass(frozen=True)
class AuditLane:
    """The choice of audited transactions by a keyed hash of their ids.

    Runners, replays and restarts choose the same ones, and a larger share chooses all of a smaller.
    """

    #: Share of the unflagged transactions, above 0, at most 1.
    share: Fraction

    @classmethod
    def parse(cls, text: str) -> AuditLane:
        """Return the lane of `--audit-share`.

        Raises:
          UsageError: it is no share above 0, at most 100 %.

        Example:
          >>> AuditLane.parse("0.2%") == AuditLane.parse("0.002")
          True
        """
        match = _SHARE.fullmatch(text.strip())
        share = Fraction(0) if match is None else Fraction(match[1]) / (100 if match[2] else 1)
        if not 0 < share <= 1:
            raise UsageError(
                f"--audit-share {text}: give a share of the unflagged transactions above 0, at "
                "most 1, such as 0.2% or 0.002",
                Code.OPTION_VALUE,
            )
        return cls(share)

    @property
    def probability(self) -> float:
        """With which probability an unflagged transaction is audited."""
        return float(self.share)

    def chosen(self, ids: pa.StringArray) -> Mask:
        """Return which transactions are audited unless they are flagged.

        Args:
          ids: string[n] without nulls.

        Returns:
          bool[n].
        """
        # The last of 2**64 hashes has no bound above it.
        return _HASH.of(ids) <= self._last

    def chosen_one(self, id: str) -> bool:
        """Return the same for one transaction."""
        return _HASH.of_one(id)[0] <= int(self._last)

    def audited(self, scored: pa.RecordBatch) -> pa.RecordBatch:
        """Return the audited ones of n scored rows: they are not flagged."""
        chosen = self.chosen(scored.column("transaction_id"))
        return scored.filter(pa.array(chosen & ~_flagged(scored)))

    def seen(self, scored: pa.RecordBatch) -> Mask:
        """Return which of n scored rows people see, bool[n]: flagged and audited ones."""
        return self.chosen(scored.column("transaction_id")) | _flagged(scored)

    def with_probability(self, seen: pa.RecordBatch) -> pa.RecordBatch:
        """Return n rows of `stages.SCORED` that people see as rows of `stages.SEEN`."""
        probability = pa.array(np.where(_flagged(seen), 1.0, self.probability))
        schema = SEEN.with_metadata(seen.schema.metadata)
        return pa.RecordBatch.from_arrays([*seen.columns, probability], schema=schema)

    @cached_property
    def _last(self) -> np.uint64:
        return np.uint64(max(int(self.share * 2**64) - 1, 0))


def _flagged(scored: pa.RecordBatch) -> Mask:
    return np.asarray(scored.column("flagged").to_numpy(zero_copy_only=False), dtype=np.bool_)
