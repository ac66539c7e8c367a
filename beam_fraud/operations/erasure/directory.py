"""Erase rows from the outputs of runs and streams under `--out DIR`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beam_fraud.errors import Code, FraudError
from beam_fraud.operations.erasure.database import erase_from_database
from beam_fraud.operations.erasure.json_lines import erase_from_lines
from beam_fraud.operations.erasure.parquet import (
    erase_from_dead_letters,
    erase_from_scored,
    remove_unfinished,
)
from beam_fraud.operations.erasure.record import RECORDS
from beam_fraud.operations.erasure.subject import Subject
from beam_fraud.storage.batch_outputs import (
    DEAD_LETTERS,
    FEATURES,
    SCORES,
    SHADOW,
    STREAM,
    UNDELIVERED,
    RunOutputs,
    new_run_id,
)
from beam_fraud.storage.database.connection import prepare_database, sqlite_url
from beam_fraud.storage.parquet_writer import is_ours
from beam_fraud.storage.staging import UNCOMMITTED, UNFINISHED_PARTS, abandoned
from beam_fraud.storage.stream_outputs import ServerOutputs, StreamOutputs


def erase_from_directory(out: Path, subject: Subject, *, dry_run: bool = False) -> dict[str, int]:
    """Erase a subject from scores, rows of shadows, dead letters, spilled rows, alerts and outbox.

    Other writers are excluded.

    Args:
      out: `--out` of a run or a stream, absolute.
      subject: accounts or a time limit.
      dry_run: only count the rows.

    Returns:
      Rows per store; tables as `outbox.<table>`.

    Raises:
      FraudError: it is no such directory, a run or a stream uses it, or a file cannot be read or
        written.
    """
    branches = (SCORES, SHADOW, DEAD_LETTERS, FEATURES)
    known = (*branches, UNDELIVERED, STREAM, "outbox.db", "summary.json")
    if not any((out / name).exists() for name in known):
        raise FraudError(f"--out {out}: holds nothing of a run or a stream", Code.PLACE_EMPTY)
    with _held(out):
        if not dry_run:
            _refuse_hidden_rows(out)
            for name in (SCORES, SHADOW, DEAD_LETTERS, UNDELIVERED):
                remove_unfinished(out / name)
            _remove_uncommitted(out)
        counts = {
            SCORES: erase_from_scored(out / SCORES, subject, dry_run=dry_run),
            DEAD_LETTERS: erase_from_dead_letters(out / DEAD_LETTERS, subject, dry_run=dry_run),
            UNDELIVERED: erase_from_scored(out / UNDELIVERED, subject, dry_run=dry_run),
        }
        if (out / SHADOW).exists():
            counts[SHADOW] = erase_from_scored(out / SHADOW, subject, dry_run=dry_run)
        for file in sorted(out.glob("*.jsonl")):
            if file.name != RECORDS:
                counts[file.name] = erase_from_lines(file, subject, dry_run=dry_run)
        if (out / "outbox.db").exists():
            url = sqlite_url(out / "outbox.db")
            prepare_database(url)
            tables = erase_from_database(url, subject, dry_run=dry_run)
            counts |= {f"outbox.{table}": rows for table, rows in tables.items()}
    return counts


def keeps_a_state(out: Path) -> bool:
    """Return whether the state of a stream or a server there contains accounts."""
    return any(outputs(out).checkpoint.exists() for outputs in (StreamOutputs, ServerOutputs))


def _refuse_hidden_rows(out: Path) -> None:
    """Refuse hidden parts of Flink's savepoint: a resumed stream publishes them."""
    if keeps_a_state(out):
        # It recreates them from the rows in its state.
        return
    for name in (SCORES, SHADOW, DEAD_LETTERS):
        if any(is_ours(part) for part in (out / name).glob(UNFINISHED_PARTS)):
            raise FraudError(
                f"--out {out}: a stream has left hidden files in {name}; resume it from its "
                "savepoint and stop it, then erase again",
                Code.OUTPUT_IN_USE,
            )


def _remove_uncommitted(out: Path) -> None:
    """Remove rows that killed runs kept for a table, not the list of the files copied there."""
    for directory in out.glob(f"{UNCOMMITTED}*"):
        for staging in abandoned(directory):
            remove_unfinished(staging.path)
            for part in staging.path.glob("part-*.parquet"):
                part.unlink()


@contextmanager
def _held(out: Path) -> Iterator[None]:
    if not (out / STREAM).is_dir():
        with RunOutputs(out, new_run_id()).held():
            yield
        return
    stream = StreamOutputs(out)
    stream.begin()
    try:
        yield
    finally:
        stream.release()
