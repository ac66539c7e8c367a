"""`beam-fraud score`: files to scores, flagged transactions, alerts and dead letters."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from apache_beam.options.pipeline_options import PipelineOptions

from beam_fraud import launch
from beam_fraud.alerts.channel import Channel
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.url import parse_channel
from beam_fraud.commandline.progress import progress_of
from beam_fraud.errors import UsageError
from beam_fraud.models.bundle import Bundle, open_bundle
from beam_fraud.outputs import DEAD_LETTERS, SCORES, RunOutputs, new_run_id
from beam_fraud.pipeline import ScoreGraph, build
from beam_fraud.run_progress import rows_done
from beam_fraud.schema_toml import load_schema
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.connection import sqlite_url
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.sources.filesystem import is_remote
from beam_fraud.sources.segment import InputFile
from beam_fraud.sources.source import find_inputs, limit_files
from beam_fraud.transforms import counters
from beam_fraud.urls import absolute

#: Several workers share a file in segments of at least this size.
_MIN_SEGMENT_BYTES = 8 << 20
#: Segments a worker gets where there are fewer files: enough to even out, few enough to be large.
_SEGMENTS_PER_WORKER = 4
#: Segments on a cluster, whose size nobody knows here.
_CLUSTER_SEGMENT_BYTES = 256 << 20


@dataclass(frozen=True)
class ScoreOptions:
    """What to score, by what, and where the results go."""

    #: Paths, directories or globs.
    files: tuple[str, ...]
    #: Directory of the bundle.
    model: str
    #: Directory of the outputs.
    out: str
    #: A preset or TOML file in place of the bundle's schema.
    schema: str | None = None
    #: URL of the place for flagged rows.
    sink: str | None = None
    #: URLs of the channels to alert.
    alerts: tuple[str, ...] = ()
    #: Processes on this machine.
    workers: int = 1
    #: Rows to score at most.
    limit: int | None = None
    #: Where ids are unique: in each `file`, or in the `run`.
    dedupe: str = "file"
    #: Rows of a block.
    block_rows: int = 50_000
    #: Check everything and score nothing.
    dry_run: bool = False
    #: Options for Beam.
    beam_args: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """What was checked before the launch."""

    files: tuple[InputFile, ...]
    bundle: Bundle
    outputs: RunOutputs
    sink: FlaggedSink | None
    channels: tuple[Channel, ...]
    outbox: Outbox | None
    beam: PipelineOptions
    graph: ScoreGraph


def run(options: ScoreOptions) -> dict[str, object]:
    """Score files; nothing is published unless all of it succeeds.

    Returns:
      The summary, as `summary.json` has it.

    Raises:
      UsageError: an option that cannot be meant.
      FraudError: a file, the bundle, a sink or a channel that cannot be used.
    """
    started = time.monotonic()
    plan = _plan(options)
    if options.dry_run:
        return _dry_run(plan)
    plan.outputs.begin()
    try:
        if plan.sink is not None:
            plan.sink.begin(plan.outputs.run_id)
        counted = _launch(plan, options)
        plan.outputs.publish()
        if plan.sink is not None:
            plan.sink.commit(plan.outputs.run_id)
    except BaseException:
        plan.outputs.abandon()
        if plan.sink is not None:
            plan.sink.discard(plan.outputs.run_id)
        raise
    alerts = _send(plan)
    summary = _summary(plan, counted, alerts, time.monotonic() - started)
    plan.outputs.write_summary(summary)
    return summary


def render(result: dict[str, object]) -> str:
    """The summary for a terminal."""
    from beam_fraud.commandline.summary import score_summary

    return score_summary(result)


def _plan(options: ScoreOptions) -> _Plan:
    if is_remote(options.out):
        raise UsageError(f"--out {options.out}: must be a local directory")
    bundle = open_bundle(options.model)
    schema = load_schema(options.schema) if options.schema else bundle.schema
    features = bundle.features_in(schema)
    sink = parse_sink(options.sink) if options.sink else None
    channels = tuple(parse_channel(url, console=sys.stderr) for url in options.alerts)
    outputs = RunOutputs(absolute(Path(options.out)), new_run_id())
    beam_options = launch.pipeline_options(options.beam_args, options.workers)
    files = tuple(find_inputs(options.files, schema, labels="ignored"))
    outputs.check()
    outbox = None
    if channels and not isinstance(sink, DatabaseSink):
        outbox = Outbox(sqlite_url(outputs.outbox))
    for place in (sink, outbox, *channels):
        if place is not None:
            place.check()
    graph = ScoreGraph(
        files=files,
        bundle=bundle,
        features=features,
        outputs=outputs,
        sink=sink,
        channels=tuple(channel.name for channel in channels),
        outbox=outbox,
        segments=tuple(limit_files(files, options.limit)) if options.limit else None,
        segment_bytes=_segment_bytes(files, beam_options, options.workers),
        dedupe_across_files=options.dedupe == "run",
        block_rows=options.block_rows,
    )
    return _Plan(files, bundle, outputs, sink, channels, outbox, beam_options, graph)


def _segment_bytes(
    files: tuple[InputFile, ...], beam_options: PipelineOptions, workers: int
) -> int | None:
    """How files are cut: not at all where every worker gets its share of whole files."""
    if not launch.is_local(beam_options):
        return _CLUSTER_SEGMENT_BYTES
    if workers == 1:
        return None
    total = sum(file.size for file in files)
    each = max(total // (workers * _SEGMENTS_PER_WORKER), _MIN_SEGMENT_BYTES)
    return each if max(file.size for file in files) > 2 * each else None


def _launch(plan: _Plan, options: ScoreOptions) -> dict[str, int]:
    total: int | None = None
    if all(file.rows is not None for file in plan.files):
        total = sum(file.rows or 0 for file in plan.files)
        total = min(total, options.limit) if options.limit else total
    with ExitStack() as stack:
        graph = plan.graph
        if launch.is_local(plan.beam):
            directory = stack.enter_context(TemporaryDirectory(prefix="beam-fraud-"))
            graph = ScoreGraph(**{**vars(graph), "progress": directory})
            stack.enter_context(progress_of(total, lambda: rows_done(directory), "scoring"))
        result = launch.run(plan.beam, lambda pipeline: build(graph, pipeline))
    return counters.read_counters(result)


def _send(plan: _Plan) -> dict[str, int]:
    """Send the alerts; the run has succeeded, so now they are due."""
    if not plan.channels:
        return {}
    outbox = plan.outbox
    if outbox is None and isinstance(plan.sink, DatabaseSink):
        outbox = Outbox(plan.sink.url)
    assert outbox is not None
    report = send_pending(outbox, plan.channels)
    return {"sent": report.sent, "already_sent": report.already_sent, "failed": report.failed}


def _summary(
    plan: _Plan, counted: dict[str, int], alerts: dict[str, int], seconds: float
) -> dict[str, object]:
    rows_in = counted.get(counters.ROWS_IN, 0)
    outputs: dict[str, object] = {
        "scores": str(plan.outputs.directory / SCORES),
        "dead_letters": str(plan.outputs.directory / DEAD_LETTERS),
    }
    if plan.sink is not None:
        outputs["sink"] = plan.sink.describe()
    if plan.channels:
        outputs["alerts"] = [channel.describe() for channel in plan.channels]
    if plan.outbox is not None:
        outputs["outbox"] = plan.outbox.describe()
    return {
        "rows_in": rows_in,
        "rows_scored": counted.get(counters.ROWS_SCORED, 0),
        "rows_flagged": counted.get(counters.ROWS_FLAGGED, 0),
        "rows_dead": counted.get(counters.ROWS_DEAD, 0),
        "rows_duplicate": counted.get(counters.ROWS_DUPLICATE, 0),
        "dead_reasons": {
            name.removeprefix(counters.DEAD_PREFIX): rows
            for name, rows in sorted(counted.items())
            if name.startswith(counters.DEAD_PREFIX)
        },
        "alerts": alerts,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows_in / seconds),
        "model_id": plan.bundle.model_id,
        "run_id": plan.outputs.run_id,
        "outputs": outputs,
    }


def _dry_run(plan: _Plan) -> dict[str, object]:
    return {
        "dry_run": True,
        "files": [file.path for file in plan.files],
        "bytes": sum(file.size for file in plan.files),
        "rows": (
            sum(file.rows or 0 for file in plan.files)
            if all(file.rows is not None for file in plan.files)
            else None
        ),
        "schema": plan.graph.features.schema.name,
        "features": list(plan.graph.features.names),
        "model_id": plan.bundle.model_id,
        "sink": plan.sink.describe() if plan.sink else None,
        "alerts": [channel.describe() for channel in plan.channels],
    }
