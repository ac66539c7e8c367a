"""The graphs over files; `pipeline.stream` builds the graph of a stream from the same steps.

files → Read → Parse → Validate → Deduplicate → Velocity ─┬→ Features (a table)
                          │                              └→ Features → Infer → Decide → Explain ─┐
                          └→ dead letters                                                        │
                                   scores ←┬─────────────────────────────────────────────────────┘
                                           └→ Flagged ─┬→ sink
                                                       └→ alerts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.alerts.alert import AlertContext
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.decisions.decider import Decider
from beam_fraud.decisions.linked_values import LinkedColumns, without_linked
from beam_fraud.decisions.rules.rule import RuleSet
from beam_fraud.decisions.shadow import Challenger
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.registry.challengers import ShadowNames
from beam_fraud.monitoring.counters import EARLIEST_HISTORY_ROW
from beam_fraud.schema.schema import Labels
from beam_fraud.schema.stages import SCORED
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sources.kafka.registry import RegistrySettings
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.storage.batch_outputs import DEAD_LETTERS, FEATURES, SCORES, SHADOW, RunOutputs
from beam_fraud.transforms.accept import Accept, Accepted
from beam_fraud.transforms.alert import Alert
from beam_fraud.transforms.decide import Decide, Flagged
from beam_fraud.transforms.deciders import Deciders
from beam_fraud.transforms.deduplicate import Deduplicate, FindRepeated
from beam_fraud.transforms.explain import Explain
from beam_fraud.transforms.features import Features, FeatureTable
from beam_fraud.transforms.infer import Infer
from beam_fraud.transforms.order import FromFile, Order
from beam_fraud.transforms.parse import Parse, Validate
from beam_fraud.transforms.read import ReadHistory, ReadSegments, SplitFiles
from beam_fraud.transforms.shadow import Shadow
from beam_fraud.transforms.velocity import AddVelocity
from beam_fraud.transforms.write_flagged import WriteFlagged
from beam_fraud.transforms.write_parquet import Publish, WriteParquet
from beam_fraud.transforms.write_tables import WriteDeadLettersTable, WriteLinkedValues


@dataclass(frozen=True)
class Inputs:
    """Inputs of a run, and how to read them."""

    #: Files in the order in which the first of several equal ids wins.
    files: tuple[InputFile, ...]
    #: The features to compute, and the schema.
    features: FeatureSet
    #: Outputs of the run.
    outputs: RunOutputs
    #: Files of earlier transactions, which fill windows.
    history: tuple[InputFile, ...] = ()
    #: Segments to read instead of whole files, if the rows are limited.
    segments: tuple[Segment, ...] | None = None
    #: Bytes of a segment; None reads each file from start to end.
    segment_bytes: int | None = None
    #: Maximum share of dead letters of a successful run; None: any but all.
    max_dead: float | None = None
    #: Whether an id must be unique over all files, or within each.
    dedupe_across_files: bool = False
    #: Rows of a block.
    block_rows: int = 50_000
    #: Schema registry of framed messages, or None.
    registry: RegistrySettings | None = None
    #: Directory of progress files of workers on this machine, or None.
    progress: str | None = None
    #: Directory to spill rows to while they are grouped by key; None if workers share no disk.
    spill: Path | None = None

    @property
    def labels(self) -> Labels:
        """Treatment of labels: only features that count known frauds read them."""
        return self.features.labels


@dataclass(frozen=True)
class Scoring:
    """Scoring of the transactions."""

    #: The model.
    bundle: Bundle
    #: Sink of flagged rows; None for scores alone.
    sink: FlaggedSink | None = None
    #: Names of the channels to alert.
    channels: tuple[str, ...] = ()
    #: Database of the alerts, unless the sink's database queues them.
    outbox: Outbox | None = None
    #: Rules that may overrule the model, or None.
    rules: RuleSet | None = None
    #: Maximum of reasons per flagged row; 0 for none.
    reasons: int = 5
    #: Whether the archive keeps the inputs of each decision.
    keep_features: bool = False
    #: Which unflagged rows the sink, a database, takes as well; None for none.
    audit: AuditLane | None = None
    #: Columns whose values the sink, a database, takes of the rows that people see; or None.
    linked: LinkedColumns | None = None
    #: Columns whose values divide the rows that a stream or server counts for drift; None if it
    #: counts none.
    monitored: tuple[str, ...] | None = None
    #: Models and rule sets in shadow.
    challengers: tuple[Challenger, ...] = ()
    #: What of them scores beside another champion, which a stream takes up; None for no shadows.
    shadow_names: ShadowNames | None = None
    #: Microseconds per row above which one of them is dropped, or None.
    max_microseconds: float | None = None

    @property
    def alerts_database(self) -> str | None:
        """URL of the outbox's database, or None without channels."""
        if self.outbox is not None:
            return self.outbox.url
        return self.sink.database if self.channels and self.sink is not None else None

    def decider(self, features: FeatureSet) -> Decider:
        """Return what decides on transactions with these features."""
        keeps = self.keep_features or self.monitored is not None
        return Decider(self.bundle, features, self.rules, keeps, self.audit, self.linked)

    def archived(self, features: FeatureSet) -> pa.Schema:
        """Return the schema of the archive."""
        kept = self.decider(features).kept if self.keep_features else None
        return SCORED if kept is None else kept.after(SCORED)

    def shadow(self, deciders: Deciders) -> Shadow:
        """Return the step that scores by the challengers."""
        assert self.shadow_names is not None, "nothing is in shadow"
        return Shadow(deciders, self.challengers, self.shadow_names, self.max_microseconds)

    def without_linked(
        self,
        explained: beam.PCollection[pa.RecordBatch],
        accepted: beam.PCollection[bool] | None = None,
    ) -> beam.PCollection[pa.RecordBatch]:
        """Write the values that link cases, once `accepted`; return the rows without them."""
        if self.linked is None:
            return explained
        assert self.sink is not None, "without a database they are refused"
        assert self.sink.database is not None, "without a database they are refused"
        write = WriteLinkedValues(self.sink.database, self.linked, self.sink.patience, accepted)
        explained | "LinkedValues" >> write
        return explained | "Unlinked" >> beam.Map(without_linked).with_output_types(pa.RecordBatch)

    def alert_context(self, features: FeatureSet) -> AlertContext:
        """Return the settings that alerts need beside their rows."""
        return self.decider(features).context


def build_score(root: beam.Pipeline, inputs: Inputs, scoring: Scoring) -> None:
    """Add the graph of `score` to a pipeline."""
    parts: dict[str, beam.PCollection[str]] = {}
    transactions, accepted = _transactions(root, inputs, parts, scoring.sink)
    deciders = Deciders(scoring.decider(inputs.features), scoring.reasons)
    inferred = transactions | "Features" >> Features(deciders) | "Infer" >> Infer(deciders)
    if scoring.challengers:
        shadowed = inferred | "Shadow" >> scoring.shadow(deciders)
        parts[SHADOW] = shadowed | "Shadows" >> WriteParquet(inputs.outputs, SHADOW)
    explained = inferred | "Decide" >> Decide(deciders) | "Explain" >> Explain(deciders)
    scored = scoring.without_linked(explained, accepted)
    parts[SCORES] = scored | "Scores" >> WriteParquet(inputs.outputs, SCORES)
    flagged = scored | "Flagged" >> Flagged(scoring.audit)
    if accepted is not None and (scoring.sink is not None or scoring.outbox is not None):
        flagged |= "Accepted" >> Accepted(accepted)
    sunk = [] if accepted is None else [accepted]
    context = scoring.alert_context(inputs.features)
    if scoring.sink is not None:
        queued = scoring.channels if scoring.outbox is None else ()
        write = WriteFlagged(scoring.sink, inputs.outputs.run_id, queued, context)
        sunk.append(flagged | "Sink" >> write)
    if scoring.outbox is not None:
        flagged | "Alert" >> Alert(scoring.outbox, scoring.channels, context)
    # BigQuery's own transform returns no collection to wait for: its rows wait for the run's end
    # anyway.
    _publish(inputs, parts, [done for done in sunk if isinstance(done, beam.PCollection)])


def build_features(root: beam.Pipeline, inputs: Inputs) -> None:
    """Add the graph of `features` to a pipeline."""
    parts: dict[str, beam.PCollection[str]] = {}
    transactions, accepted = _transactions(root, inputs, parts)
    table = transactions | "Features" >> FeatureTable(inputs.features)
    parts[FEATURES] = table | "Table" >> WriteParquet(inputs.outputs, FEATURES)
    _publish(inputs, parts, [] if accepted is None else [accepted])


def _publish(
    inputs: Inputs,
    parts: dict[str, beam.PCollection[str]],
    after: Sequence[beam.PCollection] = (),
) -> None:
    """Publish outputs at a URL in the graph; on a disk, the launcher publishes."""
    if inputs.outputs.at_url:
        parts | "Publish" >> Publish(inputs.outputs, after)


def _transactions(
    root: beam.Pipeline,
    inputs: Inputs,
    parts: dict[str, beam.PCollection[str]],
    sink: FlaggedSink | None = None,
) -> tuple[beam.PCollection, beam.PCollection[bool] | None]:
    """Build the steps to unique transactions with velocity features, and dead letters.

    Add the names of the dead letters' parts to `parts`.

    Returns:
      The transactions, and the signal that there are not too many dead letters; None if no output
      leaves the graph that could not be taken back: then the launcher checks at the end.
    """
    schema, labels = inputs.features.schema, inputs.labels
    segments = _segments(root, inputs)
    raw = segments | "Read" >> ReadSegments(schema, labels, inputs.block_rows, inputs.progress)
    checked = (
        raw
        | "Parse" >> Parse(schema, labels, inputs.registry)
        | "Validate" >> Validate(schema, labels)
    )
    write = WriteParquet(inputs.outputs, DEAD_LETTERS)
    transactions, dead_letters = checked.transactions, checked.dead_letters
    parts[DEAD_LETTERS] = dead_letters | "DeadLetters" >> write
    accepted = None
    if inputs.max_dead is not None or inputs.outputs.at_url:
        accepted = (transactions, dead_letters) | "Accept" >> Accept(inputs.max_dead)
    if sink is not None and sink.database is not None:
        table = WriteDeadLettersTable(sink.database, sink.patience)
        if inputs.max_dead is not None:
            dead_letters |= "AcceptedDead" >> Accepted(accepted)
        dead_letters | "DeadLettersTable" >> table
    if schema.role("transaction_id"):
        transactions |= "Deduplicate" >> Deduplicate(_repeated(inputs, segments))
    if inputs.features.velocity:
        transactions = _with_velocity(root, inputs, transactions)
    return transactions, accepted


def _with_velocity(
    root: beam.Pipeline, inputs: Inputs, transactions: beam.PCollection
) -> beam.PCollection:
    earlier = len(inputs.history)
    ordered = [transactions | "Order" >> Order([file.name for file in inputs.files], earlier)]
    if inputs.history:
        read = ReadHistory(inputs.history, inputs.features.schema, inputs.labels, inputs.block_rows)
        names = [file.name for file in inputs.history]
        order = Order(names, earliest=EARLIEST_HISTORY_ROW)
        ordered.append(root | "History" >> read | "OrderHistory" >> order)
    add = AddVelocity(inputs.features.velocity, inputs.block_rows, inputs.spill, earlier)
    return tuple(ordered) | "Velocity" >> add | "FromFile" >> FromFile(earlier, inputs.progress)


def _segments(root: beam.Pipeline, inputs: Inputs) -> beam.PCollection[Segment]:
    if inputs.segments is not None:
        return root | "Segments" >> beam.Create(list(inputs.segments))
    largest_first = sorted(inputs.files, key=lambda file: -file.size)
    return root | "Segments" >> SplitFiles(largest_first, inputs.segment_bytes)


def _repeated(
    inputs: Inputs, segments: beam.PCollection[Segment]
) -> beam.PCollection[dict[str, object]] | None:
    """Return the repeated rows, if reading files one by one would not find them."""
    if not inputs.dedupe_across_files:
        if inputs.segment_bytes is None:
            return None
        segments |= "Parts of files" >> beam.Filter(lambda segment: not segment.whole)
    return segments | "FindRepeated" >> FindRepeated(
        inputs.files, inputs.features.schema, inputs.dedupe_across_files, inputs.block_rows
    )
