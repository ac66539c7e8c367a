"""`beam-fraud dead-letters replay`: repaired records put through the graph of `score` again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from beam_fraud.cli.commands import score
from beam_fraud.cli.commands.dead_letters import ChoiceOptions, place, refuse_missed
from beam_fraud.cli.commands.score import ScoreOptions
from beam_fraud.errors import FraudError, UsageError
from beam_fraud.operations.dead_letters.database import DeadLetterTable
from beam_fraud.operations.dead_letters.directory import DeadLetterDirectory
from beam_fraud.operations.dead_letters.repaired import read_repaired
from beam_fraud.operations.dead_letters.staged import StagedCounts, StagedReplay
from beam_fraud.operations.dead_letters.store import KEY, Choice
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.sinks.parquet import ParquetSink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.sources.csv import read_header
from beam_fraud.sources.file_format import REPLAY, FileFormat, format_of
from beam_fraud.storage.batch_outputs import (
    DEAD_LETTERS,
    SCORES,
    STREAM,
    RunOutputs,
    local_directory,
    new_run_id,
)
from beam_fraud.storage.folder import make_directory, reason_of
from beam_fraud.storage.staging import REPLAYING, Staging
from beam_fraud.storage.urls import absolute


@dataclass(frozen=True, kw_only=True)
class RepairOptions(ChoiceOptions):
    """Which records are put through again."""

    #: A file of JSON lines with repaired records, or None for the records as they are.
    repaired: str | None = None
    #: A file that begins with the header of the CSV that records came from, or that header.
    header: str | None = None
    #: Records at most.
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(RepairOptions):
    """What scores them, and where the results go."""

    #: How they are scored; `files` is empty, and `sink` that for flagged rows.
    scoring: ScoreOptions


def run(options: ReplayOptions) -> dict[str, object]:
    """Score dead letters anew; what dies again keeps its source and position.

    Those that did not die again are remembered, and not offered another time.

    Returns:
      The summary of `score`, with `offered`, `already_replayed` and `incomplete` records.

    Raises:
      UsageError: an option that cannot be meant, or a header that is not known.
      FraudError: as `score`; or the directory for the results holds some already.
    """
    letters = place(options.out, options.sink)
    out = local_directory(options.scoring.out)
    _refuse_used(out, options.scoring.sink)
    with _workplace(out) as directory:
        staged, counts = stage(options, letters, directory)
        if not counts.offered:
            return {"offered": 0, **_left_out(counts)}
        try:
            summary = score.run(replace(options.scoring, files=(str(staged.path),)))
        finally:
            # Alerts that could not be sent fail the command after all else is done.
            if not options.scoring.dry_run and (out / "summary.json").exists():
                _remember(staged, letters, out, options.scoring.sink)
    return {**summary, "offered": counts.offered, **_left_out(counts)}


def render(result: dict[str, Any]) -> str:
    """The summary for a terminal."""
    lines = [f"offered       {result['offered']:>12,}   (dead letters put through again)"]
    if result["already_replayed"]:
        lines.append(f"  left out    {result['already_replayed']:>12,}   (replayed before)")
    if result["incomplete"]:
        lines.append(
            f"  left out    {result['incomplete']:>12,}   (no whole record is kept; repair them)"
        )
    if "rows_in" in result or "dry_run" in result:
        lines.append(score.render(result))
    return "\n".join(lines)


def stage(
    options: RepairOptions, letters: DeadLetterDirectory | DeadLetterTable, directory: Path
) -> tuple[StagedReplay, StagedCounts]:
    """Bring the records that are put through again together in a file in `directory`.

    Raises:
      UsageError: an option that cannot be meant, or a header that is not known.
      FraudError: a place refuses, or the repaired file is not one of these dead letters.
    """
    staged = StagedReplay(directory / f"records{REPLAY}")
    staged.create()
    if options.repaired is None:
        refuse_missed(letters, options.choice)
        counts = staged.take(letters, options.choice, options.limit)
    else:
        if options.choice != Choice():
            raise UsageError("--from: takes every line of the file; leave --reason and --source")
        file = absolute(Path(options.repaired))
        counts = staged.take_repaired(file, read_repaired(file), letters, options.limit)
    staged.name_sources(_header(options.header), letters.headers())
    return staged, counts


def _header(given: str | None) -> str | None:
    if given is None or not Path(given).expanduser().is_file():
        return given
    return read_header(given, format_of(given) or FileFormat("csv"))


def _left_out(counts: StagedCounts) -> dict[str, object]:
    return {"already_replayed": counts.replayed, "incomplete": counts.incomplete}


def _refuse_used(out: Path, sink: str | None) -> None:
    """See that the replay replaces nothing: what it leaves is but a part of what was scored."""
    held = [
        name for name in (SCORES, DEAD_LETTERS, STREAM, "summary.json") if (out / name).exists()
    ]
    if held:
        raise UsageError(
            f"--out {out}: holds {held[0]} of a run, which would be replaced; give a new directory"
        )
    place = None if sink is None else parse_sink(sink)
    if isinstance(place, ParquetSink) and any(place.directory.glob("part-*.parquet")):
        raise UsageError(
            f"--sink {place.describe()}: holds the rows of a run, which would be replaced; "
            "give a new directory"
        )


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A directory under `out` that goes when this is over; the next run removes a killed one's."""
    there = out.exists()
    make_directory(out)
    try:
        with RunOutputs(out, new_run_id()).held():
            staging = Staging(out, f"{REPLAYING}{new_run_id()}")
            staging.claim()
    except OSError as error:
        raise FraudError(f"--out {out}: cannot be written ({reason_of(error)})") from None
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
    sink: str | None,
) -> None:
    again = DeadLetterDirectory(out).read(Choice(), payloads=False)
    staged.forget_dead(_keys(again))
    letters.mark_replayed(staged.settled())
    place = None if sink is None else parse_sink(sink)
    if isinstance(place, DatabaseSink) and isinstance(letters, DeadLetterDirectory):
        # The run that made them may have written them there as well.
        DeadLetterTable(place.url).mark_replayed(staged.settled())


def _keys(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return (batch.select(KEY.names) for batch in batches)
