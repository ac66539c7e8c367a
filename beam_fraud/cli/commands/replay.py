"""`beam-fraud dead-letters replay`: score repaired records, or send them to a stream's topic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands import score
from beam_fraud.cli.commands.dead_letters import choice_of, place, refuse_missed
from beam_fraud.cli.commands.scoring import sink_of
from beam_fraud.cli.options import ReplayOptions
from beam_fraud.cli.terminal.columns import fact
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.operations.dead_letters.database import DeadLetterTable
from beam_fraud.operations.dead_letters.directory import DeadLetterDirectory
from beam_fraud.operations.dead_letters.repaired import read_repaired
from beam_fraud.operations.dead_letters.staged import StagedCounts, StagedReplay
from beam_fraud.operations.dead_letters.store import KEY, Choice
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.database import DatabaseSink, replay_undelivered
from beam_fraud.sinks.iceberg.run import IcebergRun
from beam_fraud.sinks.url import parse_archive, parse_sink
from beam_fraud.sources.csv import read_header
from beam_fraud.sources.file_format import REPLAY, FileFormat, format_of
from beam_fraud.sources.kafka.options import broker_settings, registry_settings
from beam_fraud.sources.replayed import is_csv_source
from beam_fraud.storage.atomic import make_directory
from beam_fraud.storage.batch_outputs import (
    DEAD_LETTERS,
    SCORES,
    SHADOW,
    STREAM,
    UNDELIVERED,
    RunOutputs,
    local_directory,
    new_run_id,
)
from beam_fraud.storage.staging import REPLAYING, Staging
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.storage.temporary import temporary_directory
from beam_fraud.storage.urls import Place, absolute
from beam_fraud.wording import own_call, reason_of


def call(options: ReplayOptions, *, as_json: bool) -> Outcome:
    """Score the records, send them to a topic, or write undelivered rows to a database.

    Raises:
      UsageError, FraudError: as these functions.
    """
    if options.topic is not None:
        return Outcome(run_to_topic(options), render_topic)
    scored = _names_model(options) or options.results is not None
    if not scored and options.out is not None and options.sink is not None:
        return Outcome(run_to_database(options.out, options.sink), render_delivered)
    return Outcome(run(options), render)


def run(options: ReplayOptions) -> dict[str, object]:
    """Score dead letters again; those that die again keep source and position.

    The others are marked as replayed, and not replayed again.

    Returns:
      The summary of `score`, with numbers of `offered`, `already_replayed` and `incomplete`
      records.

    Raises:
      UsageError: an option is invalid, or a header is unknown.
      FraudError: as `score`, or the output directory has results already.
    """
    if not _names_model(options) or options.results is None:
        raise UsageError(
            "give --model or --registry, and --out; or --to-topic; see "
            f"{own_call()} dead-letters replay --help",
            Code.OPTION_MISSING,
        )
    letters = place(options.out, options.from_sink)
    out, sink = local_directory(Place.parse(options.results)), sink_of(options)
    archive = None if options.archive is None else parse_archive(options.archive)
    _refuse_used(out, {"--sink": sink, "--archive": archive})
    with _workplace(out) as directory:
        staged, counts = stage(options, letters, directory)
        if not counts.offered:
            return {"offered": 0, **_left_out(counts)}
        try:
            files = (str(staged.path),)
            scoring = options.scoring(files, options.results)
            summary = score.score_files(scoring, sink, registry_settings(options))
        finally:
            # Unsent alerts fail the command after everything else is done.
            if not options.dry_run and (out / "summary.json").exists():
                _remember(staged, letters, out, sink)
    return {**summary, "offered": counts.offered, **_left_out(counts)}


def _names_model(options: ReplayOptions) -> bool:
    return options.model is not None or options.registry is not None


def render(result: dict[str, Any]) -> str:
    """Return the summary for a terminal."""
    lines = [fact("offered", result["offered"], "(dead letters to replay)")]
    if result["already_replayed"]:
        lines.append(fact("  left out", result["already_replayed"], "(replayed before)"))
    if result["incomplete"]:
        about = "(no whole record is kept; repair them)"
        lines.append(fact("  left out", result["incomplete"], about))
    if "rows_in" in result or "dry_run" in result:
        lines.append(score.render(result))
    return "\n".join(lines)


def run_to_topic(options: ReplayOptions) -> dict[str, object]:
    """Send dead letters to a topic, and mark them as replayed once acknowledged.

    If killed before, the next call sends them again: the stream recognises repeats by id.

    Raises:
      UsageError: an option is missing, or records are not JSON.
      FraudError: the broker, the topic or the store of the dead letters fails.
    """
    assert options.topic is not None
    if _names_model(options) or options.results is not None:
        raise UsageError(
            "--to-topic: the stream scores them; leave out --model and --out", Code.OPTION_CONFLICT
        )
    if options.kafka is None:
        raise UsageError("--to-topic: name the broker as --kafka HOST:PORT", Code.OPTION_MISSING)
    letters = place(options.out, options.from_sink)
    # Imported here: scoring needs no client library.
    from beam_fraud.sinks.topic import TopicWriter
    from beam_fraud.sources.kafka.check import topic_partitions

    settings = broker_settings(options)
    topic_partitions(settings, options.topic)
    with temporary_directory() as directory:
        staged, counts = stage(options, letters, directory)
        for source in staged.sources():
            if is_csv_source(source):
                raise UsageError(
                    f"{source}: its dead letters are lines of CSV, but topics hold JSON; choose "
                    "others by --source, or replay these with --model",
                    Code.CSV_COLUMNS_UNKNOWN,
                )
        writer, sent = TopicWriter(settings, options.topic), 0
        what, total = f"sending to topic {options.topic}", counts.offered
        with doing(what, lambda: f"{sent:,} of {total:,} records"):
            for payload in staged.payloads():
                writer.write_with_headers(payload, ())
                sent += 1
            writer.flush()
        letters.mark_replayed(staged.settled())
    return {
        "offered": counts.offered,
        "already_replayed": counts.replayed,
        "incomplete": counts.incomplete,
        "topic": options.topic,
    }


def render_topic(result: dict[str, Any]) -> str:
    """Return the result as text for a terminal."""
    return (
        f"sent {result['offered']:,} records to topic {result['topic']} "
        f"({result['already_replayed']:,} were replayed before, {result['incomplete']:,} are not "
        "whole and need a repair)"
    )


def stage(
    options: ReplayOptions, letters: DeadLetterDirectory | DeadLetterTable, directory: Path
) -> tuple[StagedReplay, StagedCounts]:
    """Stage the records to replay in a file in `directory`.

    Raises:
      UsageError: an option is invalid, or a header is unknown.
      FraudError: a store fails, or the repaired file belongs to other dead letters.
    """
    staged = StagedReplay(directory / f"records{REPLAY}")
    staged.create()
    if options.repaired is None:
        refuse_missed(letters, choice_of(options))
        counts = staged.take(letters, choice_of(options), options.limit)
    else:
        if choice_of(options) != Choice():
            raise UsageError(
                "--from: takes every line of the file; leave out --reason and --source",
                Code.OPTION_CONFLICT,
            )
        file = absolute(Path(options.repaired))
        counts = staged.take_repaired(file, read_repaired(file), letters, options.limit)
    staged.name_sources(_header(options.header), letters.headers())
    return staged, counts


def _header(header: str | None) -> str | None:
    if header is None or not Path(header).expanduser().is_file():
        return header
    return read_header(Place.parse(header), format_of(header) or FileFormat("csv"))


def _left_out(counts: StagedCounts) -> dict[str, object]:
    return {"already_replayed": counts.replayed, "incomplete": counts.incomplete}


def _refuse_used(out: Path, tables: Mapping[str, FlaggedSink | IcebergRun | None]) -> None:
    """Check that the replay replaces nothing: its outputs are only a part of the run's."""
    check_output(Directory(out), f"--out {out}")
    known = (SCORES, SHADOW, DEAD_LETTERS, STREAM, "summary.json")
    held = [name for name in known if (out / name).exists()]
    if held:
        raise UsageError(
            f"--out {out}: holds {held[0]} of a run, which would be replaced; give a new directory",
            Code.OUTPUT_OCCUPIED,
        )
    for option, table in tables.items():
        if table is not None and table.for_run(out).holds_rows():
            raise UsageError(
                f"{option} {table.describe()}: holds the rows of a run, which would be replaced; "
                "give a new directory, or another name of the run",
                Code.OUTPUT_OCCUPIED,
            )


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Create a temporary directory under `out`; the next run removes a killed one's."""
    there = out.exists()
    make_directory(out)
    try:
        with RunOutputs(out, new_run_id()).held():
            staging = Staging(out, f"{REPLAYING}{new_run_id()}")
            staging.claim()
    except OSError as error:
        raise FraudError(
            f"--out {out}: cannot be written ({reason_of(error)})", Code.OUTPUT_UNWRITABLE
        ) from None
    staging.path.chmod(0o700)
    try:
        yield staging.path
    finally:
        staging.remove()
        if not there and not any(out.iterdir()):
            out.rmdir()


def _remember(
    staged: StagedReplay,
    letters: DeadLetterDirectory | DeadLetterTable,
    out: Path,
    sink: FlaggedSink | None,
) -> None:
    again = DeadLetterDirectory(out).read(Choice(), payloads=False)
    staged.forget_dead(_keys(again))
    letters.mark_replayed(staged.settled())
    if sink is not None and sink.database and isinstance(letters, DeadLetterDirectory):
        # Their run may have written them there as well.
        DeadLetterTable(sink.database).mark_replayed(staged.settled())


def _keys(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return (batch.select(KEY.names) for batch in batches)


def run_to_database(out: str, sink: str) -> dict[str, object]:
    """Write the spilled flagged rows under `out` to a database, and queue their alerts.

    Returns:
      `delivered` rows, `alerts_waiting` over all channels, and the `sink`.

    Raises:
      UsageError: the sink is no database.
      FraudError: there were never such rows, a file cannot be read, or the database fails.
    """
    to = parse_sink(sink, databases=True)
    if to.database is None:
        raise UsageError(
            "--sink: undelivered rows go to a database; or give --model and --out",
            Code.SINK_UNSUITED,
        )
    directory = local_directory(Place.parse(out)) / UNDELIVERED
    if not directory.is_dir():
        raise FraudError(f"{out}: no rows wait there for a database", Code.PLACE_EMPTY)
    with doing(f"writing rows to {to.describe()}"):
        rows = replay_undelivered(directory, DatabaseSink(to.database))
    waiting = 0
    if rows:
        waiting = sum(count.pending for count in Outbox(to.database).counts().values())
    return {"delivered": rows, "alerts_waiting": waiting, "sink": to.describe()}


def render_delivered(result: dict[str, Any]) -> str:
    """Return the result as text for a terminal."""
    text = f"{result['delivered']:,} rows written to {result['sink']}"
    if result["alerts_waiting"]:
        text += (
            f"\n{result['alerts_waiting']:,} alerts wait there: {own_call()} alerts resend, or the "
            "next run with the same --alert, sends them"
        )
    return text
