"""The challengers of a process beside its champion, as they join and leave a registry."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from beam_fraud.decisions.decider import Decider, Pair
from beam_fraud.decisions.shadow import Challenger, Shadows
from beam_fraud.errors import FraudError
from beam_fraud.models.registry.challengers import ShadowNames

_LOG = logging.getLogger(__name__)
#: Champions whose challengers stay loaded: blocks of the last one may still be on their way.
_CHAMPIONS = 2


class _Beside(NamedTuple):
    """The challengers beside something that decides."""

    champion: Decider
    #: Dropped ones too.
    challengers: tuple[Challenger, ...]
    shadows: Shadows


class LiveShadows:
    """The challengers of a process, for all threads.

    With another champion they are read again. `look`, which the watch of the champion calls, takes
    up what joined the registry and leaves out what left it.

    Args:
      first: what decides at the start.
      challengers: what scores beside it.
      names: what scores beside others, and later.
      limit: microseconds per row above which a challenger is dropped, or None.
    """

    def __init__(
        self,
        first: Decider,
        challengers: Sequence[Challenger],
        names: ShadowNames,
        limit: float | None,
    ) -> None:
        #: What decides at the start.
        self.first = first
        self._read = first.features.schema
        self._names, self._limit = names, limit
        #: What decided on the last block.
        self._champion = first
        #: What decides to its challengers, dropped ones too, and to those that score.
        self._beside = OrderedDict[Pair, _Beside]()
        self._first = tuple(challengers)
        #: Ids of challengers that were dropped, and names of those that could not be taken up.
        self._gone = set[str]()
        #: Why challengers could not be taken up, by name, until a block reports them.
        self._refused = dict[str, str]()
        self._unreadable = False
        self._taking = threading.Lock()

    def beside(self, champion: Decider) -> tuple[Shadows, dict[str, str]]:
        """Return the challengers beside what decides; and, new, why some were not taken up."""
        with self._taking:
            known = self._beside.get(champion.pair)
            if known is None:
                known = self._taken(champion)
            self._champion = champion
            refused, self._refused = self._refused, {}
            return known.shadows, refused

    def drop(self, key: str) -> bool:
        """Leave a challenger out from here on; return whether it was not before."""
        with self._taking:
            new = key not in self._gone
            self._gone.add(key)
            return new

    @property
    def keys(self) -> list[str]:
        """Ids of the challengers that score now."""
        with self._taking:
            known = self._beside.get(self._champion.pair)
            every = self._first if known is None else known.challengers
            return [one.key for one in every if one.key not in self._gone]

    def look(self) -> None:
        """Take up challengers that joined the registry, and leave out those that left it.

        What scores goes on until the new ones are loaded, which is done in the calling thread. The
        challengers of the champion before follow too: a rollback lets it decide again, at once.
        """
        try:
            registry = self._names.read()
            if registry is None:
                return
            ids = self._names.ids(registry)
        except FraudError as error:
            if not self._unreadable:
                _LOG.error("the challengers stay: %s", error)
            self._unreadable = True
            return
        self._unreadable = False
        standing = registry.standing
        members = standing.members
        with self._taking:
            # One that left is tried again if it comes back.
            self._gone -= {name for name in self._gone if name in members and name not in ids}
            entries = list(self._beside.items())
        for pair, before in entries:
            # What was promoted scores in shadow until it decides.
            scoring = {one.name for one in before.challengers}
            joined = {*ids, *(scoring & {standing.champion, standing.rules})}
            self._renew(pair, before, {name for name in members if name in joined}, members)

    def _renew(
        self, pair: Pair, before: _Beside, joined: Collection[str], members: Collection[str]
    ) -> None:
        """Load what scores beside one champion again if that changed.

        Args:
          pair: what decides.
          before: what scores beside it.
          joined: members of the registry that are to score beside others.
          members: everything in the registry.
        """
        with self._taking:
            gone = frozenset(self._gone)
            # What is loaded beside the other champion is not loaded again.
            known = {one.key: one for other in self._beside.values() for one in other.challengers}
        known |= {one.key: one for one in before.challengers}
        present = {one.name for one in before.challengers if one.name in members} - gone
        if set(joined).difference(pair, gone) == present:
            return
        champion = before.champion
        challengers, refused = self._names.taken_anew(champion, self._read, known.values())
        staying = [one for one in challengers if one.key not in gone]
        shadows = Shadows(champion, staying, self._limit)
        with self._taking:
            if self._beside.get(pair) is not before:
                # Another champion decides by now.
                return
            self._beside[pair] = _Beside(champion, challengers, shadows)
            shadows.leave_out(self._gone - gone)
            self._refuse(refused)
            decides = pair == self._champion.pair
        if decides:
            _tell(present, {one.name for one in staying if one.name in members})

    def _taken(self, champion: Decider) -> _Beside:
        challengers = self._first
        if self._beside or champion.pair != self._champion.pair:
            last = self._beside.get(self._champion.pair)
            known = self._first if last is None else last.challengers
            challengers, refused = self._names.taken_anew(champion, self._read, known)
            self._refuse(refused)
        staying = [one for one in challengers if one.key not in self._gone]
        taken = _Beside(champion, challengers, Shadows(champion, staying, self._limit))
        self._beside[champion.pair] = taken
        while len(self._beside) > _CHAMPIONS:
            self._beside.popitem(last=False)
        return taken

    def _refuse(self, refused: dict[str, str]) -> None:
        self._refused |= {name: why for name, why in refused.items() if name not in self._gone}
        self._gone |= set(refused)


def _tell(before: Collection[str], after: Collection[str]) -> None:
    for name in sorted(set(after) - set(before)):
        _LOG.info("%s scores in shadow from here on", name)
    for name in sorted(set(before) - set(after)):
        _LOG.info("%s scores no longer in shadow: it is no challenger of the registry", name)
