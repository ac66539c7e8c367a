"""`beam-fraud dead-letters list` and `export`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.cli.commands.database import database_of
from beam_fraud.cli.options import ExportDeadLettersOptions, ListDeadLettersOptions
from beam_fraud.cli.options.pipelines import DeadLetterOptions
from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.operations.dead_letters.database import DeadLetterTable
from beam_fraud.operations.dead_letters.directory import DeadLetterDirectory
from beam_fraud.operations.dead_letters.repaired import write_json_lines
from beam_fraud.operations.dead_letters.store import Choice, DeadLetters, undelivered_rows
from beam_fraud.records.faults import REASONS, line_of
from beam_fraud.sinks.url import parse_sink
from beam_fraud.sources.csv import DELIMITERS, split_header
from beam_fraud.sources.csv_text import split_record
from beam_fraud.sources.segment import CsvLayout
from beam_fraud.storage.batch_outputs import local_directory
from beam_fraud.storage.urls import Place, absolute
from beam_fraud.wording import did_you_mean, printable

#: Maximum of characters shown of a value.
_LONGEST = 60


def choice_of(options: DeadLetterOptions) -> Choice:
    """Return the filters of dead letters."""
    return Choice(options.reason, options.source)


def place(out: str | None, sink: str | None) -> DeadLetterDirectory | DeadLetterTable:
    """Return the checked store of dead letters of a call.

    Raises:
      UsageError: the call names none or two.
      FraudError: it does not exist or cannot be reached.
    """
    if (out is None) == (sink is None):
        raise UsageError(
            "dead letters: name the --out directory of a run, or a database as --sink",
            Code.OPTION_MISSING,
        )
    store: DeadLetterDirectory | DeadLetterTable
    if out is not None:
        store = DeadLetterDirectory(local_directory(Place.parse(out)))
    else:
        store = _table(sink or "")
    store.check()
    return store


def run_list(options: ListDeadLettersOptions) -> dict[str, object]:
    """Count dead letters, and show the first of them.

    Returns:
      `dead_letters`, `replayed` and `undelivered` rows; `by_reason` and `by_source`; `rows`; a
      `note` if no dead letter matches.

    Raises:
      UsageError, FraudError: as `place`.
    """
    letters = place(options.out, options.sink)
    missed = _missed(letters, choice_of(options))
    reasons, sources = Counter[str](), Counter[str]()
    rows: list[dict[str, Any]] = []
    replayed = 0
    for batch in letters.read(choice_of(options), payloads=options.payload):
        for row in batch.to_pylist():
            replayed += row["replayed"]
            if row["replayed"] and not options.all:
                continue
            reasons[row["reason"]] += 1
            sources[row["source"]] += 1
            if len(rows) < options.limit:
                rows.append(row)
    undelivered = 0
    if isinstance(letters, DeadLetterDirectory):
        undelivered = undelivered_rows(letters.out)
    return {
        "place": letters.describe(),
        "dead_letters": reasons.total(),
        "replayed": replayed,
        "undelivered": undelivered,
        "by_reason": dict(reasons.most_common()),
        "by_source": dict(sources.most_common()),
        "note": missed,
        "rows": _with_records(letters, rows, options),
    }


def run_export(options: ExportDeadLettersOptions) -> dict[str, object]:
    """Write the dead letters that were not replayed to a JSON-lines file.

    Raises:
      UsageError, FraudError: as `place`, or the file exists.
    """
    letters = place(options.out, options.sink)
    refuse_missed(letters, choice_of(options))
    file = absolute(Path(options.to))
    rows = write_json_lines(file, _waiting(letters, choice_of(options)))
    return {"exported": rows, "file": str(file)}


def render_list(result: dict[str, Any]) -> str:
    """Return the counts and rows, safe for a terminal."""
    lines = [fact("dead letters", result["dead_letters"], f"({result['place']})")]
    reasons = [(reason, f"{rows:,}") for reason, rows in result["by_reason"].items()]
    lines += table(reasons, right={1}, margin=2)
    lines += [f"  {printable(source)}: {rows:,}" for source, rows in result["by_source"].items()]
    if result["replayed"]:
        lines.append(fact("replayed", result["replayed"]))
    if result["undelivered"]:
        about = "(rows that a database did not take; replay them with --sink URL)"
        lines.append(fact("undelivered", result["undelivered"], about))
    for row in result["rows"]:
        line = "" if row["line"] is None else f"line {row['line']}, "
        where = f"{row['source']} {line}" if line else f"{row['source']}:{row['position']} "
        detail = (row["detail"] or "").removeprefix(line)
        detail += "" if row["value"] is None else f": {row['value']}"
        text = f"{where}{row['reason']} {detail} {row.get('payload') or ''}"
        lines.append(
            printable(text.rstrip(), escaped=True) + (" (replayed)" if row["replayed"] else "")
        )
    if result["note"]:
        lines.append(result["note"])
    left = result["dead_letters"] - len(result["rows"])
    if left:
        lines.append(f"... and {left:,} more; --limit shows more of them")
    return "\n".join(lines)


def render_export(result: dict[str, Any]) -> str:
    """Return the result and the next step."""
    return (
        f"exported {result['exported']:,} dead letters to {result['file']}\n"
        "It holds whole records, so personal data. Repair the payloads, then put them through "
        "again: dead-letters replay ... --from FILE"
    )


def refuse_missed(letters: DeadLetters, choice: Choice) -> None:
    """Check that the filters match a dead letter, replayed ones included.

    Raises:
      UsageError: the reason is unknown.
      FraudError: no dead letter has the reason or the source.
    """
    missed = _missed(letters, choice)
    if missed is not None:
        raise FraudError(missed, Code.PLACE_EMPTY)


def _table(url: str) -> DeadLetterTable:
    if parse_sink(url, databases=True).database is None:
        raise UsageError(
            "--sink: dead letters are kept in a database or under --out; name one",
            Code.SINK_UNSUITED,
        )
    return DeadLetterTable(database_of(url, option="--sink", writes=False))


def _waiting(letters: DeadLetters, choice: Choice) -> Iterator[pa.RecordBatch]:
    for batch in letters.read(choice):
        yield batch.filter(pc.invert(batch.column("replayed")))


def _missed(letters: DeadLetters, choice: Choice) -> str | None:
    """Return why no dead letter matches; None if one does, or without filters."""
    if choice.reason is not None and choice.reason not in REASONS:
        known = f"there are: {', '.join(REASONS)}"
        hint = did_you_mean(choice.reason, REASONS, known, form=str)
        raise UsageError(f"--reason {choice.reason}: no such reason; {hint}", Code.PLACE_EMPTY)
    if choice == Choice() or any(map(len, letters.read(choice, payloads=False))):
        return None
    if choice.source is None:
        return f"--reason {choice.reason}: no dead letter of this reason in {letters.describe()}"
    sources = {
        source
        for batch in letters.read(Choice(), payloads=False)
        for source in batch.column("source").unique().to_pylist()
    }
    if choice.source in sources:
        return f"--source {choice.source}: none of its dead letters is {choice.reason}"
    there = ", ".join(sorted(map(printable, sources))) or "none"
    raise FraudError(
        f"--source {choice.source}: no dead letter in {letters.describe()} is of it "
        f"(there are some of: {there})",
        Code.PLACE_EMPTY,
    )


def _with_records(
    letters: DeadLetters, rows: list[dict[str, Any]], options: ListDeadLettersOptions
) -> list[dict[str, object]]:
    """Return rows with the `line` in their file, if any, and the wrong `value`."""
    payloads: dict[tuple[str, int], bytes | None] = {
        (row["source"], row["position"]): row["payload"] for row in rows
    }
    if rows and not options.payload:
        # Records may have megabytes: read only the files with these rows.
        missing = set(payloads)
        for batch in letters.read(choice_of(options)):
            for row in batch.to_pylist():
                if (key := (row["source"], row["position"])) in missing:
                    missing.remove(key)
                    payloads[key] = row["payload"]
            if not missing:
                break
    headers = letters.headers()
    return [
        _shown(row, payloads[row["source"], row["position"]], headers, payload=options.payload)
        for row in rows
    ]


def _shown(
    row: dict[str, Any], record: bytes | None, headers: Mapping[str, str], *, payload: bool
) -> dict[str, object]:
    line, detail = line_of(row["detail"])
    value = wrong_value(row["reason"], detail, record, headers.get(row["source"]))
    shown = {**row, "line": line, "value": value}
    del shown["payload"]
    if payload:
        shown["payload"] = None if record is None else record.decode("utf-8", "backslashreplace")
    return shown


def wrong_value(reason: str, detail: str, record: bytes | None, header: str | None) -> str | None:
    r"""Return the wrong value, quoted and on one line; None if unknown.

    Args:
      reason: reason of the dead letter.
      detail: detail without the line.
      record: the record itself, or None.
      header: header of its CSV file, or None.

    Example:
      >>> wrong_value("wrong_type", "a: not of the type it should be", b'{"a": "x\\n"}', None)
      "'x\\n'"
    """
    column = detail.partition(f": {REASONS.get(reason, '')}")[0]
    if column == detail:
        # Form of the detail for a JSON member of another type.
        column = detail.partition(": ")[0]
    if record is None or reason.startswith("missing_"):
        return None
    value = _fields(record, column, header).get(column)
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    quoted = repr(text[:_LONGEST]) if isinstance(value, str) else text[:_LONGEST]
    return quoted + ("…" if len(text) > _LONGEST else "")


def _fields(record: bytes, column: str, header: str | None) -> Mapping[str, object]:
    """Return the fields of a record by name; none if it cannot be read."""
    if header is None:
        try:
            decoded = msgspec.json.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return decoded if isinstance(decoded, dict) else {}
    for delimiter in DELIMITERS:
        names = split_header(header, delimiter)
        if column in names:
            layout = CsvLayout(names, delimiter, 0)
            fields = split_record(record.decode("utf-8", "backslashreplace"), layout)
            return {} if fields is None else dict(zip(names, fields, strict=True))
    return {}
