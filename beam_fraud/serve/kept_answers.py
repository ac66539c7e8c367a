"""The answers of a server: kept with their commit, found again, and passed to the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa

from beam_fraud.decisions.inputs import without_inputs
from beam_fraud.schema.stages import completed
from beam_fraud.serve.answer_deltas import (
    answers_of,
    delta_of,
    encoded_rows,
    inputs_delta,
    inputs_of,
    is_amended,
)
from beam_fraud.serve.answered_rows import ANSWERED, Rows, batch_of
from beam_fraud.serve.drift import AnswerCounts, DriftCounters
from beam_fraud.serve.input_rows import Inputs, inputs_batch
from beam_fraud.serve.recent_answers import LARGE, RecentAnswers
from beam_fraud.state.shard import rows_from_bytes, rows_to_bytes
from beam_fraud.storage.checkpoint import FOREVER
from beam_fraud.storage.journal import JournaledCheckpoint

#: Step of the answers that are in no part of the archive yet.
_ANSWERS = "answers"
#: Groups that become columns at once.
_AT_ONCE = 32


@dataclass(frozen=True)
class Prepared:
    """Groups of answers as what the archive takes."""

    groups: Sequence[Rows]
    #: All rows in few batches, with the kept inputs of their decisions.
    rows: Sequence[pa.RecordBatch]
    #: What the archive takes of each batch, in parts by `rows_to_bytes`.
    encoded: Sequence[Sequence[bytes]]
    #: The rows of small groups as one batch of `ANSWERED`; None without any.
    joined: pa.RecordBatch | None
    #: Their counts for drift, or None.
    counted: AnswerCounts | None = None


@dataclass(frozen=True)
class Groups:
    """Committed groups of answers that are not archived."""

    groups: Sequence[Rows]
    #: The kept inputs of their decisions, or None, for each group.
    inputs: Sequence[Inputs | None]
    #: The change of the state that each group is.
    deltas: Sequence[bytes]
    #: Counts the rows for drift; None to count none.
    counters: DriftCounters | None = None
    #: Whether the archive has the inputs.
    archives_inputs: bool = True

    def prepared(self, pause: Callable[[], object] = lambda: None) -> Prepared:
        """Return them for the archive; in any thread, for this takes most of the time.

        Args:
          pause: called between two parts of the work, each of a part of a millisecond.
        """
        parts = list[_Part]()
        for start in range(0, len(self.groups), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            groups = zip(self.groups[part], self.inputs[part], self.deltas[part], strict=True)
            parts += _parts(groups, archives_inputs=self.archives_inputs)
            pause()
        alike = [list(some) for _, some in groupby(parts, lambda one: one.rows.schema)]
        rows = [pa.concat_batches([one.rows for one in some]) for some in alike]
        encoded = [[data for one in some for data in one.encoded] for some in alike]
        small = [group for group in self.groups if len(group) < LARGE]
        if len(small) == len(self.groups) and len(rows) == 1:
            joined = without_inputs(rows[0])
        else:
            joined = batch_of(*small) if small else None
        counted = None if self.counters is None else self.counters.count(rows)
        return Prepared(self.groups, rows, encoded, joined, counted)


@dataclass
class _Kept:
    """A group of answers that is in no step of the archive."""

    rows: Rows
    #: The deltas that hold it.
    deltas: list[tuple[bytes, int]]
    #: The kept inputs of its decisions, or None.
    inputs: Inputs | None = None


class KeptAnswers:
    """The answers in the state; changed by the thread that works with the engine.

    Args:
      checkpoint: the state.
      archive: step of the archive's shard, which holds the rows of its unfinished part.
      most: archived answers that stay in memory for transactions that come again.
      counters: counts them for drift; None to count none.
      archives_inputs: whether the archive has the kept inputs of decisions.
    """

    def __init__(
        self,
        checkpoint: JournaledCheckpoint,
        archive: str,
        most: int,
        counters: DriftCounters | None = None,
        *,
        archives_inputs: bool = True,
    ) -> None:
        self._counters, self._archives_inputs = counters, archives_inputs
        self._checkpoint, self._most = checkpoint, most
        #: The groups that are in no step of the archive, and how many of them are committed.
        self._unarchived: list[_Kept] = []
        self._committed = 0
        #: Groups that the archive has with the next commit.
        self._leaving: list[_Kept] = []
        #: Groups that cannot be found by their ids yet.
        self._unentered: list[Rows] = []
        #: The last group, while its callers have no answer.
        self._unsent: Rows | None = None
        self._recent = RecentAnswers()
        for data in checkpoint.deltas(archive, 0):
            # Rows of a part that is not finished; the archive checks the form.
            if data[:1] == b"R":
                rows = completed(without_inputs(rows_from_bytes(data[9:])), ANSWERED)
                self._recent.add(rows)
                self._recent.archive([rows], most)
        for data in checkpoint.deltas(_ANSWERS, 0):
            if (inputs := inputs_of(data)) is not None:
                self._unarchived[-1].inputs = inputs
                self._unarchived[-1].deltas.append((data, FOREVER))
            elif is_amended(data):
                self._unarchived[-1].rows = answers_of(data)
                self._unarchived[-1].deltas[0] = _whole(self._unarchived[-1].rows)
            else:
                self._unarchived.append(_Kept(answers_of(data), [(data, FOREVER)]))
        for kept in self._unarchived:
            self._recent.add(kept.rows)

    def restored(self) -> Sequence[Rows]:
        """Return the groups that an earlier process left, which may not have been delivered."""
        return [kept.rows for kept in self._unarchived]

    def add(self, answered: Rows, inputs: Inputs | None = None) -> None:
        """Keep answers.

        Args:
          answered: n answers.
          inputs: the kept inputs of their decisions, n rows, or None.
        """
        if not len(answered):
            return
        deltas = [_whole(answered)]
        if inputs is not None:
            deltas.append((inputs_delta(inputs), FOREVER))
        self._checkpoint.keep(_ANSWERS, 0, deltas)
        self._unarchived.append(_Kept(answered, deltas, inputs))
        self._unsent = answered
        self._unentered.append(answered)

    def enter(self) -> None:
        """Have answers found by their ids from here on; at the latest when they are committed."""
        for answered in self._unentered:
            self._recent.add(answered)
        self._unentered.clear()

    def amend(self, answered: pa.RecordBatch) -> None:
        """Replace the last group of answers: some callers got another answer than was committed."""
        self.enter()
        amended = delta_of(answered, amended=True), FOREVER
        self._checkpoint.keep(_ANSWERS, 0, [amended])
        kept = self._unarchived[-1]
        kept.rows, kept.deltas[0] = answered, _whole(answered)
        self._recent.add(answered)

    def committed(self) -> None:
        """Note that all answers are committed, and the archive has what it was passed."""
        self.enter()
        self._leaving = []
        self._committed = len(self._unarchived)

    def sent(self) -> None:
        """Note that the callers of the last group have their answers."""
        self._unsent = None

    def discard(self) -> None:
        """Forget the answers since the last commit; what the archive was passed is here again."""
        self._unentered.clear()
        for kept in self._unarchived[self._committed :]:
            self._recent.remove(kept.rows)
        self._unarchived = [*self._leaving, *self._unarchived[: self._committed]]
        self._leaving = []
        self._committed = len(self._unarchived)

    def earlier(self, transaction_id: str) -> pa.RecordBatch | None:
        """Return an earlier answer that is in memory, one row of `ANSWERED`."""
        self.enter()
        rows, row = self._recent.place(transaction_id)
        return None if rows is None else batch_of(rows).slice(row, 1)

    def given(self, transaction_id: str) -> pa.RecordBatch | None:
        """Return an earlier answer that is in memory and was `sent`; in any thread."""
        rows, row = self._recent.place(transaction_id)
        # In this order: the engine's thread marks a group before it can be found.
        return None if rows is None or rows is self._unsent else batch_of(rows).slice(row, 1)

    @property
    def rows(self) -> int:
        """Number of committed answers that are not archived."""
        return sum(len(kept.rows) for kept in self._unarchived[: self._committed])

    def groups(self, *, last: bool = False) -> Groups | None:
        """Return the committed groups that are not archived; None without any.

        Args:
          last: also those of the next commit, which cannot be amended then.
        """
        self.enter()
        count = len(self._unarchived) if last else self._committed
        if not count:
            return None
        kept = self._unarchived[:count]
        return Groups(
            [one.rows for one in kept],
            [one.inputs for one in kept],
            [one.deltas[0][0] for one in kept],
            self._counters,
            self._archives_inputs,
        )

    def holds(self, prepared: Prepared) -> bool:
        """Return whether the groups are still to be archived."""
        return bool(self._unarchived) and self._unarchived[0].rows is prepared.groups[0]

    def archive(self, prepared: Prepared) -> None:
        """Remove groups that the archive has with the next commit."""
        groups = prepared.groups
        self._leaving += self._unarchived[: len(groups)]
        self._unarchived = self._unarchived[len(groups) :]
        self._committed = max(self._committed - len(groups), 0)
        left = [delta for kept in self._unarchived for delta in kept.deltas]
        self._checkpoint.keep(_ANSWERS, 0, left, replaces=True)

    def remember(self, prepared: Prepared, pause: Callable[[], object] = lambda: None) -> None:
        """Keep archived groups in less memory, and the newest alone; in any thread.

        Args:
          prepared: what `archive` removed.
          pause: called between two parts of the work, each of a part of a millisecond.
        """
        # Older ones are in finished parts of the archive.
        self._recent.archive(prepared.groups, self._most, prepared.joined, pause)


def _whole(answered: Rows) -> tuple[bytes, int]:
    """Return the delta of a group that replaces none."""
    return delta_of(answered), FOREVER


class _Part(NamedTuple):
    """Some groups of answers."""

    #: Their rows, with the kept inputs of their decisions.
    rows: pa.RecordBatch
    #: What the archive takes of them.
    encoded: Sequence[bytes]


def _parts(
    groups: Iterable[tuple[Rows, Inputs | None, bytes]], *, archives_inputs: bool
) -> Iterator[_Part]:
    """Yield groups of answers, each with the change of the state that it is, in few parts."""
    for schema, alike in groupby(groups, lambda one: one[1] and one[1].schema):
        of_rows, kept, deltas = zip(*alike, strict=True)
        answers = _answers(of_rows, deltas)
        if schema is None:
            yield answers
            continue
        described = pa.schema([*answers.rows.schema, *schema])
        columns = [*answers.rows.columns, *inputs_batch(kept).columns]
        rows = pa.RecordBatch.from_arrays(columns, schema=described)
        yield _Part(rows, [rows_to_bytes(rows)] if archives_inputs else answers.encoded)


def _answers(groups: Sequence[Rows], deltas: Sequence[bytes]) -> _Part:
    """Return the rows of groups, of which large ones are encoded already."""
    batches, encoded = list[pa.RecordBatch](), list[bytes]()
    own = zip(groups, map(encoded_rows, deltas), strict=True)
    for small, alike in groupby(own, lambda one: one[1] is None):
        several = list(alike)
        rows = batch_of(*(rows for rows, _ in several))
        batches.append(rows)
        encoded += [data for _, data in several if data is not None]
        if small:
            encoded.append(rows_to_bytes(rows))
    return _Part(batches[0] if len(batches) == 1 else pa.concat_batches(batches), encoded)
