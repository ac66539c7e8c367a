"""Answered transactions as rows, and as JSON."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.decision import APPROVE
from beam_fraud.records.text import together
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import SCORED, completed

Block = npt.NDArray[np.float64]

#: An answered transaction.
ANSWERED = SCORED.append(pa.field("features_as_of", EVENT_TIME, nullable=False)).append(
    # Why the answer lacks something or is the default; null for a normal one.
    pa.field("degraded", pa.string())
)
#: Columns of answers that scored rows lack.
_OWN = [name for name in ANSWERED.names if name not in SCORED.names]
_EPOCH = datetime(1970, 1, 1)  # its text has no offset
#: Members of an answer that `answers_json` converts column by column.
_PLAIN = ("transaction_id", "score", "decision", "flagged", "model_id", "rules_id")
#: Answers from which most are encoded together.
_MANY = 64
#: Numbers between them Arrow writes as msgspec does, if they are no integers.
_SMALL, _GREAT = 1e-4, 1e9
#: What follows the score of an answer.
_AFTER_SCORE = ',"decision":'
#: Which bytes of a text JSON does not escape.
_UNESCAPED = np.array([byte >= 32 and byte not in b'"\\' for byte in range(256)])


class _Answer(msgspec.Struct, omit_defaults=True, gc=False):
    """An answer as JSON; its members in their order."""

    transaction_id: str
    score: float | None
    decision: str
    flagged: bool
    rules: list[str]
    reasons: list[dict[str, Any]]
    model_id: str
    rules_id: str | None
    shadow_rules: list[str]
    features_as_of: str
    degraded: str | msgspec.UnsetType = msgspec.UNSET
    features: dict[str, float | None] | msgspec.UnsetType = msgspec.UNSET


_ENCODER = msgspec.json.Encoder()
_ID, _SCORE, _FLAGGED, _DECISION, _RULES, _REASONS = map(
    ANSWERED.names.index, ("transaction_id", "score", "flagged", "decision", "rules", "reasons")
)
_MODEL, _RULES_ID, _SHADOW_RULES, _AS_OF, _DEGRADED = map(
    ANSWERED.names.index,
    ("model_id", "rules_id", "shadow_rules", "features_as_of", "degraded"),
)


class AnsweredRows:
    """Answered transactions as values, which become columns when they are needed.

    Columns of one row take longer than its answer.
    """

    def __init__(self, values: list[list[Any]]) -> None:
        """Keep rows, each with its values in the order of `ANSWERED`: times in microseconds."""
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def batch(self) -> pa.RecordBatch:
        """The rows of `ANSWERED`."""
        columns = list(zip(*self.values, strict=True)) or [()] * len(ANSWERED)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, ANSWERED, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=ANSWERED)

    def json(self) -> list[bytes]:
        """Return what `answers_json` does."""
        return [
            _ENCODER.encode(
                _Answer(
                    values[_ID],
                    values[_SCORE],
                    values[_DECISION],
                    values[_FLAGGED],
                    values[_RULES] or [],
                    values[_REASONS] or [],
                    values[_MODEL],
                    values[_RULES_ID],
                    values[_SHADOW_RULES] or [],
                    _iso_of(values[_AS_OF]),
                    msgspec.UNSET if values[_DEGRADED] is None else values[_DEGRADED],
                )
            )
            for values in self.values
        ]


#: Type: rows of `ANSWERED`, as columns or as values.
Rows: TypeAlias = pa.RecordBatch | AnsweredRows


def batch_of(*parts: Rows) -> pa.RecordBatch:
    """Return all rows of some parts as columns."""
    batches = list[pa.RecordBatch]()
    for of_values, alike in groupby(parts, lambda part: isinstance(part, AnsweredRows)):
        if of_values:
            several = list(alike)
            joined = AnsweredRows([row for part in several for row in part.values])
            batches.append(several[0].batch if len(several) == 1 else joined.batch)
        else:
            batches += alike
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def scored_of(answered: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows of `ANSWERED`, of this or an earlier version, as those of `stages.SCORED`."""
    return completed(answered.drop_columns(_OWN), SCORED)


def ids_of(rows: Rows) -> list[str]:
    """Return the ids of answered transactions."""
    if isinstance(rows, AnsweredRows):
        return [values[_ID] for values in rows.values]
    ids: list[str] = rows.column("transaction_id").to_pylist()
    return ids


def decisions_of(rows: Rows) -> Counter[str]:
    """Return the number of rows with each decision."""
    if isinstance(rows, AnsweredRows):
        return Counter(values[_DECISION] for values in rows.values)
    flagged = rows.column("flagged")
    counted = Counter({APPROVE: len(rows) - flagged.true_count})
    counted.update(rows.column("decision").filter(flagged).to_pylist())
    return +counted


def flagged_of(rows: Rows) -> int:
    """Return the number of flagged rows."""
    if isinstance(rows, AnsweredRows):
        return sum(values[_FLAGGED] for values in rows.values)
    return int(rows.column("flagged").true_count)


def degraded_of(rows: Rows) -> list[str]:
    """Return the reasons of degraded rows."""
    if isinstance(rows, AnsweredRows):
        reasons = [values[_DEGRADED] for values in rows.values]
    elif rows.column("degraded").null_count == len(rows):
        return []
    else:
        reasons = rows.column("degraded").to_pylist()
    return [reason for reason in reasons if reason is not None]


@dataclass(frozen=True)
class Features:
    """The model's input of some answers."""

    #: Names of the columns of the block.
    names: tuple[str, ...]
    #: float64[n, features].
    block: Block

    def take(self, rows: Sequence[int]) -> Features:
        """Return the features of some rows."""
        return Features(self.names, self.block[list(rows)])

    def dicts(self) -> list[dict[str, float | None]]:
        """Return name to value for each row; null where a value is absent."""
        rows = ([v if math.isfinite(v) else None for v in row] for row in self.block.tolist())
        return [dict(zip(self.names, row, strict=True)) for row in rows]


def answers_json(rows: pa.RecordBatch, features: Features | None = None) -> list[bytes]:
    """Encode answers as JSON objects.

    Times have the form `2024-05-01T12:00:00.000005Z`; numbers read back exactly; `rules`,
    `shadow_rules` and `reasons` are lists, empty for null; `degraded` and `features` are there only
    where they say something.

    Args:
      rows: n rows of `ANSWERED`.
      features: the model's input of the rows, or None.
    """
    encoded = None if features is not None else _together(rows)
    return _one_by_one(rows, features) if encoded is None else encoded.objects()


class JointJson:
    """Answers as JSON, encoded at first use for the calls of all of them.

    Args:
      rows: n rows of `ANSWERED`.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @cached_property
    def _encoded(self) -> _Together | list[bytes]:
        if isinstance(self._rows, AnsweredRows):
            return self._rows.json()
        return _together(self._rows) or _one_by_one(self._rows)

    def array(self, first: int, last: int) -> bytes:
        """Return the array of `answers_json` of a range of the rows."""
        encoded = self._encoded
        pieces = (
            encoded.pieces(first, last) if isinstance(encoded, _Together) else encoded[first:last]
        )
        return b"[" + b",".join(pieces) + b"]"


@dataclass(frozen=True)
class _Together:
    """Many answers as JSON."""

    #: The answers that approve and say no more, each with a comma, and something in place of each
    #: other one.
    text: memoryview
    #: int32[n + 1]: where the answer of each row begins and the one before ends.
    ends: npt.NDArray[np.int32]
    #: The rows that have more to say, ascending, and their answers.
    unlike: list[int]
    others: list[bytes]

    def objects(self) -> list[bytes]:
        """Return the answer of each row."""
        ends = self.ends.tolist()
        found = [bytes(self.text[begin : end - 1]) for begin, end in pairwise(ends)]
        for row, other in zip(self.unlike, self.others, strict=True):
            found[row] = other
        return found

    def pieces(self, first: int, last: int) -> Iterator[memoryview | bytes]:
        """Yield what commas join to the answers of a range of rows."""
        between = slice(bisect_left(self.unlike, first), bisect_left(self.unlike, last))
        for row, other in zip(self.unlike[between], self.others[between], strict=True):
            if first < row:
                yield self._alike(first, row)
            yield other
            first = row + 1
        if first < last:
            yield self._alike(first, last)

    def _alike(self, first: int, last: int) -> memoryview:
        return self.text[int(self.ends[first]) : int(self.ends[last]) - 1]


def _together(rows: pa.RecordBatch) -> _Together | None:
    """Encode n rows of `ANSWERED`; None if they are few, or most have more to say."""
    if len(rows) < _MANY:
        return None
    alike = _alike(rows)
    unlike = np.flatnonzero(~alike)
    if len(unlike) > len(rows) // 2:
        return None
    # The first of those that are alike, then all others.
    whole, *others = _one_by_one(rows.take(pa.array(np.append(alike.argmax(), unlike))))
    # Neither an id nor a number has what begins the next member.
    tail = _AFTER_SCORE + whole.decode().partition(_AFTER_SCORE)[2]
    # Arrow does not hold the interpreter, which other threads need meanwhile.
    texts = pc.binary_join_element_wise(
        *('{"transaction_id":"', rows.column("transaction_id"), '","score":'),
        *(_numbers(rows.column("score")), f"{tail},", ""),
    )
    _, ends, text = texts.buffers()
    starts = np.frombuffer(ends, dtype=np.int32, count=len(rows) + 1)
    return _Together(memoryview(text), starts, unlike.tolist(), others)


def _numbers(values: pa.DoubleArray) -> pa.StringArray:
    """Return finite numbers as msgspec writes them."""
    texts, numbers = values.cast(pa.string()), values.to_numpy()
    sizes = np.abs(numbers)
    otherwise = (sizes < _SMALL) | (sizes >= _GREAT) | (np.trunc(numbers) == numbers)
    if otherwise.any():
        written = _ENCODER.encode(numbers[otherwise].tolist())[1:-1].decode().split(",")
        texts = pc.replace_with_mask(texts, pa.array(otherwise), pa.array(written))
    return texts


def _alike(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Return which answers approve and say no more, as most do; they differ in id and score alone.

    Args:
      rows: n > 0 rows of `ANSWERED`.

    Returns:
      bool[n].
    """
    alike = ~np.asarray(rows.column("flagged").to_numpy(zero_copy_only=False), dtype=bool)
    alike &= np.isfinite(rows.column("score").to_numpy())
    names = rows.column("transaction_id")
    alike &= _unescaped(names)
    if names.null_count:
        alike &= np.asarray(names.is_valid())
    for name in ("rules", "shadow_rules", "reasons"):
        alike &= _lengths(rows.column(name)) == 0
    if rows.column("degraded").null_count < len(rows):
        alike &= np.asarray(rows.column("degraded").is_null())
    moments = np.asarray(rows.column("features_as_of").view(pa.int64()))
    alike &= moments == moments[-1]
    for name in ("model_id", "rules_id"):
        ids = rows.column(name)
        if ids.null_count == len(rows):
            continue
        if ids.null_count or together(ids) != together(ids[:1]) * len(rows):
            alike &= np.asarray(pc.equal(ids, ids[-1]).fill_null(False))
    return alike


def _unescaped(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return which texts are written in JSON as they are, bool[n]."""
    if _UNESCAPED[np.frombuffer(together(texts), dtype=np.uint8)].all():
        return np.ones(len(texts), dtype=bool)
    every = (text or "" for text in texts.to_pylist())
    return np.array([bool(_UNESCAPED[list(text.encode())].all()) for text in every])


def _one_by_one(rows: pa.RecordBatch, features: Features | None = None) -> list[bytes]:
    values = {name: rows.column(name).to_pylist() for name in _PLAIN}
    # An answer by default has no score.
    scores = [None if math.isnan(score) else score for score in values["score"]]
    degraded = rows.column("degraded")
    marks: Iterable[str | msgspec.UnsetType]
    if degraded.null_count == len(rows):
        marks = [msgspec.UNSET] * len(rows)
    else:
        marks = [msgspec.UNSET if mark is None else mark for mark in degraded.to_pylist()]
    inputs: Iterable[dict[str, float | None] | msgspec.UnsetType]
    inputs = [msgspec.UNSET] * len(rows) if features is None else features.dicts()
    answers = map(
        _Answer,
        values["transaction_id"],
        scores,
        values["decision"],
        values["flagged"],
        _lists(rows.column("rules")),
        _lists(rows.column("reasons")),
        values["model_id"],
        values["rules_id"],
        _lists(rows.column("shadow_rules")),
        _iso(rows.column("features_as_of")),
        marks,
        inputs,
    )
    return [_ENCODER.encode(answer) for answer in answers]


def _lists(column: pa.Array) -> list[list[Any]]:
    lists: list[list[Any]] = [[]] * len(column)
    lengths = _lengths(column)
    rows = np.flatnonzero(lengths)
    if not len(rows):
        return lists
    values, start = _values(column.flatten()), 0
    for row, length in zip(rows.tolist(), lengths[rows].tolist(), strict=True):
        lists[row] = values[start : start + length]
        start += length
    return lists


def _lengths(column: pa.ListArray) -> npt.NDArray[np.int32]:
    """Return the length of each list, int32[n]; 0 for null."""
    ends = np.asarray(column.offsets)
    lengths: npt.NDArray[np.int32] = ends[1:] - ends[:-1]
    if column.null_count:
        lengths = np.where(np.asarray(column.is_valid()), lengths, 0)
    return lengths


def _values(column: pa.Array) -> list[Any]:
    """Return the values of texts, or of structs as dicts, which Arrow makes one by one."""
    if not pa.types.is_struct(column.type) or column.null_count:
        return list(column.to_pylist())
    names = [field.name for field in column.type]
    members = (field.to_pylist() for field in column.flatten())
    return [dict(zip(names, values, strict=True)) for values in zip(*members, strict=True)]


def _iso_of(time: int) -> str:
    return f"{(_EPOCH + timedelta(microseconds=time)).isoformat(timespec='microseconds')}Z"


def _iso(times: pa.Array) -> list[str]:
    moments = np.asarray(times.view(pa.int64())).view("datetime64[us]")
    return [f"{moment}Z" for moment in moments.astype(str)]
