"""Count the answers of a server for drift."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.errors import FraudError
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.drift import Counter, counter_of
from beam_fraud.monitoring.drift.summary import Summary

_LOG = logging.getLogger(__name__)


class DriftCounters:
    """What counts the answers of each model that answers; `count` in any thread.

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
        self.add(bundle)

    def add(self, bundle: Bundle) -> None:
        """Count the answers of a model from now on."""
        self._known[bundle.model_id] = counter_of(bundle, self._segments)

    def count(self, rows: Sequence[pa.RecordBatch]) -> list[tuple[Counter, Summary]]:
        """Return the summaries of answers, by what counted them.

        Args:
          rows: answers, with the inputs of their decisions if they are kept.
        """
        counted = list[tuple[Counter, Summary]]()
        for batch in rows:
            for model_id in pc.unique(batch.column("model_id")).to_pylist():
                counter = self._counter(model_id)
                if counter is not None:
                    counted.append((counter, counter.count(batch)))
        return counted

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
