"""The rehearsal of a scorer: an example, scored before requests as columns and as values."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from beam_fraud.decisions.decision import DecidedRow
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.matrix import Values
from beam_fraud.models.predict import use_one_thread
from beam_fraud.pipeline.frames.scoring import Scorer
from beam_fraud.records.plain_records import PlainRecords
from beam_fraud.schema.schema import Labels
from beam_fraud.serve.few_records import FEW
from beam_fraud.sources.raw import Origin


def rehearse(
    scorer: Scorer,
    transactions: pa.RecordBatch,
    values: Values | None,
    computed: Mapping[str, float],
) -> None:
    """Score and explain n rows of one record, each with other windows, the last one with none.

    What is made at first use is made then, and costs no request.

    Args:
      scorer: model, rules and reasons.
      transactions: n > 0 rows of `Schema.transactions`, all of the record.
      values: the record as values; None if it has no such form.
      computed: velocity features of it.

    Raises:
      FraudError: a row by itself gets another result than in a block.
    """
    use_one_thread()
    rows = len(transactions)
    velocity = [n for spec in scorer.features.velocity for n in spec.names]
    factors = np.append(np.linspace(0.0, 4.0, rows - 1), np.nan)
    windows = {name: computed.get(name, np.nan) * factors for name in velocity}
    transactions = transactions.replace_schema_metadata(None)
    decided, block = scorer.decide(transactions, windows)
    every = pa.array([True] * rows)
    place = decided.schema.get_field_index("flagged")
    flagged = decided.set_column(place, decided.schema.field(place), every)
    scorer.explain(flagged, block)
    if values is None:
        return
    of_rows = [{name: float(windows[name][row]) for name in velocity} for row in range(rows)]
    scored = scorer.score_rows([values] * rows, of_rows)
    scorer.explain_rows(scored.block)
    columns = [decided.column(name).to_pylist() for name in DecidedRow._fields]
    if np.asarray(decided.column("score")).tobytes() != scored.scores.tobytes() or [
        DecidedRow(*one) for one in zip(*columns, strict=True)
    ] != scorer.decide_rows(scored):
        raise FraudError(
            f"{scorer.model_id}: a row by itself gets another score or decision than in a block; "
            "report it with the bundle",
            Code.MODEL_UNSUITED,
        )


def rehearse_plain(
    scorer: Scorer, labels: Labels, record: bytes, computed: Mapping[str, float]
) -> bool:
    """Rehearse a record without an engine; return whether it is plain, or else nothing is done.

    Args:
      scorer: model, rules and reasons.
      labels: treatment of labels.
      record: a JSON object.
      computed: velocity features of it.

    Raises:
      FraudError: as for `rehearse`.
    """
    plain = PlainRecords.of(scorer.features.schema, labels, Origin("rehearsal", "jsonl"))
    if plain is None:
        return False
    latest = time.time_ns() // 1_000
    transactions, values = plain.read([record] * FEW, 0, latest), plain.values(record, latest)
    if transactions is None or values is None:
        return False
    rehearse(scorer, transactions, values, computed)
    return True
