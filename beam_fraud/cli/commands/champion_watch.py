"""Take up a new champion or new rules, of a registry or a file, while a stream runs.

A thread looks at both, and opens and checks what is new. The stream then ends its bundle as at its
end, and goes on from its own checkpoint with the new model: no row is lost or repeated, and none is
scored by parts of two models.
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
from beam_fraud.models.registry.registry import open_registry
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Seconds between two looks. What is new is taken up at the second, because a file may be half
#: written at the first.
_LOOK_SECONDS = 3.0
#: Rows of the prediction that measures a new champion.
_TIMED_ROWS = 5_000

#: What decides, as `ChosenModel.pair` returns it.
_Pair = tuple[str | None, str | None]


@dataclass(frozen=True)
class _Choice:
    """A checked champion with its rules."""

    pair: _Pair
    plan: StreamPlan
    #: Loaded, so that the steps find it.
    model: Any


class ChampionWatch:
    """Follow the registry and the rules file of a stream on this machine.

    Args:
      options: options of the call, with `--registry` or `--rules`.
      planned: the plan at the start.
      notify: called with a notice about what was refused.
    """

    def __init__(
        self, options: StreamOptions, planned: StreamPlan, notify: Callable[[Notice], None]
    ) -> None:
        self._options, self._planned, self._notify = options, planned, notify
        self._in_use: _Pair = planned.scored_by
        self._seen: _Pair = planned.scored_by
        self._refused: _Pair | None = None
        self._unreadable = False
        self._choice: _Choice | None = None
        self._model: Any = None
        self._end = threading.Event()

    @contextmanager
    def running(self, ready: Callable[[], None]) -> Iterator[None]:
        """Watch while the body runs; `ready` is called when there is something to `take`."""
        thread = threading.Thread(target=self._run, args=(ready,), name="watch", daemon=True)
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
        _LOG.info("%s decides from here on", self._shown(choice.pair))
        return choice.plan

    def _run(self, ready: Callable[[], None]) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            try:
                promoted = self._choice is not None or self._look()
            except Exception as error:
                # The stream goes on, and so does the watch.
                _LOG.error("%s goes on: %s", self._shown(self._in_use), line_of(error))
                continue
            if promoted:
                ready()

    def _look(self) -> bool:
        """Return whether something else decides now, and can."""
        try:
            chosen = self._chosen()
        except FraudError as error:
            if not self._unreadable:
                _LOG.error("%s goes on: %s", self._shown(self._in_use), error)
            self._unreadable = True
            return False
        self._unreadable = False
        pair, before = chosen.pair(self._options), self._seen
        self._seen = pair
        if pair == self._in_use:
            self._refused = None
        if pair != before or pair in (self._in_use, self._refused):
            return False
        try:
            self._choice = self._checked(chosen, pair)
        except FraudError as error:
            self._refused = pair
            shown, old = self._shown(pair), self._shown(self._in_use)
            text = f"{shown} cannot be taken up: {error} [{error.code}]. {old} goes on."
            _LOG.error("%s", text)
            now = datetime.now(UTC).isoformat()
            self._notify(Notice(("decides", str(pair[0]), str(pair[1]), now), text))
            return False
        return True

    def _chosen(self) -> ChosenModel:
        """Return the champion of the registry, or the model at the start."""
        if self._options.registry is None:
            bundle = self._planned.scoring.bundle
            assert bundle.place is not None, "a stream scores by a bundle in a directory"
            return ChosenModel(bundle.place, "--model")
        registry = open_registry(Place.parse(self._options.registry))
        return ChosenModel(registry.bundle_place(registry.champion_id()), "--registry", registry)

    def _shown(self, pair: _Pair) -> str:
        model = pair[0] or self._planned.scoring.bundle.model_id
        return model if pair[1] is None else f"{model} with the rules {pair[1]}"

    def _checked(self, chosen: ChosenModel, pair: _Pair) -> _Choice:
        """Open and measure what shall decide.

        Raises:
          FraudError: it is damaged, needs other windows, or is too slow.
        """
        options, planned = self._options, self._planned
        known_model = pair[0] == self._in_use[0]
        bundle = planned.scoring.bundle if known_model else chosen.open()
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
        if options.max_microseconds is not None and not known_model:
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
