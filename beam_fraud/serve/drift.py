"""Count the answers of a server for drift."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.models.bundle import Bundle
from beam_fraud.models.drift import Counter, counter_of
from beam_fraud.monitoring.drift.summary import Summary

_LOG = logging.getLogger(__name__)


class DriftCounters:
    """What counts the answers of each model that answers; `count` in any thread.

    Args:
      bundle: the first of them.
      segments: columns whose values divide the rows.
    """

    def __init__(self, bundle: Bundle, segments: Sequence[str]) -> None:
        self._segments = segments
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
                counter = self._known.get(model_id)
                if counter is None:
                    _LOG.warning("answers of %s are not counted for drift", model_id)
                else:
                    counted.append((counter, counter.count(batch)))
        return counted
