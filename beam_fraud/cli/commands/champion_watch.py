"""Take up a new champion, or new rules, of a registry while a stream runs.

A thread reads the registry, and opens and checks what was promoted. The stream then ends its bundle
as at its end, and goes on from its own checkpoint with the new model: no row is lost or repeated,
and none is scored by parts of two models.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from beam_fraud.alerts.queue import Notice
from beam_fraud.cli.commands.scoring import ChosenModel
from beam_fraud.cli.commands.stream_plan import StreamPlan, identity_of_windows
from beam_fraud.cli.options import StreamOptions
from beam_fraud.errors import Code, FraudError, line_of
from beam_fraud.models.bundle import check_packages, shared_model
from beam_fraud.models.predict import libraries_loaded, microseconds_per_row
from beam_fraud.models.registry.registry import Registry, open_registry
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Seconds between two looks at the registry.
_LOOK_SECONDS = 5.0
#: Rows of the prediction that measures a new champion.
_TIMED_ROWS = 5_000

#: What decides: ids of the model and of the rule set.
_Pair = tuple[str | None, str | None]


@dataclass(frozen=True)
class _Choice:
    """A checked champion with its rules."""

    pair: _Pair
    plan: StreamPlan
    #: Loaded, so that the steps find it.
    model: Any


class ChampionWatch:
    """Follow the registry of a stream on this machine.

    Args:
      options: options of the call, with `--registry`.
      planned: the plan by the champion at the start.
      notify: called with a notice about what was refused.
    """

    def __init__(
        self, options: StreamOptions, planned: StreamPlan, notify: Callable[[Notice], None]
    ) -> None:
        assert options.registry is not None, "only a stream with a registry is watched"
        self._options, self._planned, self._notify = options, planned, notify
        self._place = Place.parse(options.registry)
        self._in_use: _Pair = planned.scored_by
        self._refused: _Pair | None = None
        self._unreadable = False
        self._choice: _Choice | None = None
        self._model: Any = None
        self._end = threading.Event()

    @contextmanager
    def running(self, ready: Callable[[], None]) -> Iterator[None]:
        """Watch while the body runs; `ready` is called when there is something to `take`."""
        thread = threading.Thread(target=self._run, args=(ready,), name="registry", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def take(self) -> StreamPlan | None:
        """Return the plan by what was promoted, or None if nothing was."""
        choice = self._choice
        if choice is None:
            return None
        self._planned, self._in_use, self._model = choice.plan, choice.pair, choice.model
        self._choice = None
        _LOG.info("the registry promoted %s: it scores from here on", _shown(choice.pair))
        return choice.plan

    def _run(self, ready: Callable[[], None]) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            try:
                promoted = self._choice is not None or self._look()
            except Exception as error:
                # The stream goes on, and so does the watch.
                _LOG.error("the registry %s: %s", self._place.shown, line_of(error))
                continue
            if promoted:
                ready()

    def _look(self) -> bool:
        """Return whether something else decides now, and can."""
        try:
            registry = open_registry(self._place)
        except FraudError as error:
            if not self._unreadable:
                _LOG.error("%s goes on: %s", _shown(self._in_use), error)
            self._unreadable = True
            return False
        self._unreadable = False
        chosen = ChosenModel(self._place, "--registry", registry)
        pair = chosen.pair(self._options)
        if pair == self._in_use:
            self._refused = None
        if pair in (self._in_use, self._refused):
            return False
        try:
            self._choice = self._checked(registry, pair)
        except FraudError as error:
            self._refused = pair
            text = (
                f"The registry {self._place.shown} promoted {_shown(pair)}, which cannot be taken "
                f"up: {error} [{error.code}]. {_shown(self._in_use)} goes on."
            )
            _LOG.error("%s", text)
            now = datetime.now(UTC).isoformat()
            self._notify(Notice(("registry", str(pair[0]), str(pair[1]), now), text))
            return False
        return True

    def _checked(self, registry: Registry, pair: _Pair) -> _Choice:
        """Open and measure what decides in the registry.

        Raises:
          FraudError: it is damaged, needs other windows, or is too slow.
        """
        options, planned = self._options, self._planned
        place = registry.bundle_place(registry.champion_id())
        chosen = ChosenModel(place, "--registry", registry)
        bundle = chosen.open()
        check_packages(bundle)
        schema = bundle.schema if options.schema is None else load_schema(options.schema)
        rules = chosen.rules(options, bundle, schema)
        features = bundle.features_in(schema, () if rules is None else rules.columns)
        stream = planned.stream
        windows = identity_of_windows(features, stream.lateness)
        known = stream.features.schema
        if any(planned.about.get(name) != value for name, value in windows.items()) or (
            replace(features.schema, velocity=known.velocity) != known
        ):
            raise FraudError(
                f"{bundle.model_id}: its schema or windows are not those of the stream; start a "
                "stream with another --out and --history",
                Code.STREAM_CHANGED,
            )
        model = shared_model(bundle)
        libraries_loaded()
        if options.max_microseconds is not None:
            rows = np.random.default_rng(0).normal(size=(_TIMED_ROWS, len(features.names)))
            cost = microseconds_per_row(model, rows)
            if cost > options.max_microseconds:
                raise FraudError(
                    f"{bundle.model_id}: a prediction takes {cost:g} microseconds a row, more than "
                    f"--max-microseconds {options.max_microseconds:g}",
                    Code.REQUIREMENT_UNMET,
                )
        scoring = replace(planned.scoring, bundle=bundle, rules=rules)
        plan = replace(planned, scoring=scoring, stream=replace(stream, features=features))
        return _Choice(pair, replace(plan, scored_by=pair, warning=None), model)


def _shown(pair: _Pair) -> str:
    model, rules = pair
    return f"{model} with the rules {rules}" if rules is not None else str(model)
