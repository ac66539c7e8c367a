"""The graph.

files → Read → Parse → Validate → Deduplicate → Features → Infer → Decide ─┬→ scores
                           │                                               └→ Flagged ─┬→ sink
                           └→ dead letters                                             └→ alerts
"""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle
from beam_fraud.outputs import DEAD_LETTERS, SCORES, RunOutputs
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sources.segment import InputFile, Segment
from beam_fraud.transforms.alert import Alert
from beam_fraud.transforms.decide import Decide, Flagged
from beam_fraud.transforms.deduplicate import Deduplicate, FindRepeated
from beam_fraud.transforms.features import Features
from beam_fraud.transforms.infer import Infer
from beam_fraud.transforms.parse import Parse
from beam_fraud.transforms.read import ReadSegments, SplitFiles
from beam_fraud.transforms.validate import Validate
from beam_fraud.transforms.write_flagged import WriteFlagged
from beam_fraud.transforms.write_parquet import WriteParquet


@dataclass(frozen=True)
class ScoreGraph:
    """Everything that the batch graph is built from."""

    #: Files in the order in which the first of several equal ids wins.
    files: tuple[InputFile, ...]
    #: The model.
    bundle: Bundle
    #: What is computed of the transactions, and their schema.
    features: FeatureSet
    #: Where scores and dead letters go.
    outputs: RunOutputs
    #: Where flagged rows go, or None for the scores alone.
    sink: FlaggedSink | None = None
    #: Names of the channels to alert.
    channels: tuple[str, ...] = ()
    #: Where alerts are queued, unless the sink's database queues them itself.
    outbox: Outbox | None = None
    #: Segments to read in place of whole files, if the rows are limited.
    segments: tuple[Segment, ...] | None = None
    #: Bytes of a segment, or None to read each file from start to end.
    segment_bytes: int | None = None
    #: Whether an id may occur once in all files together, or once in each.
    dedupe_across_files: bool = False
    #: Rows of a block.
    block_rows: int = 50_000
    #: Where workers on this machine tell their progress, or None.
    progress: str | None = None


def build(graph: ScoreGraph, root: beam.Pipeline) -> None:
    """Add the whole graph to a pipeline."""
    schema = graph.features.schema
    segments = _segments(graph, root)
    raw = segments | "Read" >> ReadSegments(schema, graph.block_rows, graph.progress)
    checked = raw | "Parse" >> Parse(schema) | "Validate" >> Validate(schema)
    transactions = checked.transactions
    if schema.role("transaction_id"):
        transactions |= "Deduplicate" >> Deduplicate(_repeated(graph, segments))
    scored = (
        transactions
        | "Features" >> Features(graph.features)
        | "Infer" >> Infer(graph.bundle)
        | "Decide" >> Decide(graph.bundle.thresholds, graph.bundle.model_id)
    )
    scored | "Scores" >> WriteParquet(graph.outputs, SCORES)
    checked.dead_letters | "DeadLetters" >> WriteParquet(graph.outputs, DEAD_LETTERS)
    flagged = scored | "Flagged" >> Flagged()
    if graph.sink is not None:
        queued = graph.channels if graph.outbox is None else ()
        flagged | "Sink" >> WriteFlagged(graph.sink, graph.outputs.run_id, queued)
    if graph.outbox is not None:
        flagged | "Alert" >> Alert(graph.outbox, graph.channels)


def _segments(graph: ScoreGraph, root: beam.Pipeline) -> beam.PCollection[Segment]:
    if graph.segments is not None:
        return root | "Segments" >> beam.Create(list(graph.segments))
    largest_first = sorted(graph.files, key=lambda file: -file.size)
    return root | "Segments" >> SplitFiles(largest_first, graph.segment_bytes)


def _repeated(
    graph: ScoreGraph, segments: beam.PCollection[Segment]
) -> beam.PCollection[dict[str, object]] | None:
    """Which rows are repeated, where reading the files one by one would not tell."""
    if not graph.dedupe_across_files:
        if graph.segment_bytes is None:
            return None
        segments |= "Parts of files" >> beam.Filter(lambda segment: not segment.whole)
    return segments | "FindRepeated" >> FindRepeated(
        graph.files, graph.features.schema, graph.dedupe_across_files, graph.block_rows
    )
