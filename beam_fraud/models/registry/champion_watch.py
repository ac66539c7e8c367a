"""Follow what a registry and a rules file say shall decide, while a stream or a server runs.

A thread looks at both, opens and checks what is new, and prepares it. Who uses it takes it up at a
moment of its own, between two bundles or two groups of rows: none is decided by parts of two
models.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from beam_fraud.alerts.queue import Notice
from beam_fraud.decisions.decider import Decider, Pair, shown
from beam_fraud.errors import Code, FraudError, line_of
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import check_packages, shared_model
from beam_fraud.models.predict import microseconds_per_row, noting_libraries
from beam_fraud.models.registry.choice import Choice, Chosen

_LOG = logging.getLogger(__name__)
#: Seconds between two looks. What is new is taken up at the second, because a file may be half
#: written at the first.
LOOK_SECONDS = 3.0
#: Rows of the prediction that measures a new champion.
_TIMED_ROWS = 5_000

#: What a user has prepared to take up.
_Prepared = TypeVar("_Prepared")


@dataclass(frozen=True)
class Windows:
    """What a champion must leave as it is, because a state holds it."""

    #: The features that the state was made for, with the schema.
    features: FeatureSet
    #: Who has the state, for messages: "stream", "server".
    owner: str
    #: What to start instead, for messages.
    instead: str

    def refuse_others(self, decider: Decider) -> None:
        """Check that a model has the windows of the state.

        It may take fewer columns than the state's schema has.

        Raises:
          FraudError: its schema or windows are others.
        """
        own, other = self.features.schema, decider.features.schema
        windows = [
            [definition.to_dict() for definition in features.velocity]
            for features in (self.features, decider.features)
        ]
        # What these fields say matters to a model alone, if its columns are read.
        free = ("name", "features", "velocity", "calendar")
        same = replace(other, **{name: getattr(own, name) for name in free}) == own
        if windows[0] == windows[1] and same and set(other.features) <= set(own.features):
            return
        raise FraudError(
            f"{decider.bundle.model_id}: its schema or windows are not those of the {self.owner}; "
            f"start {self.instead}",
            Code.STREAM_CHANGED,
        )


class ChampionWatch(Generic[_Prepared]):
    """Follow the registry and the rules file of whatever decides by them.

    Args:
      choice: where it is written what decides.
      first: what decides at the start.
      windows: what must stay.
      limit: maximum of microseconds per row of a prediction, or None.
      prepare: prepares what was checked, in the thread of the watch; any error refuses it.
      notify: called with a notice about what was refused.
    """

    def __init__(
        self,
        choice: Choice,
        first: Decider,
        windows: Windows,
        limit: float | None,
        prepare: Callable[[Decider], _Prepared],
        notify: Callable[[Notice], None],
    ) -> None:
        self._choice, self._windows, self._limit = choice, windows, limit
        self._prepare, self._notify = prepare, notify
        self._decider = self._latest = first
        self._ready: _Prepared | None = None
        self._seen: Pair = first.pair
        self._refused: Pair | None = None
        self._unreadable = False
        self._taking = threading.Lock()
        self._end = threading.Event()

    def start(self) -> None:
        """Look in a thread, until `stop` or until nobody has this watch any more."""
        looking = (weakref.ref(self), self._end)
        threading.Thread(target=_look_on, args=looking, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()

    def take(self) -> _Prepared | None:
        """Return what was prepared last, which decides from here on; None if nothing was."""
        if self._ready is None:
            return None
        with self._taking:
            prepared, self._ready, before = self._ready, None, self._decider
            self._decider = self._latest
        _LOG.info(
            "%s decides from here on, and no longer %s",
            *(shown(self._decider.pair), shown(before.pair)),
        )
        return prepared

    def look(self) -> None:
        """Prepare what decides now if that changed; report it if it cannot be used."""
        latest = self._latest
        try:
            chosen = self._choice.look(latest)
        except FraudError as error:
            if not self._unreadable:
                _LOG.error("%s goes on: %s", shown(latest.pair), error)
            self._unreadable = True
            return
        self._unreadable = False
        pair, before = chosen.pair, self._seen
        self._seen = pair
        if pair == latest.pair:
            self._refused = None
        if pair != before or pair in (latest.pair, self._refused):
            return
        try:
            decider = self._checked(chosen, latest)
            prepared = self._prepare(decider)
        except Exception as error:
            # Whatever is wrong with it: what decided before goes on.
            self._refused = pair
            text = (
                f"{shown(pair)} cannot be taken up: {line_of(error)}. {shown(latest.pair)} goes on."
            )
            _LOG.error("%s", text)
            # The same for all workers that refuse it.
            about = ("decides", pair[0], str(pair[1]), chosen.version)
            self._notify(Notice(about, text))
            return
        with self._taking:
            self._latest, self._ready = decider, prepared

    def _checked(self, chosen: Chosen, known: Decider) -> Decider:
        """Open and measure what shall decide.

        Raises:
          FraudError: it is damaged, needs other windows, or is too slow.
        """
        decider = chosen.decider(known)
        bundle = decider.bundle
        check_packages(bundle)
        self._windows.refuse_others(decider)
        if self._limit is not None and bundle.model_id != known.bundle.model_id:
            with noting_libraries():
                model = shared_model(bundle)
            rows = np.random.default_rng(0).normal(size=(_TIMED_ROWS, len(decider.features.names)))
            cost = microseconds_per_row(model, rows)
            if cost > self._limit:
                raise FraudError(
                    f"{bundle.model_id}: a prediction takes {cost:g} microseconds a row, more than "
                    f"--max-microseconds {self._limit:g}",
                    Code.REQUIREMENT_UNMET,
                )
        return decider


def _look_on(watch: weakref.ref[ChampionWatch[_Prepared]], end: threading.Event) -> None:
    while not end.wait(LOOK_SECONDS):
        looking = watch()
        if looking is None:
            return
        try:
            looking.look()
        except Exception as error:
            # What decides goes on, and so does the watch.
            _LOG.error("the watch of the champion goes on: %s", line_of(error))
        del looking
