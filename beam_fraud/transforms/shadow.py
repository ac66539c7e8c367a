"""Score transactions by challengers in shadow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from beam_fraud.alerts.queue import Notice
from beam_fraud.decisions.decision import decision_codes
from beam_fraud.decisions.shadow import Challenger
from beam_fraud.models.registry.challengers import ShadowNames
from beam_fraud.models.registry.live_shadows import LiveShadows
from beam_fraud.transforms.alert import WaitingNotices
from beam_fraud.transforms.counters import count, note_dropped
from beam_fraud.transforms.deciders import Deciders
from beam_fraud.transforms.infer import Scored

_LOG = logging.getLogger(__name__)


@dataclass
class Shadow(beam.PTransform):
    """Convert transactions, features and the champion's scores to rows of `stages.SHADOWED`.

    Nothing a challenger does fails this step: one that fails or is slow is dropped, logged, counted
    and, where notices have a database, reported to every channel. With another champion, the
    challengers are read again; where the graph follows a registry, they join and leave with it.
    """

    #: What decides.
    deciders: Deciders
    #: What scores beside what decides first.
    challengers: tuple[Challenger, ...]
    #: What scores beside its successors.
    names: ShadowNames
    #: Microseconds per row above which a challenger is dropped, or None.
    limit: float | None = None
    #: Database of notices, or None; and the names of the channels.
    database: str | None = None
    channels: tuple[str, ...] = ()

    def expand(self, scored: beam.PCollection[Scored]) -> beam.PCollection[pa.RecordBatch]:
        """Score with every challenger."""
        return scored | beam.ParDo(_Shadow(self)).with_output_types(pa.RecordBatch)


class _Shadow(beam.DoFn):
    def __init__(self, settings: Shadow) -> None:
        self._deciders, self._names = settings.deciders, settings.names
        self._challengers, self._limit = settings.challengers, settings.limit
        self._notices = WaitingNotices(settings.database, settings.channels)
        self._shared = Shared()

    def setup(self) -> None:
        first, self._in_force = self._deciders.first, self._deciders.in_force()
        self._shadows = self._shared.acquire(
            lambda: LiveShadows(first, self._challengers, self._names, self._limit)
        )
        self._shadows.beside(first)
        self._in_force.look_also(self._shadows.look)

    def process(self, scored: Scored) -> Iterator[pa.RecordBatch]:
        transactions, block, scores = scored
        opened = self._in_force.of(transactions)
        champion = opened.decider
        shadows, refused = self._shadows.beside(champion)
        for name, why in refused.items():
            self._say(name, f"cannot score beside {champion.bundle.model_id}: {why}")
        fired = opened.fired(transactions, block, scores)
        decided = decision_codes(scores, champion.bundle.thresholds, fired)
        shadowed = shadows.score(transactions, block, scores, decided)
        for key, figures in shadowed.figures.items():
            for name, value in figures.counters(key).items():
                count(name, value)
        for key, dropped in shadowed.dropped.items():
            if self._shadows.drop(key):
                note_dropped(key, dropped)
                self._say(key, dropped.reason)
        if len(shadowed.rows):
            yield shadowed.rows

    def finish_bundle(self) -> None:
        self._notices.queue("dropped challengers")

    def _say(self, key: str, reason: str) -> None:
        notice = notice_of(key, reason, self._deciders.graph)
        _LOG.error("%s", notice.text)
        self._notices.add([notice])


def notice_of(key: str, reason: str, run: str) -> Notice:
    """Return the notice of a dropped challenger, the same for all workers of a run.

    Example:
      >>> print(notice_of("forest@1", "failed with ValueError", "run").text)
      forest@1 scores no longer in shadow: it failed with ValueError. The champion goes on.
    """
    text = f"{key} scores no longer in shadow: it {reason}. The champion goes on."
    return Notice(("shadow", key, run), text)
