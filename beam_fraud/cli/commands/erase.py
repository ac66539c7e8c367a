"""`beam-fraud erase`: erase accounts, or old data, from every store."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from beam_fraud.alerts.pseudonym import KEY_VARIABLE, Pseudonyms
from beam_fraud.cli.options import EraseOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.operations.erasure.database import erase_from_database
from beam_fraud.operations.erasure.directory import erase_from_directory, keeps_a_state
from beam_fraud.operations.erasure.json_lines import erase_from_lines, refuse_other_files
from beam_fraud.operations.erasure.parquet import erase_from_scored, remove_unfinished
from beam_fraud.operations.erasure.record import Erasure
from beam_fraud.operations.erasure.subject import Accounts, Before, Subject
from beam_fraud.schema.duration import microseconds
from beam_fraud.sinks.base import FlaggedSink
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.batch_outputs import local_directory, new_run_id
from beam_fraud.storage.database.connection import check_database, prepare_database
from beam_fraud.storage.database.upsert import is_utf8
from beam_fraud.storage.urls import Place, absolute
from beam_fraud.wording import printable

_LOG = logging.getLogger(__name__)

_STATE = (
    "{out}: the state of the stream or server keeps accounts until its windows have passed them "
    "(it is not edited), and rows of one that was killed: start and stop it, then erase again"
)


def run(options: EraseOptions) -> dict[str, object]:
    """Erase rows store by store, and write a record to each.

    After an interruption, repeat the call for the remaining stores.

    Returns:
      `erasure_id`, `kind` and `subject` of the records; `accounts`, their number, and
      `accounts_unknown`, those found nowhere; `rows` by store and table, their `total`, and `notes`
      on what remains.

    Raises:
      UsageError: an option is invalid.
      FraudError: a store cannot be read or written, or a run uses it.
    """
    subject = _subject(options)
    erasure = Erasure.of(new_run_id(), subject)
    sinks = _sinks(options)
    outs = [local_directory(Place.parse(out)) for out in options.outs]
    files = [absolute(Path(file)) for file in options.files]
    for file in files:
        try:
            refuse_other_files(file)
        except FraudError as error:
            raise FraudError(f"--file {error}", error.code) from None
    rows: dict[str, dict[str, int]] = {}
    notes = []
    for out in outs:
        with doing(f"erasing from {out}"):
            rows[str(out)] = erase_from_directory(out, subject, dry_run=options.dry_run)
        if not options.dry_run:
            erasure.note_in_directory(out, rows[str(out)])
        if keeps_a_state(out):
            notes.append(_STATE.format(out=out))
    for sink in sinks:
        rows[sink.describe()] = _erase_from_sink(sink, subject, erasure, dry_run=options.dry_run)
        if sink.retention:
            notes.append(sink.retention)
    for file in files:
        with doing(f"erasing from {file}"):
            lines = erase_from_lines(file, subject, dry_run=options.dry_run)
        rows[str(file)] = {"lines": lines}
    return {
        "dry_run": options.dry_run,
        "erasure_id": None if options.dry_run else erasure.erasure_id,
        "kind": erasure.kind,
        "subject": erasure.subject,
        "accounts": len(subject.ids) if isinstance(subject, Accounts) else 0,
        "accounts_unknown": subject.unknown if isinstance(subject, Accounts) else [],
        "rows": rows,
        "total": sum(sum(counts.values()) for counts in rows.values()),
        "notes": notes,
    }


def call(options: EraseOptions, *, as_json: bool) -> Outcome:
    """Count, ask for confirmation, and delete; `--yes` and `--dry-run` ask nothing.

    Raises:
      UsageError: there is no terminal to ask on.
      FraudError: the answer is no.
    """
    if not (options.yes or options.dry_run):
        if not sys.stdin.isatty():
            raise UsageError(
                "erase: deletes permanently; add --yes, or --dry-run to count first",
                Code.CONSENT_MISSING,
            )
        counted = run(replace(options, dry_run=True))
        if unknown(counted):
            return Outcome(counted, render, exit_code=1)
        warn_of_unknown(counted)
        question = f"Delete {counted['total']:,} rows permanently? [y/N] "
        print(question, end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise FraudError("nothing was deleted", Code.PLACE_EMPTY)
    result = run(options)
    if options.yes or options.dry_run:
        warn_of_unknown(result)
    return Outcome(result, render, exit_code=1 if unknown(result) else 0)


def render(result: dict[str, Any]) -> str:
    """Return the counts for a terminal; they name no account."""
    lines = []
    for place, counts in result["rows"].items():
        lines.append(place)
        rows = [(name, f"{count:,}") for name, count in counts.items()]
        lines += table(rows, right={1}, margin=2)
    if unknown(result):
        lines.append("these places have no data of the account; check the id and the places")
    elif result["accounts_unknown"]:
        missed, accounts = len(result["accounts_unknown"]), result["accounts"]
        lines.append(f"these places have no data of {missed:,} of the {accounts:,} accounts")
    done = "would be deleted" if result["dry_run"] else "deleted"
    lines.append(f"{result['total']:,} rows {done}")
    if result["erasure_id"]:
        lines.append(f"recorded as {result['erasure_id']}")
    return "\n".join([*lines, *result["notes"]])


def unknown(result: dict[str, Any]) -> bool:
    """Return whether some accounts were found nowhere."""
    return result["kind"] == "account" and not result["total"]


def warn_of_unknown(result: dict[str, Any]) -> None:
    """Warn of accounts found nowhere, if others were found."""
    if result["accounts_unknown"] and not unknown(result):
        ids = " ".join(map(printable, result["accounts_unknown"]))
        _LOG.warning("--account %s: these places have no data of it; check the id", ids)


def _subject(options: EraseOptions) -> Subject:
    if bool(options.accounts) == (options.older_than is not None):
        code = Code.OPTION_CONFLICT if options.accounts else Code.OPTION_MISSING
        raise UsageError("erase: give either --account or --older-than", code)
    if not (options.sinks or options.outs or options.files):
        raise UsageError(
            "erase: name a place, as --out DIR, --sink URL or --file FILE", Code.OPTION_MISSING
        )
    if options.older_than is None:
        ids = tuple(dict.fromkeys(options.accounts))
        if not all(map(is_utf8, ids)):
            raise UsageError(
                "--account: an id is not UTF-8; give it as the data have it", Code.OPTION_VALUE
            )
        if not os.environ.get(KEY_VARIABLE):
            return Accounts(ids)
        pseudonyms = Pseudonyms.from_environment()
        return Accounts(ids, tuple(pseudonyms.of("account", id) for id in ids))
    try:
        span = microseconds(options.older_than)
    except UsageError as error:
        raise UsageError(f"--older-than {error}", Code.TIME_INVALID) from None
    if not span:
        raise UsageError(
            "--older-than 0: would delete everything; give a longer time", Code.CONSENT_MISSING
        )
    return Before(datetime.now(UTC) - timedelta(microseconds=span))


def _sinks(options: EraseOptions) -> list[FlaggedSink]:
    sinks = []
    for url in options.sinks:
        sink = parse_sink(url)
        if not sink.exists():
            raise FraudError(f"--sink {sink.describe()}: is not there", Code.PLACE_EMPTY)
        if sink.database is not None:
            check_database(sink.database)
        sinks.append(sink)
    return sinks


def _erase_from_sink(
    sink: FlaggedSink, subject: Subject, erasure: Erasure, *, dry_run: bool
) -> dict[str, int]:
    """Return rows by table."""
    if sink.database is not None:
        prepare_database(sink.database)
        with doing(f"erasing from {sink.describe()}"):
            rows = erase_from_database(sink.database, subject, dry_run=dry_run)
        if not dry_run:
            erasure.note_in_database(sink.database, rows)
        return rows
    with doing(f"erasing from {sink.describe()}"):
        if sink.archive is not None:
            return _erase_from_archive(sink, sink.archive, subject, erasure, dry_run=dry_run)
        if isinstance(subject, Before):
            return sink.erase((), subject.moment, dry_run=dry_run).rows
        erased = sink.erase(subject.ids, dry_run=dry_run)
        subject.note(erased.accounts)
        return erased.rows


def _erase_from_archive(
    sink: FlaggedSink, directory: Path, subject: Subject, erasure: Erasure, *, dry_run: bool
) -> dict[str, int]:
    # It finishes killed runs, and excludes others.
    sink.begin(erasure.erasure_id)
    try:
        if not dry_run:
            remove_unfinished(directory)
        return {"flagged": erase_from_scored(directory, subject, dry_run=dry_run)}
    finally:
        sink.discard(erasure.erasure_id)
