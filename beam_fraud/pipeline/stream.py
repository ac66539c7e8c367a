"""The graph of a stream, with the steps of the graph over files.

source → Read → Parse → Validate → Deduplicate → (Reorder) → Velocity → Features → Infer → Decide ─┐
                           │  │                                 ↑ scores, topic ←┬─ Explain ←(Rules)
                           │  └→ labels ────────────────────────┴→ table         └→ Flagged
                           └→ dead letters, topic                         sink, alerts ←┘

Labels come through the same source as the transactions and take the same way as far as Velocity:
the local runner makes no progress where two unbounded sources meet. For the same reason the graph
has no GroupByKey, no window and no side input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.decisions.inputs import without_inputs
from beam_fraud.decisions.rules.rule import RULE_LIMIT
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.features.velocity.columns import by_key
from beam_fraud.models.drift import zone_of
from beam_fraud.monitoring.counters import HISTORY_ROWS, ROWS_DUPLICATE
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.operations.drift.dead_letter_days import arriving_letters
from beam_fraud.pipeline.batch import Scoring
from beam_fraud.records.messages import OutForm
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.schema.stages import DEAD_LETTER, SCORED, SHADOWED
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.kafka.registry import RegistrySettings
from beam_fraud.sources.kafka.settings import KafkaSettings
from beam_fraud.sources.raw import POSITION
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.watch.source import WatchSource
from beam_fraud.state.archive import ArchiveShard
from beam_fraud.state.chain import ChainShard
from beam_fraud.state.deduplicate import DeduplicateShard
from beam_fraud.state.drift import DRIFT, DRIFT_LETTERS, DriftShard, LetterShard
from beam_fraud.state.drift_parts import DriftParts
from beam_fraud.state.local_shards import MakeShard
from beam_fraud.state.reorder import ReorderShard
from beam_fraud.state.velocity import History, VelocityShard
from beam_fraud.state.window_sets import Filling, WindowSetsShard
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, MONITOR, SCORES, SHADOW
from beam_fraud.storage.stream_outputs import StreamOutputs
from beam_fraud.transforms.alert import Alert, Notices
from beam_fraud.transforms.count_drift import CountDeadLetters, Counters, CountForDrift
from beam_fraud.transforms.counters import ObserveScored, count
from beam_fraud.transforms.decide import Decide, Flagged
from beam_fraud.transforms.deciders import Deciders, DecidersShare, Following
from beam_fraud.transforms.explain import Explain
from beam_fraud.transforms.features import Features
from beam_fraud.transforms.infer import Infer
from beam_fraud.transforms.parse import DEAD, VALID, OnlyLabels, OnlyTransactions, Parse, Validate
from beam_fraud.transforms.read import earlier_transactions
from beam_fraud.transforms.read_stream import ReadStream
from beam_fraud.transforms.stateful import Stateful
from beam_fraud.transforms.write_flagged import WriteFlagged
from beam_fraud.transforms.write_tables import WriteDeadLettersTable, WriteLabels
from beam_fraud.transforms.write_topic import WriteDeadLetters, WriteScores

if TYPE_CHECKING:
    from beam_fraud.sources.kafka.source import KafkaSource

#: Blocks per prediction where shards have divided batches into small ones.
_BLOCKS_TOGETHER = 16


@dataclass(frozen=True)
class Stream:
    """Input, outputs and state of a stream."""

    #: Micro-batches of transactions, and of labels.
    source: KafkaSource | WatchSource
    #: The features to compute, and the schema.
    features: FeatureSet
    #: Outputs of the stream.
    outputs: StreamOutputs
    #: The run.
    run_id: str
    #: Whether its state is in a file there; if not, Beam's runner keeps it.
    here: bool
    #: Whether the runner takes checkpoints and reports their completion.
    checkpoints: bool = False
    #: Hash of ids and keys; constant for the life of the state.
    hashing: IdHash = field(default_factory=IdHash.random)
    #: Seconds between two acknowledgements to a source on another runner.
    finalize_seconds: float = 0.0
    #: Whether the runner has one worker process and never repeats a bundle.
    repeats_nothing: bool = False
    #: Number of shards of the state, which runners may spread over workers.
    shards: int = 1
    #: Files of earlier transactions, which fill the windows of a new stream.
    history: tuple[InputFile, ...] = ()
    #: Velocity definitions that the state was made for, if they are not those of `features`.
    windows: tuple[Velocity, ...] | None = None
    #: Reads earlier transactions again, for the windows of another model; or None.
    earlier: History | None = None
    #: Microseconds of event time after which a new champion decides though its windows are not
    #: full; None to wait until they are.
    warm_up: int | None = None
    #: Microseconds of event time for which ids are remembered.
    dedupe_horizon: int = 86_400_000_000
    #: Microseconds that a transaction may be late and still see all its windows.
    lateness: int = 0
    #: Microseconds that an event may be ahead of its arrival.
    ahead: int | None = None
    #: Seconds that rows wait for rows of other partitions, or None.
    reorder: float | None = None
    #: Rows or seconds at which a Parquet file of the archive is finished.
    roll_rows: int = 1_000_000
    roll_seconds: float = 300.0
    #: Database of incoming labels, or None.
    labels_database: str | None = None
    #: Share of rows from which a rule is muted for the rest of a window; 1 mutes none.
    rule_limit: float = RULE_LIMIT
    #: How workers follow a registry and rules while the stream runs, or None.
    following: Following | None = None
    #: The broker, if scores or dead letters go to topics.
    kafka: KafkaSettings | None = None
    #: Schema registry of framed messages, or None.
    registry: RegistrySettings | None = None
    #: Topic of all scores, or None.
    out_topic: str | None = None
    #: Form of scores in that topic.
    out_form: OutForm = "json"
    #: Topic of the dead letters, or None.
    dead_letter_topic: str | None = None

    @property
    def labels(self) -> Labels:
        """Treatment of labels: only features that count known frauds read them."""
        definitions = (*self.features.velocity, *self.first)
        return "known" if any(v.needs_labels for v in definitions) else "ignored"

    @property
    def first(self) -> tuple[Velocity, ...]:
        """Velocity definitions that the steps of the graph are made for."""
        return self.features.velocity if self.windows is None else self.windows

    @property
    def takes_keys(self) -> bool:
        """Return whether windows by other keys can be filled: all rows are in one shard."""
        return self.here and self.shards == 1

    def limits_rules(self, scoring: Scoring) -> bool:
        """Return whether a step mutes rules that fire too often."""
        raising = scoring.rules is not None and bool(scoring.rules.raising)
        # Rules may come into force later.
        return self.rule_limit < 1 and (raising or self.following is not None)

    def shadows(self, scoring: Scoring) -> bool:
        """Return whether a step scores by challengers."""
        later = scoring.shadow_names is not None and self.following is not None
        return bool(scoring.challengers) or later

    def deciders(self, scoring: Scoring) -> Deciders:
        """Return what decides in the graph, of this run in every process."""
        first = scoring.decider(self.features)
        return Deciders(first, scoring.reasons, self.following, self.run_id)

    @property
    def checkpoint(self) -> Path | None:
        """The file of the state, or None if the runner keeps it."""
        return self.outputs.checkpoint if self.here else None

    def archive(self, schema: pa.Schema, directory: Path | str) -> MakeShard:
        """Return the factory of shards that write Parquet files to a directory."""
        return partial(
            _archiving, directory, schema, self.roll_rows, self.roll_seconds, self.checkpoints
        )


def archives(stream: Stream, scoring: Scoring) -> dict[str, MakeShard]:
    """Return the steps that write Parquet, and the factories of their shards."""
    outputs = stream.outputs
    steps = {
        SCORES: stream.archive(scoring.archived(stream.features), outputs.archive(SCORES)),
        DEAD_LETTERS: stream.archive(DEAD_LETTER, outputs.archive(DEAD_LETTERS)),
        # Also without challengers: an earlier run may have left rows of some in the state.
        SHADOW: stream.archive(SHADOWED, outputs.archive(SHADOW)),
    }
    if scoring.sink is not None and scoring.sink.archive is not None:
        steps["sink"] = stream.archive(SCORED, scoring.sink.archive)
    return steps


def build_stream(root: beam.Pipeline, stream: Stream, scoring: Scoring) -> None:
    """Add the graph of `stream` to a pipeline."""
    writers = archives(stream, scoring)
    checked = _checked(root, stream)
    dead = checked[DEAD]
    _archive(dead, "DeadLetters", DEAD_LETTERS, writers, stream, ("source",))
    if stream.dead_letter_topic and stream.kafka:
        dead | "DeadLetterTopic" >> WriteDeadLetters(stream.kafka, stream.dead_letter_topic)
    if scoring.sink is not None and scoring.sink.database is not None:
        table = WriteDeadLettersTable(scoring.sink.database, scoring.sink.patience)
        dead | "DeadLettersTable" >> table
    known = checked[VALID]
    deciders = stream.deciders(scoring)
    if stream.labels_database is not None:
        known | "Labels" >> OnlyLabels() | "LabelTable" >> WriteLabels(stream.labels_database)
    inferred = (
        _remembered(known, stream, deciders)
        | "Transactions" >> OnlyTransactions()
        | "Features" >> Features(deciders)
        | "Infer" >> Infer(deciders, 1 if stream.here else _BLOCKS_TOGETHER)
    )
    decided = inferred | "Decide" >> Decide(deciders)
    explained = _limited(decided, stream, scoring, deciders) | "Explain" >> Explain(deciders)
    observe = ObserveScored(str(stream.outputs.live))
    scored = scoring.without_linked(explained) | "Observe" >> observe
    if stream.out_topic and stream.kafka:
        scored | "OutTopic" >> WriteScores(
            stream.kafka, stream.out_topic, stream.out_form, stream.registry
        )
    flagged = scored | "Flagged" >> Flagged(scoring.audit)
    if "sink" in writers:
        _archive(flagged, "Sink", "sink", writers, stream, ("transaction_id",))
    elif scoring.sink is not None:
        queued = scoring.channels if scoring.outbox is None else ()
        flagged | "Sink" >> WriteFlagged(scoring.sink, stream.run_id, queued, deciders)
    if scoring.outbox is not None:
        flagged | "Alert" >> Alert(scoring.outbox, scoring.channels, deciders)
    archived = scored
    if scoring.monitored is not None:
        _monitor(scored, dead, stream, scoring, deciders)
        archived = scored | "Archived" >> beam.Map(
            _archived, keeps=scoring.keep_features
        ).with_output_types(pa.RecordBatch)
    _archive(archived, "Scores", SCORES, writers, stream, ("transaction_id",))
    # A successor of the champion may have challengers where the first has none.
    if stream.shadows(scoring):
        shadow = replace(
            scoring.shadow(deciders), database=scoring.alerts_database, channels=scoring.channels
        )
        shadowed = inferred | "Shadow" >> shadow
        _archive(shadowed, "Shadows", SHADOW, writers, stream, ("transaction_id",))


def _checked(root: beam.Pipeline, stream: Stream) -> beam.pvalue.DoOutputsTuple:
    schema, labels = stream.features.schema, stream.labels
    raw = root | "Read" >> ReadStream(
        stream.source, str(stream.outputs.live), None if stream.here else stream.finalize_seconds
    )
    parsed = raw | "Parse" >> Parse(schema, labels, stream.registry)
    return parsed | "Validate" >> Validate(schema, labels, stream.ahead, stream.registry)


def _remembered(
    known: beam.PCollection[pa.RecordBatch], stream: Stream, deciders: Deciders
) -> beam.PCollection[pa.RecordBatch]:
    """Deduplicate, reorder and add velocity features; keep labels, to be dropped later."""
    steps = _steps(stream, deciders)
    if not stream.here:
        steps = _chained(steps)
    for step in steps:
        known |= step.name.capitalize() >> _stateful(
            stream, step.name, step.make, step.key, waits=step.waits
        )
    return known


@dataclass(frozen=True)
class _Step:
    """A stateful step over transactions."""

    name: str
    make: MakeShard
    #: Columns whose values determine the shard of a row.
    key: tuple[str, ...]
    waits: bool = False


def _steps(stream: Stream, deciders: Deciders) -> list[_Step]:
    steps = []
    if stream.features.schema.role("transaction_id"):
        once = partial(_deduplicating, horizon=stream.dedupe_horizon, hashing=stream.hashing)
        # By account, if the schema has one: the next step groups by it as well.
        account = stream.features.schema.role("account_id")
        together = "account_id" if account else "transaction_id"
        steps.append(_Step("deduplicate", once, (together,)))
    if stream.reorder is not None:
        rows = stream.features.schema.transactions(labels=stream.labels)
        columns = rows.append(pa.field(POSITION, pa.int64()))
        ordered = partial(_reordering, wait=stream.reorder, columns=columns)
        steps.append(_Step("reorder", ordered, (), waits=True))
    history = partial(earlier_transactions, stream.history, stream.features.schema, stream.labels)
    windows = partial(
        VelocityShard, hashing=stream.hashing, lateness=stream.lateness, shards=stream.shards
    )
    keys = by_key(stream.first)
    if not keys and stream.following is not None and stream.takes_keys:
        # A later champion may have windows.
        keys = {(): ()}
    for number, (key, definitions) in enumerate(keys.items()):
        last = number == len(keys) - 1
        make = partial(
            _adding_velocity,
            definitions=definitions,
            windows=windows,
            history=history if stream.history else None,
            counts=number == 0,
            deciders=deciders,
            filling=Filling(
                history=stream.earlier,
                warm_up=stream.warm_up,
                lateness=stream.lateness,
                elsewhere=frozenset(keys) if last and stream.takes_keys else None,
                keeps_first=not stream.here,
            ),
        )
        name = f"velocity of {' and '.join(key)}" if key else "velocity"
        steps.append(_Step(name, make, key))
    return steps


def _chained(steps: Sequence[_Step]) -> list[_Step]:
    """Merge steps of one key: rows are moved once, and state accessed once."""
    chained = list[_Step]()
    for step in steps:
        before = chained[-1] if chained else None
        if before is not None and before.key == step.key and not (before.waits or step.waits):
            make = partial(_chaining, makers=(before.make, step.make))
            chained[-1] = _Step(f"{before.name}, {step.name}", make, step.key)
        else:
            chained.append(step)
    return chained


def _limited(
    decided: beam.PCollection[pa.RecordBatch],
    stream: Stream,
    scoring: Scoring,
    deciders: Deciders,
) -> beam.PCollection[pa.RecordBatch]:
    """Mute rules that fire too often, and notify people."""
    if not stream.limits_rules(scoring):
        return decided
    make = partial(
        DecidersShare,
        deciders=deciders,
        limit=stream.rule_limit,
        # Other rows may be that far ahead of a row that is not late.
        remembered=stream.lateness + max(stream.ahead or 0, DAY),
    )
    notices = Notices(scoring.alerts_database, scoring.channels, stream.rule_limit, stream.shards)
    step = _stateful(stream, "rules", make, ("transaction_id",))
    return decided | "Rules" >> step | "Notices" >> notices


def _monitor(
    scored: beam.PCollection[pa.RecordBatch],
    dead: beam.PCollection[pa.RecordBatch],
    stream: Stream,
    scoring: Scoring,
    deciders: Deciders,
) -> None:
    """Count rows for drift: here in the state, which the launcher reads, elsewhere into files."""
    segments = scoring.monitored or ()
    count_letters = partial(
        _arriving_letters, schema=stream.features.schema, zone=zone_of(scoring.bundle)
    )
    if stream.here:
        make = partial(_counting, deciders=deciders, segments=segments)
        counting = _stateful(stream, DRIFT, make, ("transaction_id",), waits=True)
        scored | "Drift" >> replace(counting, whole=True)
        arriving = partial(_counting_letters, count=count_letters)
        counting = _stateful(stream, DRIFT_LETTERS, arriving, ("source",), waits=True)
        dead | "DriftOfDeadLetters" >> replace(counting, whole=True)
        return
    counted = (
        scored | "CountForDrift" >> CountForDrift(deciders, segments),
        dead | "CountDeadLetters" >> CountDeadLetters(count_letters),
    )
    adding = partial(_adding_counts, directory=stream.outputs.archive(MONITOR))
    # Counts are few, and one shard has them all.
    added = replace(_stateful(stream, DRIFT, adding, (), waits=True), shards=1, afterwards=False)
    together = counted | "Counts" >> beam.Flatten()
    together | "Drift" >> replace(added, stop_file=stream.outputs.stop_file)


def _archived(batch: pa.RecordBatch, *, keeps: bool) -> pa.RecordBatch:
    """Return rows for the archive; one step whatever it keeps, as savepoints number steps."""
    return batch if keeps else without_inputs(batch)


def _archiving(
    directory: Path | str,
    schema: pa.Schema,
    rows: int,
    seconds: float,
    deferred: bool,
    shard: int,
) -> ArchiveShard:
    return ArchiveShard(directory, schema, shard, rows, seconds, deferred=deferred)


def _deduplicating(shard: int, horizon: int, hashing: IdHash) -> DeduplicateShard:
    return DeduplicateShard(horizon, partial(count, ROWS_DUPLICATE), hashing)


def _chaining(shard: int, makers: Sequence[MakeShard]) -> ChainShard:
    return ChainShard([make(shard) for make in makers])


def _counting(shard: int, deciders: Deciders, segments: tuple[str, ...]) -> DriftShard:
    return DriftShard(Counters(deciders, segments))


def _adding_counts(shard: int, directory: Path | str) -> DriftParts:
    return DriftParts(directory)


def _counting_letters(shard: int, count: Callable[[pa.RecordBatch], Summary]) -> LetterShard:
    return LetterShard(count)


def _arriving_letters(dead: pa.RecordBatch, schema: Schema, zone: tzinfo) -> Summary:
    return arriving_letters(dead, schema, zone, time.time())


def _reordering(shard: int, wait: float, columns: pa.Schema) -> ReorderShard:
    return ReorderShard(wait, columns=columns)


def _adding_velocity(
    shard: int,
    definitions: tuple[Velocity, ...],
    windows: partial[VelocityShard],
    history: partial[Iterator[pa.RecordBatch]] | None,
    deciders: Deciders,
    filling: Filling,
    *,
    counts: bool,
) -> WindowSetsShard:
    """Every shard of every key reads the history; the shards of one key count it."""
    of_start = partial(
        windows,
        shard,
        history=history and partial(history, count_left_out=counts and shard == 0),
        counted=partial(count, HISTORY_ROWS) if counts else None,
    )
    in_force = deciders.in_force()
    return WindowSetsShard(
        shard,
        definitions,
        lambda first: of_start(definitions=first),
        lambda further: windows(shard, definitions=further),
        replace(filling, wanted=lambda: in_force.windows),
    )


def _archive(
    rows: beam.PCollection[pa.RecordBatch],
    label: str,
    step: str,
    writers: dict[str, MakeShard],
    stream: Stream,
    key: tuple[str, ...],
) -> None:
    step_of_rows = _stateful(stream, step, writers[step], key, waits=True)
    rows | label >> replace(step_of_rows, whole=True, stop_file=stream.outputs.stop_file)


def _stateful(
    stream: Stream, step: str, make: MakeShard, key: tuple[str, ...], *, waits: bool = False
) -> Stateful:
    return Stateful(
        make=make,
        key=key,
        shards=stream.shards,
        step=step,
        hashing=stream.hashing,
        checkpoint=stream.checkpoint,
        run=stream.run_id,
        repeats_nothing=stream.repeats_nothing,
        waits=waits,
        # Waiting rows may wait for a checkpoint.
        afterwards=waits and stream.checkpoints,
        live=stream.outputs.live,
    )
