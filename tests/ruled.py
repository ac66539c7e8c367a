"""Decided rows for which rules fired, as input of rule counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_fraud.decisions.decision import decide
from beam_fraud.decisions.rules.condition import Always
from beam_fraud.decisions.rules.rule import Fired, Rule, RuleSet
from beam_fraud.features.matrix import append_block
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import SCORED
from beam_fraud.sources.raw import Origin, with_origin

#: By falling priority, as a file of rules gives them.
RULES = RuleSet(
    (
        Rule("vip", Always(True), "approve", 5),
        Rule("wide", Always(True), "decline"),
        Rule("narrow", Always(True), "review"),
    )
)
THRESHOLDS = Thresholds(0.5, 0.9)


def decided(
    times: Sequence[int],
    holds: Sequence[Sequence[bool]],
    scores: Sequence[float] | None = None,
    *,
    ids: Sequence[str] | None = None,
    source: str = "t:0",
) -> pa.RecordBatch:
    """Rows of `SCORED` and their features, the origin in the metadata.

    Args:
      times: event times, microseconds.
      holds: of each row, which of `RULES` fired.
      scores: of the model; zeros if None.
      ids: of the transactions; numbered if None.
      source: the origin.
    """
    rows = len(times)
    columns = [
        pa.array([str(number) for number in range(rows)] if ids is None else ids, pa.string()),
        pa.array(times, pa.int64()).cast(EVENT_TIME),
        pa.nulls(rows, pa.string()),
        pa.nulls(rows, pa.string()),
        pa.array(np.ones(rows)),
    ]
    described = pa.schema([SCORED.field(name) for name in SCORED.names[:5]])
    transactions = pa.RecordBatch.from_arrays(
        columns, schema=with_origin(described, Origin(source, "jsonl"))
    )
    fired = Fired(RULES.rules, np.array(holds, dtype=bool).reshape(rows, len(RULES.rules)).T)
    value = np.zeros(rows) if scores is None else np.array(scores, dtype=np.float64)
    scored = decide(transactions, value, THRESHOLDS, "m@1", fired)
    return append_block(scored, np.arange(2.0 * rows).reshape(rows, 2))
