"""Compile rules to steps over the columns of a batch; equal steps run once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from hashlib import blake2b
from typing import Any as Anything
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.lists.live_list import LiveList
from beam_fraud.decisions.rules.condition import (
    All,
    Always,
    Among,
    Any,
    Arithmetic,
    Column,
    Compare,
    Condition,
    Listed,
    Missing,
    Negative,
    Not,
    Number,
    Sampled,
    Text,
    Value,
)
from beam_fraud.decisions.rules.large_lists import LargeNumbers, LargeTexts
from beam_fraud.decisions.rules.numeric_program import NumericProgram
from beam_fraud.decisions.rules.rule import Fired, RuleSet, listing_of
from beam_fraud.decisions.rules.text_index import UNKNOWN, Codes, TextIndex
from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.features.matrix import (
    FeatureSet,
    NumberOf,
    Values,
    number_of,
    numeric_feature,
)
from beam_fraud.schema.event_time import event_micros

#: Code of a missing text; that and `UNKNOWN` index from the end.
ABSENT = -2

#: Rows up to which a dictionary is faster than the calls of Arrow: 5 microseconds for 30 to 130.
_FEW_ROWS = 64


class TextCodes:
    """Codes of the texts that rules compare a column with.

    Args:
      texts: the texts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._codes = {text: code for code, text in enumerate(dict.fromkeys(texts))}
        self._index = TextIndex(pa.array(list(self._codes), pa.string()), IdHash.random())

    def code(self, text: str) -> int:
        """Return the code of one of the texts."""
        return self._codes[text]

    def members(self, texts: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return bool[k + 2]: whether each code, also `UNKNOWN` and `ABSENT`, is in `texts`."""
        members = np.zeros(len(self._codes) + 2, dtype=bool)
        members[[self._codes[text] for text in texts]] = True
        return members

    def of(self, column: pa.StringArray) -> Codes:
        """Return int32[n]: code of each text of a column."""
        if len(column) <= _FEW_ROWS:
            texts = column.to_pylist()
            known = [ABSENT if t is None else self._codes.get(t, UNKNOWN) for t in texts]
            return np.array(known, dtype=np.int32)
        # Arrow rehashes all texts at every call: too slow for a long list and few rows.
        few = len(self._index) <= 2 * len(column)
        codes = self._index.codes_by_text(column) if few else self._index.codes(column)
        if column.null_count:
            codes[column.is_null().to_numpy(zero_copy_only=False)] = ABSENT
        return codes


#: Maximum of list numbers compared one by one; Arrow's look-up costs as much as so many.
_ONE_BY_ONE = 16
_ARITHMETIC: dict[str, Callable[[Anything, Anything], Anything]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_COMPARE: dict[str, Callable[[Anything, Anything], Anything]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Batch(Protocol):
    """Input of the steps: n transactions."""

    @property
    def block(self) -> npt.NDArray[np.float64]:
        """The model's input, float64[n, features]."""

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """float64[n]."""

    def __len__(self) -> int:
        """Return n."""

    def number(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column or feature, float64[n]."""

    def text(self, name: str) -> pa.StringArray:
        """Return a column of texts, string[n]."""

    def times(self) -> npt.NDArray[np.int64]:
        """Return the event times in microseconds, int64[n]."""


@dataclass(frozen=True)
class _Columns:
    """Rows of `Schema.transactions`, with velocity features."""

    transactions: pa.RecordBatch
    features: FeatureSet
    block: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.transactions)

    def number(self, name: str) -> npt.NDArray[np.float64]:
        return numeric_feature(self.transactions, name, self.features)

    def text(self, name: str) -> pa.StringArray:
        return self.transactions.column(name)

    def times(self) -> npt.NDArray[np.int64]:
        return event_micros(self.transactions)


@dataclass(frozen=True)
class _Rows:
    """Transactions as values, and the velocity features of each."""

    rows: Sequence[Values]
    computed: Sequence[Mapping[str, float]]
    numbers: Callable[[str], NumberOf]
    block: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def number(self, name: str) -> npt.NDArray[np.float64]:
        number = self.numbers(name)
        return np.array([number(*pair) for pair in zip(self.rows, self.computed, strict=True)])

    def text(self, name: str) -> pa.StringArray:
        return pa.array([row[name] for row in self.rows], pa.string())

    def times(self) -> npt.NDArray[np.int64]:
        return np.array([row["event_time"] for row in self.rows], dtype=np.int64)


#: Type: compute the next value from those of earlier steps and the batch.
_Step = Callable[[list[Anything], _Batch], Anything]


class LookUp(Protocol):
    """A list that a column is looked up in."""

    def of(self, column: pa.StringArray, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return bool[n] for string[n] and event times in microseconds, int64[n]."""


class Program:
    """Compiled rules; created once per worker.

    Args:
      rules: rules whose names `features` and its schema provide.
      features: features of the blocks.
      look_up: makes the list of a look-up; None follows the files of the rules' lists.

    Raises:
      FraudError: the file of a list that a rule names as `@name` cannot be read.
    """

    def __init__(
        self,
        rules: RuleSet,
        features: FeatureSet,
        look_up: Callable[[Listed], LookUp] | None = None,
    ) -> None:
        self._rules = rules.rules
        self._id = rules.id
        self._look_up = look_up or partial(_live_list, rules)
        #: Name of a look-up of a list to the slot of its result.
        self._listed_at: dict[str, int] = {}
        self._features = features
        self._numbers = dict[str, NumberOf]()
        self._steps: list[_Step] = []
        self._slots: dict[object, int] = {}
        self._texts = _text_codes(rule.condition for rule in self._rules)
        self._results = [self._slot(rule.condition) for rule in self._rules]
        self._of_numbers = NumericProgram.of(self._rules, features)
        #: Number of rows to what is returned where no rule holds for one of them.
        self._nothing: dict[int, Fired] = {}

    def fired(
        self,
        transactions: pa.RecordBatch,
        block: npt.NDArray[np.float64],
        scores: npt.NDArray[np.float64],
    ) -> Fired:
        """Return which rules hold for which rows.

        Args:
          transactions: n rows as `Schema.transactions` describes them, with velocity features.
          block: float64[n, features], the model's input.
          scores: float64[n].
        """
        return self._fired(_Columns(transactions, self._features, block, scores))

    def fired_of_rows(
        self,
        rows: Sequence[Values],
        computed: Sequence[Mapping[str, float]],
        block: npt.NDArray[np.float64],
        scores: npt.NDArray[np.float64],
    ) -> Fired:
        """Return the same for n transactions that are values, with velocity features of each."""
        if self._of_numbers is not None:
            holds = self._of_numbers.holds(rows, computed, scores)
            if not any(map(any, holds)):
                return self._none(len(rows))
            return Fired(self._rules, np.array(holds, dtype=bool), self._id)
        return self._fired(_Rows(rows, computed, self._number_of, block, scores))

    def _none(self, rows: int) -> Fired:
        """Return that no rule holds for any of so few rows; most transactions are such."""
        none = self._nothing.get(rows)
        if none is None:
            holds = np.zeros((len(self._rules), rows), dtype=bool)
            holds.flags.writeable = False
            none = self._nothing[rows] = Fired(self._rules, holds, self._id)
        return none

    def _number_of(self, name: str) -> NumberOf:
        if name not in self._numbers:
            self._numbers[name] = number_of(name, self._features)
        return self._numbers[name]

    def _fired(self, batch: _Batch) -> Fired:
        values = list[Anything]()
        with np.errstate(all="ignore"):
            for step in self._steps:
                values.append(step(values, batch))
        holds = np.empty((len(self._rules), len(batch)), dtype=bool)
        for row, slot in enumerate(self._results):
            holds[row] = values[slot]
        listed = {name: values[slot] for name, slot in self._listed_at.items()}
        return Fired(self._rules, holds, self._id, listed)

    def _slot(self, part: Condition | Value) -> int:
        """Return the slot of a part's value; equal parts share a slot."""
        # Looked up once: the hash of a condition takes that of each of its parts.
        slot = self._slots.get(part)
        if slot is None:
            step = self._step(part)
            slot = self._slots[part] = len(self._steps)
            self._steps.append(step)
        return slot

    def _step(self, part: Condition | Value) -> _Step:
        match part:
            case Number(value) | Always(value):
                return lambda values, batch: value
            case Column(name, "number"):
                return self._numeric(name)
            case Column(name):
                return lambda values, batch: batch.text(name)
            case Arithmetic(symbol, left, right):
                one, other = self._slot(left), self._slot(right)
                if symbol == "/":
                    return lambda values, batch: _quotient(values[one], values[other])
                reckon = _ARITHMETIC[symbol]
                return lambda values, batch: reckon(values[one], values[other])
            case Negative(operand):
                at = self._slot(operand)
                return lambda values, batch: -values[at]
            case Compare():
                return self._compare(part)
            case Among(Column() as column, LargeTexts() as texts, negated):
                if negated:
                    return self._not_among(column, replace(part, negated=False))
                return self._among_many(column, texts.index)
            case Among(operand, LargeNumbers() as many, negated):
                at = self._slot(operand)
                return lambda values, batch: _not_nan(
                    many.contains(values[at]), values[at], negated
                )
            case Among(Column(name, "text"), tuple() as texts, negated):
                return self._text_among(name, texts, negated)
            case Among(operand, numbers, negated):
                at = self._slot(operand)
                members = np.array(numbers, dtype=np.float64)
                return lambda values, batch: _among(values[at], members, negated)
            case Sampled(column, name, percent):
                return self._sampled(column, name, percent)
            case Listed():
                return self._listed(part)
            case Missing(operand, negated):
                return self._missing(operand, negated)
            case All(parts):
                return self._joined(np.logical_and, parts)
            case Any(parts):
                return self._joined(np.logical_or, parts)
            case Not(inner):
                at = self._slot(inner)
                return lambda values, batch: np.logical_not(values[at])
        raise TypeError(f"no step for {part}")

    def _numeric(self, name: str) -> _Step:
        if name == "score":
            return lambda values, batch: batch.scores
        names = self._features.names
        if name in ("is_weekend", "is_night") and name in names:
            # Computed already; all others are plain columns.
            place = names.index(name)
            return lambda values, batch: np.ascontiguousarray(batch.block[:, place])
        return lambda values, batch: batch.number(name)

    def _compare(self, part: Compare) -> _Step:
        match part.left, part.right:
            case (Column(name, "text"), Text(text)) | (Text(text), Column(name, "text")):
                return self._text_among(name, (text,), negated=part.operator == "!=")
            case Column(_, "text"), _:
                return self._same_text(part)
        one, other, holds = self._slot(part.left), self._slot(part.right), _COMPARE[part.operator]
        if part.operator != "!=":
            return lambda values, batch: holds(values[one], values[other])
        return lambda values, batch: _unequal(values[one], values[other])

    def _same_text(self, part: Compare) -> _Step:
        one, other = self._slot(part.left), self._slot(part.right)
        holds = pc.equal if part.operator == "==" else pc.not_equal
        return lambda values, batch: np.asarray(
            holds(values[one], values[other]).fill_null(False).to_numpy(zero_copy_only=False)
        )

    def _text_among(self, name: str, texts: Iterable[Anything], negated: bool) -> _Step:
        known, codes = self._texts[name], self._codes_of(name)
        members = known.members(texts)
        among = np.flatnonzero(members)
        if negated:
            members = ~members
            members[ABSENT] = False
        elif len(among) == 1:
            code = int(among[0])
            return lambda values, batch: values[codes] == code
        return lambda values, batch: members[values[codes]]

    def _among_many(self, column: Column, known: TextIndex) -> _Step:
        at, key = self._slot(column), ("hashes", column.name, known.hash)
        # All lists of a rules file have one hash.
        if key not in self._slots:
            self._slots[key] = len(self._steps)
            self._steps.append(lambda values, batch: _hashes(values[at], known.hash))
        hashes = self._slots[key]
        return lambda values, batch: known.contains(values[at], values[hashes])

    def _not_among(self, column: Column, positive: Condition) -> _Step:
        at, among = self._slot(column), self._slot(positive)
        return lambda values, batch: (
            ~values[among] & values[at].is_valid().to_numpy(zero_copy_only=False)
        )

    def _listed(self, part: Listed) -> _Step:
        at = self._slot(part.column)
        if part.negated:
            return self._not_among(part.column, replace(part, negated=False))
        listed = self._look_up(part)
        # This step comes next.
        self._listed_at[listing_of(part)] = len(self._steps)
        return lambda values, batch: listed.of(values[at], batch.times())

    def _sampled(self, column: Column, name: str, percent: float) -> _Step:
        at, hashing = self._slot(column), IdHash(_sampling_key(name))
        below = np.uint64(int(Fraction(percent) / 100 * 2**64))

        def sampled(values: list[Anything], batch: _Batch) -> Anything:
            texts = values[at]
            chosen = hashing.of(texts) < below
            if texts.null_count:
                chosen &= texts.is_valid().to_numpy(zero_copy_only=False)
            return chosen

        return sampled

    def _codes_of(self, name: str) -> int:
        """Return the slot of the codes of a column's texts."""
        key = ("codes", name)
        if key not in self._slots:
            column, known = self._slot(Column(name, "text")), self._texts[name]
            self._slots[key] = len(self._steps)
            self._steps.append(lambda values, batch: known.of(values[column]))
        return self._slots[key]

    def _missing(self, operand: Value, negated: bool) -> _Step:
        at = self._slot(operand)
        if isinstance(operand, Column) and operand.kind == "text":
            return lambda values, batch: np.asarray(
                (values[at].is_valid() if negated else values[at].is_null()).to_numpy(
                    zero_copy_only=False
                )
            )
        return lambda values, batch: np.isnan(values[at]) != negated

    def _joined(self, join: np.ufunc, parts: tuple[Condition, ...]) -> _Step:
        first, *others = [self._slot(part) for part in parts]

        def joined(values: list[Anything], batch: _Batch) -> Anything:
            together = values[first]
            for slot in others:
                together = join(together, values[slot])
            return together

        return joined


def _live_list(rules: RuleSet, part: Listed) -> LiveList:
    assert rules.lists is not None, "a condition is refused without its lists"
    return LiveList(rules.lists, part.name)


def _text_codes(conditions: Iterable[Condition]) -> dict[str, TextCodes]:
    """Return the codes per column of all texts in conditions."""
    texts: dict[str, dict[str, None]] = {}
    for condition in conditions:
        for part in _comparisons_of(condition):
            match part:
                case Compare(_, Column(name, "text"), Text(text)) | Compare(
                    _, Text(text), Column(name, "text")
                ):
                    texts.setdefault(name, {})[text] = None
                case Among(Column(name, "text"), tuple() as values):
                    texts.setdefault(name, {}).update(dict.fromkeys(map(str, values)))
    return {name: TextCodes(distinct) for name, distinct in texts.items()}


def _comparisons_of(condition: Condition) -> Iterable[Condition]:
    match condition:
        case All(parts) | Any(parts):
            for part in parts:
                yield from _comparisons_of(part)
        case Not(inner):
            yield from _comparisons_of(inner)
        case _:
            yield condition


def _sampling_key(name: str) -> bytes:
    """Return the key by which a share of accounts is chosen; it must never change."""
    return blake2b(name.encode(), digest_size=16, person=b"rollout").digest()


def _quotient(one: Anything, other: Anything) -> Anything:
    # A division by zero is missing, not infinite.
    return np.divide(one, np.where(np.equal(other, 0), np.nan, other))


def _unequal(one: Anything, other: Anything) -> Anything:
    # The only comparison that is true for NaN, a missing number.
    return np.not_equal(one, other) & np.equal(one, one) & np.equal(other, other)


def _among(values: Anything, members: npt.NDArray[np.float64], negated: bool) -> Anything:
    if len(members) > _ONE_BY_ONE and isinstance(values, np.ndarray):
        # Arrow distinguishes -0 and 0; adding 0 unifies them.
        matches = pc.is_in(pa.array(values + 0.0), value_set=pa.array(members + 0.0))
        holds = np.asarray(matches.to_numpy(zero_copy_only=False))
    else:
        holds = np.equal(values, members[0])
        for number in members[1:]:
            holds = holds | np.equal(values, number)
    return _not_nan(holds, values, negated)


def _hashes(column: pa.StringArray, hash: IdHash) -> Hashes:
    if len(column) > _FEW_ROWS:
        return hash.of(column)
    words = hash.of_few([text or "" for text in column.to_pylist()])
    return np.array([first for first, _ in words], dtype=np.uint64)


def _not_nan(holds: Anything, values: Anything, negated: bool) -> Anything:
    """Return a result about numbers, or with `negated` its opposite where they are present."""
    return ~holds & np.equal(values, values) if negated else holds
