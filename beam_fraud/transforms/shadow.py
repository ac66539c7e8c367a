"""Score transactions by challengers in shadow."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from beam_fraud.alerts.queue import Notice
from beam_fraud.decisions.decider import Decider, Pair
from beam_fraud.decisions.decision import decision_codes
from beam_fraud.decisions.shadow import Challenger, Shadows
from beam_fraud.models.registry.challengers import ShadowNames
from beam_fraud.transforms.alert import WaitingNotices
from beam_fraud.transforms.counters import count, note_dropped
from beam_fraud.transforms.deciders import Deciders
from beam_fraud.transforms.infer import Scored

_LOG = logging.getLogger(__name__)
#: Champions whose challengers stay loaded: blocks of the last one may still be on their way.
_CHAMPIONS = 2


@dataclass
class Shadow(beam.PTransform):
    """Convert transactions, features and the champion's scores to rows of `stages.SHADOWED`.

    Nothing a challenger does fails this step: one that fails or is slow is dropped, logged, counted
    and, where notices have a database, reported to every channel. With another champion, the
    challengers are taken anew.
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
        """One step."""
        return scored | beam.ParDo(_Shadow(self)).with_output_types(pa.RecordBatch)


@dataclass
class _Settings:
    deciders: Deciders
    challengers: tuple[Challenger, ...]
    names: ShadowNames
    limit: float | None


class _InProcess:
    """The challengers of a process, for all threads."""

    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self._shadows = OrderedDict[Pair, Shadows]()
        #: Ids of challengers that were dropped, and names of those that could not go on.
        self._gone = set[str]()
        self._taking = threading.Lock()

    def beside(self, champion: Decider) -> tuple[Shadows, dict[str, str]]:
        """Return the challengers beside what decides; and, new, why some cannot go on."""
        with self._taking:
            known = self._shadows.get(champion.pair)
            if known is not None:
                return known, {}
            settings, refused = self._settings, dict[str, str]()
            challengers = settings.challengers
            if self._shadows or champion.pair != settings.deciders.first.pair:
                read = settings.deciders.first.features.schema
                challengers, refused = settings.names.taken_anew(champion, read, challengers)
            staying = [one for one in challengers if one.key not in self._gone]
            known = self._shadows[champion.pair] = Shadows(champion, staying, settings.limit)
            while len(self._shadows) > _CHAMPIONS:
                self._shadows.popitem(last=False)
            new = {name: why for name, why in refused.items() if name not in self._gone}
            self._gone |= set(new)
            return known, new

    def drop(self, key: str) -> bool:
        """Leave a challenger out from here on; return whether it was not before."""
        with self._taking:
            new = key not in self._gone
            self._gone.add(key)
            return new


class _Shadow(beam.DoFn):
    def __init__(self, settings: Shadow) -> None:
        self._settings = _Settings(
            settings.deciders, settings.challengers, settings.names, settings.limit
        )
        self._notices = WaitingNotices(settings.database, settings.channels)
        self._shared = Shared()

    def setup(self) -> None:
        self._in_force = self._settings.deciders.in_force()
        self._shadows = self._shared.acquire(lambda: _InProcess(self._settings))
        self._shadows.beside(self._settings.deciders.first)

    def process(self, scored: Scored) -> Iterator[pa.RecordBatch]:
        transactions, block, scores = scored
        opened = self._in_force.of(transactions)
        champion = opened.decider
        shadows, refused = self._shadows.beside(champion)
        for name, why in refused.items():
            self._say(name, f"cannot go on beside {champion.bundle.model_id}: {why}")
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
        notice = notice_of(key, reason, self._settings.deciders.graph)
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
