"""Scores and rules to decisions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.rules.rule import Fired, Rule
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.stages import SCORED

APPROVE, REVIEW, DECLINE = "approve", "review", "decline"
_DECISIONS = pa.array([APPROVE, REVIEW, DECLINE])
#: int8: places in it, the more severe the higher.
_Codes = npt.NDArray[np.int8]
_CODE = {APPROVE: 0, REVIEW: 1, DECLINE: 2}
_LOWEST = np.iinfo(np.int64).min


def decide(
    transactions: pa.RecordBatch,
    scores: npt.NDArray[np.float64],
    thresholds: Thresholds,
    model_id: str,
    fired: Fired | None = None,
) -> pa.RecordBatch:
    """Make scored rows of transactions.

    Args:
      transactions: n rows of `Schema.transactions`.
      scores: float64[n] in 0..1.
      thresholds: the scores from which a transaction is reviewed or declined.
      model_id: the model that gave the scores.
      fired: the rules that hold, which raise a decision or let pass; None if there are no rules.

    Returns:
      n rows of `stages.SCORED` in the same order, with the metadata of the transactions.
    """
    rows = len(transactions)
    columns = {
        **{name: transactions.column(name) for name in SCORED.names[:5]},
        "score": pa.array(scores),
        "reasons": pa.nulls(rows, SCORED.field("reasons").type),
        "model_id": pa.repeat(model_id, rows),
        **decided_columns(scores, thresholds, fired),
    }
    schema = SCORED.with_metadata(transactions.schema.metadata)
    return pa.RecordBatch.from_arrays([columns[name] for name in SCORED.names], schema=schema)


def decided_columns(
    scores: npt.NDArray[np.float64], thresholds: Thresholds, fired: Fired | None
) -> dict[str, pa.Array]:
    """Return what follows from scores, thresholds and rules: `flagged`, `decision` and `rules`.

    The model decides first. A rule that holds raises that to its own decision, never lowers it. A
    rule that lets pass takes back the model's decision and that of all rules of lower priority;
    rules of its own priority or a higher one still raise.

    Args:
      scores: float64[n].
      thresholds: the scores from which a transaction is reviewed or declined.
      fired: the rules that hold.
    """
    codes = (scores >= thresholds.review).astype(np.int8)
    if thresholds.decline is not None:
        codes[scores >= thresholds.decline] = _CODE[DECLINE]
    if fired is not None:
        codes = _with_rules(codes, fired)
    return {
        "flagged": pa.array(codes > 0),
        "decision": pa.DictionaryArray.from_arrays(codes, _DECISIONS).cast(pa.string()),
        "rules": _names_of_rules(len(scores), fired),
    }


def _with_rules(codes: _Codes, fired: Fired) -> _Codes:
    firing = [pair for pair in zip(fired.rules, fired.places, strict=True) if len(pair[1])]
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
    """Of the rules that hold for each row, int64[rows]; None if none does for any."""
    if not firing:
        return None
    highest = np.full(rows, _LOWEST, dtype=np.int64)
    # Rules come by falling priority, so that the highest is written last.
    for rule, places in reversed(firing):
        highest[places] = rule.priority
    return highest


def _names_of_rules(rows: int, fired: Fired | None) -> pa.ListArray:
    """Return the names of the rules that hold for each row, in the order of the rules."""
    offsets = np.zeros(rows + 1, dtype=np.int32)
    names = pa.array([], pa.string())
    if fired is not None and any(fired.counts):
        row = np.concatenate(fired.places)
        rule = np.repeat(np.arange(len(fired.rules)), fired.counts)
        # Stable: the rules of a row stay in their order.
        rule = rule[np.argsort(row, kind="stable")]
        offsets[1:] = np.cumsum(np.bincount(row, minlength=rows))
        names = pa.array([rule.name for rule in fired.rules]).take(pa.array(rule))
    return pa.ListArray.from_arrays(pa.array(offsets), names, type=SCORED.field("rules").type)
