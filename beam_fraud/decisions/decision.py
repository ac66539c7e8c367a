"""Decide on transactions by scores and rules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.rules.rule import Fired, Rule
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.stages import SCORED

APPROVE, REVIEW, DECLINE = "approve", "review", "decline"
#: Decisions by their codes: higher is more severe.
DECISIONS = (APPROVE, REVIEW, DECLINE)
_NAMED = pa.array(DECISIONS)
_RULES = SCORED.field("rules").type
#: int8: ranks of decisions, higher is more severe.
Codes = npt.NDArray[np.int8]
_CODE = {decision: code for code, decision in enumerate(DECISIONS)}
_NAMES, _REASONS = SCORED.names, SCORED.field("reasons").type
#: Columns of the transactions.
_OWN = _NAMES[:5]
_LOWEST = np.iinfo(np.int64).min


def decide(
    transactions: pa.RecordBatch,
    scores: npt.NDArray[np.float64],
    thresholds: Thresholds,
    model_id: str,
    fired: Fired | None = None,
) -> pa.RecordBatch:
    """Return the scored rows of transactions.

    Args:
      transactions: n rows of `Schema.transactions`.
      scores: float64[n] in 0..1.
      thresholds: the scores from which a transaction is reviewed or declined.
      model_id: id of the model.
      fired: the rules that hold; None without rules.

    Returns:
      n rows of `stages.SCORED` in the same order, with the metadata of the transactions.
    """
    rows = len(transactions)
    columns = {
        **{name: transactions.column(name) for name in _OWN},
        "score": pa.array(scores),
        **_same(rows, model_id, None if fired is None else fired.rules_id),
        **decided_columns(scores, thresholds, fired),
        "shadow_rules": names_of_rules(rows, fired, shadow=True),
    }
    metadata = transactions.schema.metadata
    schema = SCORED if metadata is None else SCORED.with_metadata(metadata)
    return pa.RecordBatch.from_arrays([columns[name] for name in _NAMES], schema=schema)


@lru_cache(maxsize=4)
def _same(rows: int, model_id: str, rules_id: str | None) -> dict[str, pa.Array]:
    """Return the columns that only depend on the number of rows."""
    return {
        "reasons": pa.nulls(rows, _REASONS),
        "model_id": pa.repeat(model_id, rows),
        "rules_id": pa.repeat(pa.scalar(rules_id, pa.string()), rows),
    }


def decided_columns(
    scores: npt.NDArray[np.float64], thresholds: Thresholds, fired: Fired | None
) -> dict[str, pa.Array]:
    """Return the columns `flagged`, `decision` and `rules`; rules in shadow have no effect.

    The model decides first. A rule that holds raises the decision to its own, and never lowers it.
    A rule that approves cancels the model's decision and those of rules of lower priority; rules of
    equal or higher priority still raise.

    Args:
      scores: float64[n].
      thresholds: the scores from which a transaction is reviewed or declined.
      fired: the rules that hold.
    """
    return columns_of_codes(decision_codes(scores, thresholds, fired), fired)


def columns_of_codes(codes: Codes, fired: Fired | None) -> dict[str, pa.Array]:
    """Return the columns of `decided_columns` by `decision_codes`."""
    return {
        "flagged": pa.array(codes > 0),
        "decision": _NAMED.take(pa.array(codes)),
        "rules": names_of_rules(len(codes), fired, shadow=False),
    }


class DecidedRow(NamedTuple):
    """The decision on a row."""

    decision: str
    #: Names of the rules that hold.
    rules: list[str]
    #: Names of those in shadow.
    shadow_rules: list[str]


def decided_rows(
    scores: npt.NDArray[np.float64], thresholds: Thresholds, fired: Fired | None
) -> list[DecidedRow]:
    """Return the decisions on few rows, those of `decided_columns`."""
    if fired is None or not fired.any:
        return [DecidedRow(_by_score(score, thresholds), [], []) for score in scores.tolist()]
    codes = decision_codes(scores, thresholds, fired).tolist()
    decided = [DecidedRow(DECISIONS[code], [], []) for code in codes]
    for rule, places in zip(fired.rules, fired.places, strict=True):
        for place in places.tolist():
            row = decided[place]
            (row.shadow_rules if rule.shadow else row.rules).append(rule.name)
    return decided


def _by_score(score: float, thresholds: Thresholds) -> str:
    if thresholds.decline is not None and score >= thresholds.decline:
        return DECLINE
    return REVIEW if score >= thresholds.review else APPROVE


def decision_codes(
    scores: npt.NDArray[np.float64], thresholds: Thresholds, fired: Fired | None
) -> Codes:
    """Return the decisions of `decided_columns` as places in `DECISIONS`, int8[n]."""
    codes = (scores >= thresholds.review).astype(np.int8)
    if thresholds.decline is not None:
        codes[scores >= thresholds.decline] = _CODE[DECLINE]
    return codes if fired is None or not fired.any else _with_rules(codes, fired)


def _with_rules(codes: Codes, fired: Fired) -> Codes:
    firing = [
        (rule, rows)
        for rule, rows in zip(fired.rules, fired.places, strict=True)
        if len(rows) and not rule.shadow
    ]
    passing = _highest_priority([pair for pair in firing if not pair[0].raises], len(codes))
    if passing is not None:
        codes[passing > _LOWEST] = 0
    for rule, rows in firing:
        if rule.raises:
            standing = rows if passing is None else rows[rule.priority >= passing[rows]]
            codes[standing] = np.maximum(codes[standing], _CODE[rule.decision])
    return codes


def _highest_priority(
    firing: Sequence[tuple[Rule, npt.NDArray[np.int64]]], rows: int
) -> npt.NDArray[np.int64] | None:
    """Return the highest priority of each row's firing rules, int64[rows]; None without any."""
    if not firing:
        return None
    highest = np.full(rows, _LOWEST, dtype=np.int64)
    # Rules are sorted by decreasing priority, so write them in reverse: the highest last.
    for rule, places in reversed(firing):
        highest[places] = rule.priority
    return highest


def names_of_rules(rows: int, fired: Fired | None, *, shadow: bool) -> pa.ListArray:
    """Return the names of the rules that hold for each row, in the order of the rules.

    Args:
      rows: number of rows.
      fired: the rules that hold.
      shadow: whether of the rules in shadow, or of the others.
    """
    firing = (
        [
            (rule.name, places)
            for rule, places in zip(fired.rules, fired.places, strict=True)
            if len(places) and rule.shadow == shadow
        ]
        if fired is not None
        else []
    )
    if not firing:
        return _no_rules(rows)
    offsets = np.zeros(rows + 1, dtype=np.int32)
    row = np.concatenate([places for _, places in firing])
    rule = np.repeat(np.arange(len(firing)), [len(places) for _, places in firing])
    # A stable sort keeps the order of a row's rules.
    rule = rule[np.argsort(row, kind="stable")]
    offsets[1:] = np.cumsum(np.bincount(row, minlength=rows))
    names = pa.array([name for name, _ in firing]).take(pa.array(rule))
    return pa.ListArray.from_arrays(pa.array(offsets), names, type=_RULES)


@lru_cache(maxsize=4)
def _no_rules(rows: int) -> pa.ListArray:
    offsets = pa.array(np.zeros(rows + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array([], pa.string()), type=_RULES)
