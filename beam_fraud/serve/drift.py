"""Count the answers of a server for drift."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import FraudError
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.drift import Counter, counter_of, zone_of
from beam_fraud.monitoring.drift.arrivals import Arrivals
from beam_fraud.monitoring.drift.counts import ModelCounts
from beam_fraud.operations.drift.dead_letter_days import arriving_letters
from beam_fraud.schema.schema import Schema
from beam_fraud.state.drift import DRIFT, DriftShard
from beam_fraud.state.local_shards import LocalShards
from beam_fraud.storage.journal import JournaledCheckpoint

_LOG = logging.getLogger(__name__)


class AnswerCounts(NamedTuple):
    """Counts of answers."""

    #: By model and layout.
    summaries: Sequence[ModelCounts]
    #: Arrivals up to these answers.
    arrivals: Arrivals


class DriftCounters:
    """Counts the answers of each model that answers; `count` in any thread.

    Args:
      bundle: the first of them.
      segments: columns whose values divide the rows.
      named: returns the bundle of a model that answered before a restart; None if no other did.
    """

    def __init__(
        self,
        bundle: Bundle,
        segments: Sequence[str],
        named: Callable[[str], Bundle] | None = None,
    ) -> None:
        self._segments, self._named = segments, named
        self._known: dict[str, Counter] = {}
        #: The model that answers.
        self.bundle = bundle
        #: When the counted answers arrived; changed with their commit.
        self.arrivals = Arrivals.merged([])
        self.add(bundle)

    def add(self, bundle: Bundle) -> None:
        """Count the answers of a model from now on."""
        self._known[bundle.model_id] = counter_of(bundle, self._segments)

    def count(self, rows: Sequence[pa.RecordBatch]) -> AnswerCounts:
        """Count answers that come after those of `arrivals`.

        Args:
          rows: answers, with the inputs of their decisions if they are kept.
        """
        counted, arrivals = list[ModelCounts](), self.arrivals
        for batch in rows:
            earlier = arrivals
            for model_id in pc.unique(batch.column("model_id")).to_pylist():
                counter = self._counter(model_id)
                if counter is not None:
                    own, arrivals = counter.later(batch, earlier)
                    counted += own
        return AnswerCounts(counted, arrivals)

    def _counter(self, model_id: str) -> Counter | None:
        """Return what counts the answers of a model; None if its bundle is no longer there."""
        if model_id not in self._known and self._named is not None:
            try:
                self.add(self._named(model_id))
            except FraudError as error:
                _LOG.warning("answers of %s are not counted for drift: %s", model_id, error)
        elif model_id not in self._known:
            _LOG.warning("answers of %s, another model, are not counted for drift", model_id)
        return self._known.get(model_id)


class KeptCounts:
    """The counts in the state of a server, each part of the commit of what it counts.

    Changed by the thread that works with the engine.

    Args:
      checkpoint: the state.
      counters: count the answers before they are kept.
      schema: of the records.
    """

    def __init__(
        self, checkpoint: JournaledCheckpoint, counters: DriftCounters, schema: Schema
    ) -> None:
        self._checkpoint, self._counters, self._schema = checkpoint, counters, schema
        # Answers come counted.
        self._shards = LocalShards(lambda _: DriftShard(None), DRIFT, checkpoint)
        self.discarded()
        checkpoint.open[DRIFT, 0] = lambda: self._shard

    def keep(self, counted: AnswerCounts) -> None:
        """Keep the counts of answers."""
        for one in counted.summaries:
            self._shards.keep(0, self._shard.keep(one))
        self._shards.keep(0, self._shard.keep_arrivals(counted.arrivals))
        self._counters.arrivals = counted.arrivals

    def bury(self, dead: pa.RecordBatch) -> None:
        """Count and keep dead letters that arrive now."""
        letters = arriving_letters(dead, self._schema, zone_of(self._counters.bundle), time.time())
        self._shards.keep(0, self._shard.keep_letters(letters))

    def discarded(self) -> None:
        """Note that the state is that of the last commit."""
        self._counters.arrivals = self._shard.arrivals

    def stored(self) -> list[bytes]:
        """Return the committed pieces, in any thread."""
        return self._checkpoint.stored(DRIFT, 0)

    @property
    def _shard(self) -> DriftShard:
        shard = self._shards.shard(0)
        assert isinstance(shard, DriftShard)
        return shard
