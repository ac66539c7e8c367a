"""The shares of rows that rules fire on, in the state of a server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.decisions.rules.rule import Fired, RuleSet
from beam_fraud.models.manifest import Thresholds
from beam_fraud.state.local_shards import LocalShards
from beam_fraud.state.rule_share import MutedRule, RuleShareShard
from beam_fraud.state.shard import Effects
from beam_fraud.storage.journal import JournaledCheckpoint

#: Step of the state.
_STEP = "rules"


class RuleShares:
    """Mutes rules in force that fire on too many rows (`RuleShareShard`).

    The counts are by the names of rules, and stay where other rules come into force.

    Args:
      checkpoint: the state.
      limit: share of an hour's rows from which a rule is muted; 1 mutes none.
      remembered: microseconds for which hours are kept.
    """

    def __init__(self, checkpoint: JournaledCheckpoint, limit: float, remembered: int) -> None:
        self._checkpoint = checkpoint
        self._limit = limit
        self._remembered = remembered
        #: None where no rule can be muted.
        self._shards: LocalShards | None = None
        self._decided_by: tuple[RuleSet, Thresholds] | None = None

    def decide_by(self, thresholds: Thresholds, rules: RuleSet | None) -> None:
        """Count other rules from the next rows on.

        Args:
          thresholds: of the model, to decide again.
          rules: the rules, or None.

        Raises:
          FraudError: the counts cannot be read; nothing has changed.
        """
        if rules is None or not rules.raising or self._limit >= 1:
            self._shards = self._decided_by = None
            return
        if self._shards is not None:
            shard = self._shard(self._shards)
            self._decided_by = rules, thresholds
            shard.decide_by(rules, thresholds)
            return
        self._decided_by = rules, thresholds
        shards = LocalShards(self._make, _STEP, self._checkpoint)
        shards.shard(0)
        self._checkpoint.open[_STEP, 0] = partial(shards.shard, 0)
        self._shards = shards

    def _make(self, number: int) -> RuleShareShard:
        """Return a new shard by the rules in force, also where one is restored after a failure."""
        assert self._decided_by is not None
        return RuleShareShard(number, *self._decided_by, self._limit, self._remembered)

    @staticmethod
    def _shard(shards: LocalShards) -> RuleShareShard:
        shard = shards.shard(0)
        assert isinstance(shard, RuleShareShard)
        return shard

    def limited(self, decided: pa.RecordBatch) -> pa.RecordBatch:
        """Count decided rows; decide those of muted rules again."""
        if self._shards is None or not len(decided):
            return decided
        (rows,) = self._shards.take(0, decided)
        return rows

    def mute(
        self, times: Sequence[int], fired: Fired
    ) -> tuple[npt.NDArray[np.bool_] | None, list[MutedRule]]:
        """Count n rows, as `limited` does.

        Args:
          times: event times, microseconds.
          fired: the rules that hold.

        Returns:
          bool[rules, n]: for which rows each rule is muted, None if for none; and the newly muted
          rules.
        """
        if self._shards is None:
            return None, []
        shard = self._shard(self._shards)
        if len(times) == 1:
            of_rules, muted, delta = shard.count_one(times[0], fired.holds[:, 0].tolist())
            silenced = np.array(of_rules)[:, None] if any(of_rules) else None
        else:
            of_rows, muted, delta = shard.count(np.array(times, dtype=np.int64), fired.holds)
            silenced = of_rows if of_rows.any() else None
        self._shards.keep(0, Effects(deltas=[delta]))
        return silenced, muted
