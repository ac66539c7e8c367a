"""Follow what a registry and a rules file say shall decide, while a stream or a server runs.

A thread looks at both, opens and checks what is new, and prepares it. Who uses it takes it up at a
moment of its own, between two bundles or two groups of rows: none is decided by parts of two
models.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from beam_fraud.alerts.queue import Notice
from beam_fraud.decisions.decider import Decider, Pair, shown
from beam_fraud.errors import Code, FraudError, fraud_error_in, line_of, refused_by_the_system
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.columns import by_key
from beam_fraud.features.velocity.definition_sets import covers
from beam_fraud.models.bundle import check_packages, shared_model
from beam_fraud.models.predict import microseconds_per_row, noting_libraries
from beam_fraud.models.registry.choice import Chosen
from beam_fraud.schema.schema import Labels
from beam_fraud.wording import place_of

_LOG = logging.getLogger(__name__)
#: Seconds between two looks. What is new is taken up at the second, because a file may be half
#: written at the first.
LOOK_SECONDS = 3.0
#: Looks until what was refused is tried again: a minute at first, then each time twice as long, up
#: to an hour. What it needs may have been away.
_FIRST_LOOKS, _MOST_LOOKS = 20, 1_200
#: Refusals that are not tried again: of the model itself, or because it ended what checked it.
_FINAL = (Code.REQUIREMENT_UNMET, Code.STREAM_CHANGED, Code.WORKER_ENDED)
#: Rows of the prediction that measures a new champion.
_TIMED_ROWS = 5_000

#: What a user has prepared to take up.
_Prepared = TypeVar("_Prepared")


@dataclass(frozen=True)
class Windows:
    """The windows that a champion must not change, because a state holds them."""

    #: The features that the state was made for, with the schema.
    features: FeatureSet
    #: Who has the state, for messages: "stream", "server".
    owner: str
    #: What to start instead, for messages.
    instead: str
    #: Treatment of labels by what is read.
    labels: Labels = "ignored"
    #: Keys whose windows can be filled for another model; None for all, empty for none.
    keys: frozenset[tuple[str, ...]] | None = frozenset()

    def refuse_others(self, decider: Decider) -> None:
        """Check that a model has the windows of the state, or that its own can be filled.

        It may take fewer columns than the state's schema has.

        Raises:
          FraudError: its schema or windows are others.
        """
        own, other = self.features.schema, decider.features.schema
        # What these fields say matters to a model alone, if its columns are read.
        free = ("name", "features", "velocity", "calendar")
        same = replace(other, **{name: getattr(own, name) for name in free}) == own
        if not same or not set(other.features) <= set(own.features):
            raise self._refusal(decider, "its schema is not that")
        held = self.features.velocity
        for key, definitions in by_key(decider.features.velocity).items():
            if covers(held, definitions):
                continue
            if self.keys is not None and key not in self.keys:
                raise self._refusal(decider, f"its windows by {' and '.join(key)} are not those")
            read = self.features.schema.transactions(labels=self.labels).names
            for column in key:
                if column not in read:
                    raise self._refusal(decider, f"its windows need the column {column!r}, not one")
            if self.labels == "ignored" and any(spec.needs_labels for spec in definitions):
                raise self._refusal(decider, "its windows need labels, which are not input")

    def _refusal(self, decider: Decider, what: str) -> FraudError:
        return FraudError(
            f"{decider.bundle.model_id}: {what} of the {self.owner}; start {self.instead}",
            Code.STREAM_CHANGED,
        )


@dataclass(frozen=True)
class Conditions:
    """The conditions that a champion must meet before it is taken up."""

    #: What must stay.
    windows: Windows
    #: Maximum of microseconds per row of a prediction, or None.
    limit: float | None = None

    def checked(self, chosen: Chosen, known: Decider) -> Decider:
        """Open and measure what shall decide.

        Args:
          chosen: what shall decide.
          known: what decides; its model is not measured again.

        Raises:
          FraudError: it is damaged, needs other windows, or is too slow.
        """
        decider = chosen.decider(known)
        bundle = decider.bundle
        check_packages(bundle)
        self.windows.refuse_others(decider)
        if self.limit is not None and bundle.model_id != known.bundle.model_id:
            with noting_libraries():
                model = shared_model(bundle)
            rows = np.random.default_rng(0).normal(size=(_TIMED_ROWS, len(decider.features.names)))
            cost = microseconds_per_row(model, rows, self.limit)
            if cost > self.limit:
                raise FraudError(
                    f"{bundle.model_id}: a prediction takes {cost:g} microseconds a row, more than "
                    f"--max-microseconds {self.limit:g}",
                    Code.REQUIREMENT_UNMET,
                )
        return decider


@dataclass(frozen=True)
class _Refusal:
    """A refused choice; it counts until the choice changes."""

    pair: Pair
    #: The reported text.
    text: str
    #: Looks until the next attempt, and when it is due on the monotonic clock; infinite for none.
    looks: int
    due: float


class ChoiceSource(Protocol):
    """Where it is written what decides."""

    def look(self, known: Decider) -> Chosen:
        """Return what is written there now, as `Choice.look`."""


class ChampionWatch(Generic[_Prepared]):
    """Follow the registry and the rules file by which a process decides.

    Args:
      choice: where it is written what decides.
      first: what decides at the start.
      prepare: opens, checks and prepares what is chosen, given what decides, in the thread of the
        watch; any error refuses it.
      notify: called with a notice about what was refused.
      waits: called with a notice about what waits for its windows.
    """

    def __init__(
        self,
        choice: ChoiceSource,
        first: Decider,
        prepare: Callable[[Chosen, Decider], tuple[Decider, _Prepared]],
        notify: Callable[[Notice], None],
        waits: Callable[[Notice], None] = lambda notice: None,
    ) -> None:
        self._choice = choice
        self._prepare, self._notify, self._waits = prepare, notify, waits
        self._decider = self._latest = first
        self._ready: _Prepared | None = None
        self._seen: Pair = first.pair
        self._refused: _Refusal | None = None
        #: What waits for its windows, and whether that has been reported.
        self._waiting: _Prepared | None = None
        self._reported = False
        #: Whether it is known what shall decide: until the first looks, it may be something else.
        self.settled = False
        self._unreadable = False
        self._taking = threading.Lock()
        self._end = threading.Event()
        #: Methods that look for more, each as long as its object lives.
        self._also: tuple[weakref.WeakMethod[Callable[[], None]], ...] = ()

    def look_also(self, look: Callable[[], None]) -> None:
        """Call a bound method at each look too, in the thread of the watch, while its object lives.

        A method that is called already is not called twice.
        """
        with self._taking:
            living = tuple(one for one in self._also if one() not in (None, look))
            self._also = (*living, weakref.WeakMethod(look))

    def start(self) -> None:
        """Look in a thread, until `stop` or until nothing refers to this watch."""
        looking = (weakref.ref(self), self._end)
        threading.Thread(target=_look_on, args=looking, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()

    @property
    def prepared(self) -> _Prepared | None:
        """The result that `take` would return."""
        return self._ready

    def take(self, expected: _Prepared | None = None) -> _Prepared | None:
        """Return what was prepared last, which decides from here on; None if nothing was.

        Args:
          expected: take nothing but this.
        """
        if self._ready is None:
            return None
        with self._taking:
            if self._ready is None or expected not in (None, self._ready):
                return None
            prepared, self._ready, before = self._ready, None, self._decider
            self._decider = self._latest
        _LOG.info(
            "%s decides from here on, and no longer %s",
            *(shown(self._decider.pair), shown(before.pair)),
        )
        return prepared

    def wait(self, prepared: _Prepared) -> None:
        """Note that what is prepared waits for its windows; the next look reports it."""
        if prepared is not self._waiting:
            self._waiting, self._reported = prepared, False

    def look(self) -> None:
        """Prepare what decides now if that changed, and what else follows the registry."""
        self._look()
        for also in self._also:
            if (look := also()) is not None:
                look()

    def _look(self) -> None:
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
            self._refused, self.settled = None, True
            self._report_waiting(chosen)
        if pair != before or pair == latest.pair:
            return
        refused = self._refused
        if refused is not None and refused.pair != pair:
            refused = None
        if refused is not None and time.monotonic() < refused.due:
            return
        self.settled = True
        if pair == self._decider.pair and self._stays():
            return
        try:
            decider, prepared = self._prepare(chosen, latest)
        except Exception as error:
            if self._end.is_set():
                # What checks it may have ended with the command.
                return
            # Whatever is wrong with it: what decided before goes on.
            text = f"{shown(pair)} cannot be taken up: {_why(error)}. {shown(latest.pair)} goes on."
            self._refused = _refusal(pair, text, error, refused)
            if refused is None or text != refused.text:
                _LOG.error("%s", text, exc_info=error)
            if refused is None:
                # The same for all workers that refuse it.
                about = ("decides", pair[0], str(pair[1]), chosen.version)
                self._notify(Notice(about, text))
            return
        with self._taking:
            self._latest, self._ready = decider, prepared

    def _stays(self) -> bool:
        """Drop what is prepared, in favour of what decides; return whether there was any."""
        with self._taking:
            waited, self._ready = self._ready is not None, None
            if waited:
                self._latest = self._decider
        if waited:
            _LOG.info("%s goes on", shown(self._decider.pair))
        return waited

    def _report_waiting(self, chosen: Chosen) -> None:
        """Report, once, that what shall decide waits for its windows."""
        if self._ready is None or self._waiting is not self._ready or self._reported:
            return
        self._reported = True
        pair, decides = chosen.pair, shown(self._decider.pair)
        text = f"{shown(pair)} waits until its windows are full. {decides} decides until then."
        _LOG.warning("%s", text)
        self._waits(Notice(("waits", pair[0], str(pair[1]), chosen.version), text))


def _refusal(pair: Pair, text: str, error: Exception, before: _Refusal | None) -> _Refusal:
    """Return a refusal, which follows another one of the same or none."""
    looks = _FIRST_LOOKS if before is None else min(2 * before.looks, _MOST_LOOKS)
    due, cause = time.monotonic() + looks * LOOK_SECONDS, fraud_error_in(error)
    if cause is not None and cause.code in _FINAL:
        due = math.inf
    return _Refusal(pair, text, looks, due)


def _why(error: Exception) -> str:
    """Return what went wrong; of a fault of the program or of a model, also where."""
    if fraud_error_in(error) is not None or refused_by_the_system(error) is not None:
        return line_of(error)
    # Another process, whose traceback is lost, adds it as a note.
    where = getattr(error, "__notes__", None) or [place_of(error)]
    return f"{line_of(error)} ({'; '.join(where)})"


def _look_on(watch: weakref.ref[ChampionWatch[_Prepared]], end: threading.Event) -> None:
    while not end.wait(LOOK_SECONDS):
        looking = watch()
        if looking is None:
            return
        try:
            looking.look()
        except Exception as error:
            if end.is_set():
                # What reads it elsewhere may have ended with the command.
                return
            # What decides goes on, and so does the watch.
            _LOG.error("the watch of the champion goes on: %s", _why(error), exc_info=error)
        del looking
