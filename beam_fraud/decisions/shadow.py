"""Score transactions by challengers beside the champion, which decides alone.

Whatever a challenger does, the champion's rows are not touched: one that fails, or costs too much,
is dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.decider import Decider, OpenDecider
from beam_fraud.decisions.decision import Codes, columns_of_codes, decision_codes
from beam_fraud.errors import FraudError
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.model_group import ModelGroup, of_one_block
from beam_fraud.models.predict import noting_libraries, use_one_thread
from beam_fraud.monitoring.shadow import Dropped, ShadowFigures
from beam_fraud.schema.stages import SHADOWED

_LOG = logging.getLogger(__name__)
Block = npt.NDArray[np.float64]

#: A challenger's cost is judged over this many rows, of this many blocks at least.
_WINDOW_ROWS = 10_000
_WINDOW_BLOCKS = 3
#: Fewer rows count as so many, because a call costs as much.
_FEWEST_ROWS = 100
#: Columns of the transactions.
_OWN = SHADOWED.names[:3]


@dataclass(frozen=True)
class Challenger:
    """A model or a rule set in shadow."""

    #: Its id in a registry, or its path.
    name: str
    #: Id of the model or the rule set.
    key: str
    #: The model beside the champion's rules, or the rules beside the champion's model.
    decider: Decider
    #: Whether the rules challenge.
    of_rules: bool = False


@dataclass(frozen=True)
class Shadowed:
    """The results of challengers for a block of n transactions."""

    #: n rows of `stages.SHADOWED` for each challenger, one challenger after the other.
    rows: pa.RecordBatch
    #: Figures of the block by challenger.
    figures: dict[str, ShadowFigures] = field(default_factory=dict)
    #: Challengers that were dropped with this block.
    dropped: dict[str, Dropped] = field(default_factory=dict)


@dataclass
class _Contender:
    """A challenger at work."""

    challenger: Challenger
    #: Its rules, opened.
    opened: OpenDecider
    #: Rows, blocks and seconds since the cost was judged last.
    rows: int = 0
    blocks: int = 0
    seconds: float = 0.0

    def cost(self, rows: int, seconds: float) -> float | None:
        """Add a block; return the microseconds per row of a whole window, then begin the next."""
        self.rows += max(rows, _FEWEST_ROWS)
        self.blocks += 1
        self.seconds += seconds
        if self.rows < _WINDOW_ROWS or self.blocks < _WINDOW_BLOCKS:
            return None
        cost = self.seconds / self.rows * 1e6
        self.rows, self.blocks, self.seconds = 0, 0, 0.0
        return cost


@dataclass(frozen=True)
class _Models:
    """Contenders whose models take the same block."""

    group: ModelGroup
    contenders: tuple[_Contender, ...]


class Shadows:
    """The challengers of a process; threads may call `score` at once.

    Args:
      champion: what decides.
      challengers: what scores beside it.
      limit: microseconds per row of a challenger that is dropped; None for no limit.
      clock: current time, seconds of the epoch.
    """

    def __init__(
        self,
        champion: Decider,
        challengers: Sequence[Challenger],
        limit: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._champion = champion
        self._limit, self._clock = limit, clock
        self._lock = threading.Lock()
        #: Challengers that could not be loaded, until a block reports them.
        self._unloaded: dict[str, Dropped] = {}
        contenders = [one for one in map(self._contender, challengers) if one is not None]
        # Other threads have nothing to set again, unless a library came.
        with noting_libraries():
            self._load(contenders)

    def score(
        self, transactions: pa.RecordBatch, block: Block, scores: Block, decided: Codes
    ) -> Shadowed:
        """Score n transactions by every challenger.

        Args:
          transactions: rows as `Schema.transactions` describes them, with velocity features.
          block: float64[n, features], the champion's input.
          scores: float64[n], the champion's scores.
          decided: int8[n], the champion's decisions (`decision.decision_codes`).
        """
        use_one_thread()
        with self._lock:
            models, rule_sets = self._models, self._rule_sets
            dropped, self._unloaded = self._unloaded, {}
        parts = list[dict[str, pa.Array]]()
        figures = dict[str, ShadowFigures]()

        def take(contender: _Contender, block: Block, scores: Block, shared: float) -> None:
            start = time.thread_time()
            challenger = contender.challenger
            try:
                columns, codes = _decided(contender, transactions, block, scores)
            except Exception as error:
                dropped[challenger.key] = self._failed(challenger, error)
                return
            seconds = shared + time.thread_time() - start
            parts.append(columns)
            figures[challenger.key] = _figures(codes, decided, seconds)
            late = self._too_slow(contender, len(codes), seconds)
            if late is not None:
                dropped[challenger.key] = late

        for same in models:
            start = time.thread_time()
            own = block
            features = same.contenders[0].challenger.decider.features
            if not self._champion.features.same_block(features):
                try:
                    own = feature_matrix(transactions, features)
                except Exception as error:
                    for contender in same.contenders:
                        key = contender.challenger.key
                        dropped[key] = self._failed(contender.challenger, error)
                    continue
            shared = (time.thread_time() - start) / len(same.contenders)
            for contender, predicted, seconds in self._predicted(same, own, dropped):
                take(contender, own, predicted, shared + seconds)
        for contender in rule_sets:
            take(contender, block, scores, 0.0)
        if dropped:
            self.leave_out(dropped)
        return Shadowed(_rows(transactions, parts), figures, dropped)

    def leave_out(self, dropped: Collection[str]) -> None:
        """Go on without some challengers, by their ids."""
        with self._lock:
            known = [one for same in self._models for one in same.contenders]
            staying = [
                one for one in (*known, *self._rule_sets) if one.challenger.key not in dropped
            ]
            if len(staying) < len(known) + len(self._rule_sets):
                self._load(staying)

    def _predicted(
        self, same: _Models, block: Block, dropped: dict[str, Dropped]
    ) -> list[tuple[_Contender, Block, float]]:
        """Return the scores of contenders, and the seconds of each."""
        joined = same.group.joined
        if joined is not None:
            start = time.thread_time()
            try:
                predicted = joined(block)
            except Exception:
                _LOG.debug("a joint prediction failed; predicting one by one", exc_info=True)
            else:
                seconds = time.thread_time() - start
                shares = [seconds * share for share in joined.shares]
                return list(zip(same.contenders, predicted, shares, strict=True))
        results = []
        for contender, predictor in zip(same.contenders, same.group.predictors, strict=True):
            start = time.thread_time()
            try:
                # A foreign model may change its input, which explains the champion's scores.
                scores = _checked(predictor(block.copy()), len(block))
            except Exception as error:
                dropped[contender.challenger.key] = self._failed(contender.challenger, error)
            else:
                results.append((contender, scores, time.thread_time() - start))
        return results

    def _contender(self, challenger: Challenger) -> _Contender | None:
        opened = OpenDecider(challenger.decider, reasons=0)
        try:
            _ = opened.program
        except Exception as error:
            self._unloaded[challenger.key] = self._failed(challenger, error)
            return None
        return _Contender(challenger, opened)

    def _load(self, contenders: Sequence[_Contender]) -> None:
        """Load the models of contenders; note those that fail."""
        rule_sets = [one for one in contenders if one.challenger.of_rules]
        others = [one for one in contenders if not one.challenger.of_rules]
        models = []
        for same in of_one_block(others, lambda one: one.challenger.decider.features):
            try:
                models.append(_group(same))
            except Exception:
                models += self._one_by_one(same)
        self._models, self._rule_sets = tuple(models), tuple(rule_sets)

    def _one_by_one(self, same: Sequence[_Contender]) -> list[_Models]:
        models = []
        for contender in same:
            try:
                models.append(_group([contender]))
            except Exception as error:
                challenger = contender.challenger
                self._unloaded[challenger.key] = self._failed(challenger, error)
        return models

    def _failed(self, challenger: Challenger, error: Exception) -> Dropped:
        if isinstance(error, FraudError):
            reason = f"cannot be used: {error}"
        else:
            # The message of a foreign exception may have values of a transaction.
            reason = f"failed with {type(error).__name__}"
        _LOG.debug("%s failed", challenger.key, exc_info=error)
        return Dropped(self._clock(), reason)

    def _too_slow(self, contender: _Contender, rows: int, seconds: float) -> Dropped | None:
        with self._lock:
            cost = contender.cost(rows, seconds)
        if cost is None or self._limit is None or cost <= self._limit:
            return None
        reason = f"took {cost:.3g} microseconds a row, more than {self._limit:g}"
        return Dropped(self._clock(), reason)


def _group(same: Sequence[_Contender]) -> _Models:
    return _Models(ModelGroup.of([one.challenger.decider.bundle for one in same]), tuple(same))


def _checked(scores: Block, rows: int) -> Block:
    if scores.shape != (rows,):
        raise ValueError(f"scores of the shape {scores.shape}")
    return scores


def _decided(
    contender: _Contender, transactions: pa.RecordBatch, block: Block, scores: Block
) -> tuple[dict[str, pa.Array], Codes]:
    """Return the columns of a challenger's rows, and its decisions."""
    bundle = contender.challenger.decider.bundle
    fired = contender.opened.fired(transactions, block, scores)
    codes = decision_codes(scores, bundle.thresholds, fired)
    rows = len(codes)
    rules_id = None if fired is None else fired.rules_id
    columns = {
        "model_id": pa.repeat(bundle.model_id, rows),
        "rules_id": pa.repeat(pa.scalar(rules_id, pa.string()), rows),
        "score": pa.array(scores),
        **columns_of_codes(codes, fired),
    }
    return columns, codes


def _figures(codes: Codes, decided: Codes, seconds: float) -> ShadowFigures:
    flagged, champion = codes > 0, decided > 0
    return ShadowFigures(
        rows=len(codes),
        agreed=int(np.count_nonzero(codes == decided)),
        either=int(np.count_nonzero(flagged | champion)),
        both=int(np.count_nonzero(flagged & champion)),
        nanoseconds=round(seconds * 1e9),
    )


def _rows(transactions: pa.RecordBatch, parts: Sequence[dict[str, pa.Array]]) -> pa.RecordBatch:
    """Join the columns of all challengers with those of the transactions."""
    if not parts:
        return pa.RecordBatch.from_pylist([], schema=SHADOWED)
    columns = [
        pa.concat_arrays(
            [transactions.column(name)] * len(parts)
            if name in _OWN
            else [part[name] for part in parts]
        )
        for name in SHADOWED.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SHADOWED)
