"""Scores to decisions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.models.manifest import Thresholds
from beam_fraud.stages import SCORED

APPROVE, REVIEW, DECLINE = "approve", "review", "decline"


def decide(
    transactions: pa.RecordBatch,
    scores: npt.NDArray[np.float64],
    thresholds: Thresholds,
    model_id: str,
) -> pa.RecordBatch:
    """Make scored rows of transactions.

    Args:
      transactions: n rows of `Schema.transactions`.
      scores: float64[n] in 0..1.
      thresholds: the scores from which a transaction is reviewed or declined.
      model_id: the model that gave the scores.

    Returns:
      n rows of `stages.SCORED` in the same order, with the metadata of the transactions.
    """
    rows = len(transactions)
    codes = (scores >= thresholds.review).astype(np.int8)
    if thresholds.decline is not None:
        codes[scores >= thresholds.decline] = 2
    decisions = pa.DictionaryArray.from_arrays(codes, pa.array([APPROVE, REVIEW, DECLINE]))
    columns = {
        **{name: transactions.column(name) for name in SCORED.names[:5]},
        "score": pa.array(scores),
        "flagged": pa.array(codes > 0),
        "decision": decisions.cast(pa.string()),
        "rules": pa.array([[]], SCORED.field("rules").type).take(pa.array(np.zeros(rows, int))),
        "reasons": pa.nulls(rows, SCORED.field("reasons").type),
        "model_id": pa.repeat(model_id, rows),
    }
    schema = SCORED.with_metadata(transactions.schema.metadata)
    return pa.RecordBatch.from_arrays([columns[name] for name in SCORED.names], schema=schema)
