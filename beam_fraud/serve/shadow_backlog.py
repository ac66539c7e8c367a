"""ShadowGroup transactions that wait for the challengers in shadow, durable with their answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.decider import Pair
from beam_fraud.features.matrix import Values
from beam_fraud.features.velocity.columns import with_columns
from beam_fraud.monitoring.shadow import ShadowFigures, ShadowTotals
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.sources.raw import POSITION
from beam_fraud.state.shard import rows_from_bytes, rows_to_bytes
from beam_fraud.storage.journal import JournaledCheckpoint

_LOG = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]
#: Step of the state, which has one shard.
_STEP = "shadow"
#: Rows that may wait; further ones are not shadowed.
_MOST_ROWS = 20_000


class ShadowGroup(msgspec.Struct, array_like=True, gc=False):
    """Transactions as the champion saw them."""

    #: One more than that of the group before, from 1.
    number: int
    #: What decided on them.
    model_id: str
    rules_id: str | None
    #: Scores of the champion, float64[n].
    scores: bytes
    #: Transactions that are values, and the velocity features of each; empty for columns.
    values: list[tuple[dict[str, Any], dict[str, float]]]
    #: Transactions with velocity features as columns (`shard.rows_to_bytes`); b"" for values.
    columns: bytes

    @property
    def pair(self) -> Pair:
        """Ids of what decided on them."""
        return self.model_id, self.rules_id

    @property
    def rows(self) -> int:
        """Number of transactions."""
        return len(self.scores) // 8


_ENCODER = msgspec.msgpack.Encoder()
#: Type: the form of a delta of the state: number and bytes of each group.
_Numbered = list[tuple[int, bytes]]
_DELTA, _GROUP = msgspec.msgpack.Decoder(_Numbered), msgspec.msgpack.Decoder(ShadowGroup)


class Scoring(Protocol):
    """Scores the groups in a thread of its own."""

    @property
    def done(self) -> int:
        """Number of the last group whose rows in shadow are durable; 0 for none."""

    @property
    def waiting(self) -> int:
        """Rows that wait."""

    @property
    def left_out(self) -> int:
        """Rows of groups that could not be scored."""

    def figures(self) -> dict[str, ShadowFigures]:
        """Return the figures of this process by challenger."""

    def start(self) -> None:
        """Start to score."""

    def add(self, groups: Sequence[ShadowGroup]) -> None:
        """Add durable groups."""

    def close(self, seconds: float) -> None:
        """Score what waits for at most so many seconds, and end."""


class ShadowBacklog:
    """Hands answered transactions to the challengers, each once and after its commit.

    A group is part of the commit of its answers, and stays in the state until its rows in shadow
    are durable. So a killed server scores it after its restart. For the engine's thread.

    Args:
      checkpoint: the state.
      scoring: scores the groups.
    """

    def __init__(self, checkpoint: JournaledCheckpoint, scoring: Scoring) -> None:
        self._checkpoint, self._scoring = checkpoint, scoring
        groups = [group for group in _stored(checkpoint) if group.number > scoring.done]
        self._next = 1 + max([scoring.done, *(group.number for group in groups)])
        scoring.add(groups)
        #: Groups of the commit that comes, and their rows.
        self._uncommitted: list[ShadowGroup] = []
        self._rows = 0
        #: Rows that were not handed over, because too many waited.
        self._left_out = 0
        self._full = False
        checkpoint.open[_STEP, 0] = lambda: self

    def take_values(
        self,
        pair: Pair,
        rows: Sequence[Values],
        computed: Sequence[Mapping[str, float]],
        scores: Floats,
    ) -> None:
        """Take n transactions that are values into the next commit.

        Args:
          pair: ids of what decided on them.
          rows: the transactions, by the columns of `Schema.transactions`.
          computed: the velocity features of each.
          scores: float64[n], the champion's.
        """
        if self._fits(len(rows)):
            values = [(dict(row), dict(own)) for row, own in zip(rows, computed, strict=True)]
            self._keep(ShadowGroup(self._next, *pair, scores.tobytes(), values, b""))

    def take_columns(
        self,
        pair: Pair,
        transactions: pa.RecordBatch,
        computed: Mapping[str, Floats],
        scores: pa.Array,
    ) -> None:
        """Take n transactions into the next commit.

        Args:
          pair: ids of what decided on them.
          transactions: rows as `Schema.transactions` describes them.
          computed: velocity features, float64[n] each.
          scores: float64[n], the champion's.
        """
        if self._fits(len(transactions)):
            rows = with_columns(transactions, computed) if computed else transactions
            if POSITION in rows.schema.names:
                rows = rows.drop_columns([POSITION])
            encoded = rows_to_bytes(rows.replace_schema_metadata(None))
            self._keep(ShadowGroup(self._next, *pair, np.asarray(scores).tobytes(), [], encoded))

    def committed(self) -> None:
        """Hand over the groups of a commit."""
        if self._uncommitted:
            self._scoring.add(self._uncommitted)
            self._uncommitted, self._rows = [], 0

    def discarded(self) -> None:
        """Forget the groups since the last commit."""
        self._uncommitted, self._rows = [], 0

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self._scoring.waiting

    @property
    def left_out(self) -> int:
        """Rows that were not shadowed."""
        return self._left_out + self._scoring.left_out

    def totals(self) -> ShadowTotals:
        """Return the figures of this process."""
        return ShadowTotals(self._scoring.figures(), self.waiting, self.left_out)

    def start(self) -> None:
        """Start to score."""
        self._scoring.start()

    def close(self, seconds: float) -> None:
        """Score what waits for at most so many seconds; the rest stays in the state."""
        self._scoring.close(seconds)

    @property
    def needed_from(self) -> int:
        """Groups before this one are done."""
        return self._scoring.done + 1

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge deltas to one, without the groups that are done."""
        done = self._scoring.done
        return _ENCODER.encode(
            [one for delta in deltas for one in _DELTA.decode(delta) if one[0] > done]
        )

    def _fits(self, rows: int) -> bool:
        """Return whether so many rows may wait; count and say it if not."""
        if self._scoring.waiting + self._rows + rows <= _MOST_ROWS:
            if self._full:
                self._full = False
                _LOG.info(
                    "--shadow: rows are scored again; %s were left out", f"{self._left_out:,}"
                )
            return True
        self._left_out += rows
        if not self._full:
            self._full = True
            _LOG.warning(
                "--shadow: %s rows wait for the challengers, so further ones are left out; answers "
                "go on",
                f"{self._scoring.waiting + self._rows:,}",
            )
        return False

    def _keep(self, group: ShadowGroup) -> None:
        delta = _ENCODER.encode([(group.number, _ENCODER.encode(group))])
        # The number stands in for the time by which deltas are dropped.
        self._checkpoint.keep(_STEP, 0, [(delta, group.number)])
        self._uncommitted.append(group)
        self._rows += group.rows
        self._next += 1


def drop_waiting(checkpoint: JournaledCheckpoint, done: int) -> None:
    """Drop what an earlier server left for its challengers, because there are none now."""
    left = sum(group.rows for group in _stored(checkpoint) if group.number > done)
    if left:
        _LOG.warning(
            "%s rows waited for the challengers of an earlier server; without --shadow they are "
            "left out",
            f"{left:,}",
        )
    if checkpoint.deltas(_STEP, 0):
        checkpoint.keep(_STEP, 0, [], replaces=True)


def transactions_of(groups: Sequence[ShadowGroup], described: pa.Schema) -> pa.RecordBatch:
    """Return the transactions of groups, with their velocity features.

    Args:
      groups: one or more.
      described: the columns; those that transactions lack are null, or NaN.
    """
    batches = list[pa.RecordBatch]()
    for of_columns, alike in groupby(groups, lambda group: bool(group.columns)):
        if of_columns:
            batches += [_described(rows_from_bytes(one.columns), described) for one in alike]
            continue
        # Together: columns of one row take as long as those of a thousand.
        rows = [{**own, **computed} for one in alike for own, computed in one.values]
        columns = [
            _column([row.get(field.name) for row in rows], field.type) for field in described
        ]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=described))
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _stored(checkpoint: JournaledCheckpoint) -> list[ShadowGroup]:
    deltas = checkpoint.deltas(_STEP, 0)
    groups = [_GROUP.decode(data) for delta in deltas for _, data in _DELTA.decode(delta)]
    return sorted(groups, key=lambda group: group.number)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == EVENT_TIME:
        return pa.array(values, pa.int64()).view(EVENT_TIME)
    if kind == pa.float64():
        return pa.array([np.nan if value is None else value for value in values], kind)
    return pa.array(values, kind)


def _described(rows: pa.RecordBatch, described: pa.Schema) -> pa.RecordBatch:
    known = set(rows.schema.names)
    columns = [
        rows.column(field.name) if field.name in known else _column([None] * len(rows), field.type)
        for field in described
    ]
    return pa.RecordBatch.from_arrays(columns, schema=described)
