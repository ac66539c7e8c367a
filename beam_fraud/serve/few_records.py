"""Answer a few plain records as values.

Columns of few rows cost more than all that is computed from them: each of some eighty calls of
Arrow takes microseconds, whether for one row or for a thousand. The results are those of the
columns, in every bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_fraud.decisions.decision import APPROVE
from beam_fraud.features.matrix import Values
from beam_fraud.models.predict import use_one_thread
from beam_fraud.monitoring.counters import (
    ROWS_FLAGGED,
    ROWS_IN,
    ROWS_SCORED,
    RULES_MUTED,
    Count,
)
from beam_fraud.pipeline.frames.scoring import ScoredRows, Scorer
from beam_fraud.records.plain_records import PlainRecords
from beam_fraud.serve.answered_rows import ANSWERED, AnsweredRows, Block
from beam_fraud.serve.input_rows import InputRows
from beam_fraud.serve.state import LINKED, ServerState
from beam_fraud.state.rule_share import MutedRule

#: Records up to which values are faster than columns.
FEW = 40
#: Columns of an answer that are the transaction's.
_OWN = ANSWERED.names[:5]


class Recorded(NamedTuple):
    """The answers to n records."""

    #: n rows.
    rows: AnsweredRows
    #: The model's input, float64[n, features].
    block: Block


class FewRecords:
    """Records plain records of new transactions, where the windows are `of_values`.

    Args:
      plain: reads them.
      state: the state.
      scorer: model, rules and reasons.
      count: adds to a counter.
      muted: notified of muted rules.
    """

    def __init__(
        self,
        plain: PlainRecords,
        state: ServerState,
        scorer: Scorer,
        count: Count,
        muted: Callable[[Sequence[MutedRule]], None],
    ) -> None:
        self._plain = plain
        self._state = state
        self._scorer = scorer
        self._count = count
        self._muted = muted

    def record(
        self, records: Sequence[bytes], latest: int, degraded: str | None
    ) -> Recorded | None:
        """Answer records and take them into the state, which the caller commits.

        Args:
          records: n JSON objects.
          latest: event time from which a row is too far ahead, microseconds.
          degraded: why windows cannot be used, or None.

        Returns:
          The answers; None, with no change of the state, if its windows are not `of_values`, or a
          record is not plain or no new transaction.
        """
        if not self._state.windows.of_values:
            return None
        rows: list[Values] = []
        for record in records:
            row = self._plain.values(record, latest)
            if row is None:
                return None
            rows.append(row)
        computed = self._state.windows.take_new(rows)
        if computed is None:
            return None
        self._state.numbers(len(rows))
        use_one_thread()
        if degraded is not None:
            computed = [dict.fromkeys(features, math.nan) for features in computed]
        scored = self._scorer.score_rows(rows, computed)
        if self._state.shadow is not None:
            self._state.shadow.take_values(self._scorer.pair, rows, computed, scored.scores)
        silenced = self._silenced(rows, scored)
        answered = self._answered(rows, scored, silenced, degraded)
        kept, inputs = self._scorer.kept, None
        if kept is not None:
            values = kept.of_rows(rows, computed, scored.block, scored.fired, silenced)
            inputs = InputRows(kept.kept_columns, values)
        self._state.answers.add(answered, inputs)
        return Recorded(answered, scored.block)

    def _answered(
        self,
        rows: Sequence[Values],
        scored: ScoredRows,
        silenced: npt.NDArray[np.bool_] | None,
        degraded: str | None,
    ) -> AnsweredRows:
        effective = scored
        if scored.fired is not None and silenced is not None:
            holds = scored.fired.holds & ~silenced
            effective = scored._replace(fired=replace(scored.fired, holds=holds))
        decided = self._scorer.decide_rows(effective)
        flagged = [place for place, one in enumerate(decided) if one.decision != APPROVE]
        seen, audit = flagged, self._scorer.audit
        if audit is not None:
            audited = {p for p, row in enumerate(rows) if audit.chosen_one(row["transaction_id"])}
            seen = sorted(audited.union(flagged))
        reasons: dict[int, list[dict[str, Any]]] = {}
        if seen and (explained := self._scorer.explain_rows(scored.block[seen])) is not None:
            reasons = dict(zip(seen, explained, strict=True))
        if seen and self._scorer.linked is not None:
            values = self._scorer.linked.of_rows([rows[place] for place in seen])
            self._state.take(LINKED, values)
        self._count(ROWS_IN, len(rows))
        self._count(ROWS_SCORED, len(rows))
        self._count(ROWS_FLAGGED, len(flagged))
        now, scores = time.time_ns() // 1_000, scored.scores.tolist()
        model, rules_id = self._scorer.model_id, self._scorer.rules_id
        return AnsweredRows(
            [
                [
                    *(row[name] for name in _OWN),
                    *(score, one.decision != APPROVE, one.decision, one.rules),
                    *(reasons.get(place), model, rules_id, one.shadow_rules, now, degraded),
                ]
                for place, (row, score, one) in enumerate(zip(rows, scores, decided, strict=True))
            ]
        )

    def _silenced(self, rows: Sequence[Values], scored: ScoredRows) -> npt.NDArray[np.bool_] | None:
        """Return for which rows each rule is muted, bool[rules, n]; None if for none."""
        if scored.fired is None:
            return None
        silenced, muted = self._state.rules.mute([row["event_time"] for row in rows], scored.fired)
        if muted:
            self._count(RULES_MUTED, len(muted))
            self._muted(muted)
        return silenced
