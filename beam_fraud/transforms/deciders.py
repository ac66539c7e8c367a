"""The deciders of a graph: one for its life, or those that workers find in a registry.

`Features` takes what is in force at the start of a bundle, and every block carries its ids in the
metadata. So the steps up to `Explain`, and the alerts, decide each block by one model and its own
rules, whichever of them is in force when the block arrives.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
import pyarrow as pa

from beam_fraud.alerts.queue import Notice, queue_notices
from beam_fraud.decisions.decider import Decider, OpenDecider, Pair
from beam_fraud.decisions.rules.kept import keep_rules
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.velocity.definition_sets import covers, is_further, sources
from beam_fraud.models.registry.champion_watch import ChampionWatch, Conditions, Windows
from beam_fraud.models.registry.choice import Choice, Chosen
from beam_fraud.schema.velocity import Velocity
from beam_fraud.state.identity import IN_FORCE
from beam_fraud.state.rule_share import RuleShareShard
from beam_fraud.state.shard import Effects
from beam_fraud.state.window_sets import Wanted
from beam_fraud.storage.checkpoint import LocalCheckpoint
from beam_fraud.storage.database.retry import persistently

_LOG = logging.getLogger(__name__)
_KEY = b"beam_fraud.decider"
#: Deciders that stay open in a process: blocks of earlier ones may still be on their way.
_OPEN = 4
#: Forms of blocks for which it stays known where features are.
_KNOWN_SOURCES = 64


@dataclass(frozen=True)
class Following:
    """How the workers of a graph follow a choice."""

    choice: Choice
    #: What must stay, because the graph has state for it.
    windows: Windows
    #: Maximum of microseconds per row of a prediction, or None.
    limit: float | None = None
    #: Database and channels of notices about what was refused.
    database: str | None = None
    channels: tuple[str, ...] = ()
    #: Directory of the stream's outputs, where rules are kept as they are taken up; None where the
    #: workers do not have it.
    kept: Path | None = None
    #: Velocity definitions that the graph was made for.
    first: tuple[Velocity, ...] = ()
    #: The checkpoint of a stream on this machine, which records what decides; or None.
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Deciders:
    """The deciders of a graph; all its steps have the same object."""

    #: What decides at the start.
    first: Decider
    #: Maximum of reasons per flagged row; 0 for none.
    reasons: int = 0
    #: How workers follow a choice; None if the first decides for the life of the graph.
    following: Following | None = None
    #: The graph, among those of this process.
    graph: str = field(default_factory=lambda: uuid.uuid4().hex)

    def in_force(self) -> InForce:
        """Return what is in force in this process, the same object as long as any step has it."""
        with _CREATING:
            known = _IN_FORCE.get(self.graph)
            if known is None:
                known = _IN_FORCE[self.graph] = InForce(self.first, self.reasons, self.following)
            return known


class InForce:
    """The decider in force in this process, for all steps and threads.

    Args:
      first: what decides at the start.
      reasons: maximum of reasons per flagged row; 0 for none.
      following: how it follows a choice, or None.
    """

    def __init__(self, first: Decider, reasons: int, following: Following | None) -> None:
        self._reasons, self._following = reasons, following
        self.current = OpenDecider(first, reasons)
        self._open = OrderedDict({first.pair: self.current})
        self._changing = threading.Lock()
        self._watch: ChampionWatch[OpenDecider] | None = None
        #: What takes over with the first block that has its windows, or None.
        self._awaited: OpenDecider | None = None
        self._first = first.features.velocity if following is None else following.first
        #: Definitions of what decides and of what is awaited; None before they are known.
        self.windows: Wanted | None = None if following else (first.features.velocity,)
        self._plain_of: OpenDecider | None = None
        self._is_plain = False
        #: Where the features of models are among the columns of batches.
        self._sources: dict[tuple[Pair, tuple[str, ...]], Mapping[str, str] | None] = {}
        if following is not None:
            # The watch has no reference to this object, whose end is its own end.
            self._successors = successors = _Successors(following, self.current, reasons)
            self._watch = ChampionWatch(
                following.choice,
                first,
                prepare=successors.open,
                notify=successors.refuse,
                waits=successors.notify,
            )
            self._watch.start()

    def renew(self) -> OpenDecider:
        """Take up what the watch has prepared; call it between two bundles.

        What needs other windows is awaited instead, until a block has them.
        """
        if self._watch is not None:
            with self._changing:
                prepared = self._watch.prepared
                if prepared is not None and covers(
                    self.current.decider.features.velocity, prepared.decider.features.velocity
                ):
                    self._take(prepared)
                elif prepared is not self._awaited or self.windows is None:
                    self._await(prepared)
        return self.current

    def choose(self, batch: pa.RecordBatch) -> tuple[OpenDecider, pa.RecordBatch]:
        """Return what decides on a new block, and the block with its features by their names.

        Raises:
          FraudError: nothing in force has its windows in the block.
        """
        names = batch.schema.names
        if self._awaited is None and self._plain and not any(map(is_further, names)):
            return self.current, batch
        with self._changing:
            awaited = self._awaited
            if awaited is not None and self._watch is not None:
                if self._found(awaited, names) is None:
                    self._watch.wait(awaited)
                else:
                    self._take(awaited)
            # A block of a shard whose windows are not full yet has those of before.
            for opened in (self.current, *reversed(self._open.values())):
                found = self._found(opened, names)
                if found is not None:
                    return opened, _with_features(batch, found)
        model = self.current.decider.bundle.model_id
        raise FraudError(
            f"{model}: the stream holds none of its windows; start another stream with another "
            "--out and --history",
            Code.STREAM_CHANGED,
        )

    @property
    def awaited(self) -> str:
        """Id of the model that waits for its windows; empty for none."""
        awaited = self._awaited
        return "" if awaited is None else awaited.decider.bundle.model_id

    @property
    def _plain(self) -> bool:
        """Return whether what decides has the features of the graph's start."""
        if self._plain_of is not self.current:
            velocity = self.current.decider.features.velocity
            self._plain_of, self._is_plain = self.current, covers(self._first, velocity)
        return self._is_plain

    def _take(self, prepared: OpenDecider) -> None:
        assert self._watch is not None
        if self._watch.take(prepared) is None:
            # The watch has prepared something else meanwhile.
            return
        self.current = prepared
        self._remember(prepared)
        self._await(None)
        following = self._following
        if following is not None and following.checkpoint is not None:
            pair = msgspec.json.encode(prepared.decider.pair).decode()
            LocalCheckpoint.at(following.checkpoint).note(IN_FORCE, pair)

    def _await(self, awaited: OpenDecider | None) -> None:
        """Let the steps with windows fill those of another model."""
        self._awaited = awaited
        if self._watch is not None and (self._watch.settled or awaited is not None):
            models = (self.current, *([] if awaited is None else [awaited]))
            self.windows = tuple(one.decider.features.velocity for one in models)

    def _found(self, opened: OpenDecider, names: list[str]) -> Mapping[str, str] | None:
        """Return the places of the features of a model by name; None if one is missing."""
        place = opened.decider.pair, tuple(names)
        if place not in self._sources:
            if len(self._sources) >= _KNOWN_SOURCES:
                self._sources.clear()
            velocity = opened.decider.features.velocity
            self._sources[place] = sources(names, velocity, self._first)
        return self._sources[place]

    def of(self, batch: pa.RecordBatch) -> OpenDecider:
        """Return what decides on a block, which `marked` has marked.

        Raises:
          FraudError: it is no longer in the registry.
        """
        if self._following is None:
            return self.current
        pair = _pair_of(batch)
        current = self.current
        if pair in (None, current.decider.pair):
            return current
        assert pair is not None
        with self._changing:
            known = self._open.get(pair)
            if known is None:
                # Of a worker that was faster or slower than this one.
                found = self._following.choice.named(pair, current.decider)
                known = OpenDecider(found, self._reasons)
                self._remember(known)
            return known

    def marked(self, batch: pa.RecordBatch, decider: OpenDecider) -> pa.RecordBatch:
        """Return a block with the ids of what decides on it."""
        if self._following is None:
            return batch
        metadata = {
            **(batch.schema.metadata or {}),
            _KEY: msgspec.json.encode(decider.decider.pair),
        }
        return batch.replace_schema_metadata(metadata)

    def look_also(self, look: Callable[[], None]) -> None:
        """Have the watch call a method, as long as its object lives (`ChampionWatch.look_also`)."""
        if self._watch is not None:
            self._watch.look_also(look)

    def refusals(self) -> int:
        """Return how many promotions this process has refused since the last call."""
        return 0 if self._watch is None else self._successors.refusals()

    def close(self) -> None:
        """Follow no more."""
        if self._watch is not None:
            self._watch.stop()

    def _remember(self, opened: OpenDecider) -> None:
        self._open[opened.decider.pair] = opened
        self._open.move_to_end(opened.decider.pair)
        while len(self._open) > _OPEN:
            oldest = next(pair for pair, one in self._open.items() if one is not self.current)
            del self._open[oldest]


class DecidersShare(RuleShareShard):
    """Mute rules that fire too often, of the rule set that decided on a block.

    Args:
      shard: number of the shard.
      deciders: what decides.
      limit: the share of rows from which a rule is muted.
      remembered: microseconds before the clock for which windows are kept.
    """

    def __init__(self, shard: int, deciders: Deciders, limit: float, remembered: int) -> None:
        self._in_force = deciders.in_force()
        self._decider = first = deciders.first
        super().__init__(shard, first.rules, first.bundle.thresholds, limit, remembered)

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Return scored rows; decide rows of muted rules again."""
        decider = self._in_force.of(batch).decider
        if decider is not self._decider:
            self._decider = decider
            self.decide_by(decider.rules, decider.bundle.thresholds)
        return super().take(batch)


class _Successors:
    """Open what shall decide; count what was refused, and notify of it."""

    def __init__(self, following: Following, first: OpenDecider, reasons: int) -> None:
        self._database, self._channels = following.database, following.channels
        self._conditions = Conditions(following.windows, following.limit)
        self._latest, self._reasons, self._kept = first, reasons, following.kept
        self._refused = 0
        self._counting = threading.Lock()

    def open(self, chosen: Chosen, known: Decider) -> tuple[Decider, OpenDecider]:
        decider = self._conditions.checked(chosen, known)
        opened = OpenDecider(decider, self._reasons, self._latest)
        opened.open()
        if self._kept is not None:
            # Before any row names them.
            keep_rules(self._kept, decider.rules)
        self._latest = opened
        return decider, opened

    def refuse(self, notice: Notice) -> None:
        with self._counting:
            self._refused += 1
        self.notify(notice)

    def notify(self, notice: Notice) -> None:
        if self._database is None:
            return
        try:
            persistently(self._database, lambda c: queue_notices(c, self._channels, [notice]))
        except FraudError as error:
            _LOG.warning("no notice was sent: %s", error)

    def refusals(self) -> int:
        with self._counting:
            count, self._refused = self._refused, 0
        return count


_CREATING = threading.Lock()
_IN_FORCE: WeakValueDictionary[str, InForce] = WeakValueDictionary()


def _pair_of(batch: pa.RecordBatch) -> Pair | None:
    encoded = (batch.schema.metadata or {}).get(_KEY)
    return None if encoded is None else msgspec.json.decode(encoded, type=tuple[str, str | None])


def _with_features(batch: pa.RecordBatch, found: Mapping[str, str]) -> pa.RecordBatch:
    """Return a block whose columns of features are those of one model.

    Features of the graph's start that the model does not have stay, for challengers in shadow.
    """
    taken = {column: name for name, column in found.items()}
    names = [
        taken.get(column, column)
        for column in batch.schema.names
        if column in taken or not (is_further(column) or column in found)
    ]
    columns = [found.get(name, name) for name in names]
    fields = [
        batch.schema.field(column).with_name(name)
        for name, column in zip(names, columns, strict=True)
    ]
    schema = pa.schema(fields, batch.schema.metadata)
    return pa.RecordBatch.from_arrays([batch.column(c) for c in columns], schema=schema)
