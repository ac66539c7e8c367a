"""`beam-fraud schema infer` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.options import CheckSchemaOptions, InferSchemaOptions
from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.inference.check import check_files, unread_roles
from beam_fraud.evaluation.inference.draft import draft_schema
from beam_fraud.evaluation.inference.sample import read_sample
from beam_fraud.monitoring.activity import doing
from beam_fraud.records.doubts import warnings_of
from beam_fraud.schema.toml import load_schema
from beam_fraud.sources.columns import absence, absent_columns
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.atomic import write_file
from beam_fraud.wording import printable

#: Columns of numbers in the table of a check.
_NUMBERS = range(2, 5)


def run_infer(options: InferSchemaOptions) -> dict[str, object]:
    """Draft a schema.

    Raises:
      UsageError: `--out` cannot be used.
      FraudError: a file cannot be read, or has no rows.
    """
    places = input_places(options.files)
    out = None if options.out is None else _out(options.out)
    with doing("reading the first rows"):
        sample = read_sample(places)
    with doing("telling columns apart"):
        draft = draft_schema(sample)
    if out is not None:
        try:
            write_file(out, draft.text.encode())
        except OSError as error:
            raise FraudError(
                f"--out {out}: cannot be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
            ) from None
    return {
        "files": list(sample.files),
        "rows": draft.rows,
        "out": None if out is None else str(out),
        "schema": draft.text,
        "unknown": list(draft.unknown),
        "labels": list(draft.labels),
    }


def render_infer(result: dict[str, object]) -> str:
    """Return the draft, or where it is and what it leaves open."""
    fields = cast(dict[str, Any], result)
    if fields["out"] is None:
        return str(fields["schema"]).rstrip("\n")
    lines = [f"{fields['out']}: a draft by {fields['rows']:,} rows"]
    return "\n".join([*lines, *(f"? {printable(line)}" for line in fields["unknown"])])


def _out(name: str) -> Path:
    path = Path(name).expanduser()
    if path.suffix != ".toml" or path.is_dir():
        raise UsageError(f"--out {name}: must be a file ending in .toml", Code.OUTPUT_NAME)
    if path.exists():
        raise UsageError(
            f"--out {name}: exists, and may have been edited; give another file",
            Code.OUTPUT_OCCUPIED,
        )
    return path


def call_check(options: CheckSchemaOptions, *, as_json: bool) -> Outcome:
    """Check files; the exit code is 1 if a role has no value."""
    result = run_check(options)
    return Outcome(result, render_check, 1 if result["roles_unread"] else 0)


def run_check(options: CheckSchemaOptions) -> dict[str, object]:
    """Count what the schema reads of each column.

    Raises:
      UsageError: the schema is invalid.
      FraudError: a file cannot be read, or lacks a column.
    """
    places = input_places(options.files)
    schema = load_schema(options.schema)
    files = find_inputs(places, schema, labels="known")
    with doing(f"reading {len(files):,} files"):
        reading = check_files(files, schema)
    column = schema.roles["event_time"]
    warnings = warnings_of(reading.doubts, schema)
    if refusal := reading.times.mixture(column) or reading.times.refusal(column):
        warnings.insert(0, refusal)
    lacking = absent_columns([file.columns for file in files], schema)
    if lacking:
        warnings.append(absence(lacking, schema))
    unread = unread_roles(reading, schema, lacking)
    warnings += [
        f"no value of column {schema.roles[role]!r} ({role}) is read"
        for role in unread
        if schema.roles[role] not in lacking
    ]
    return {
        "schema": schema.name,
        "files": [file.path for file in files],
        "rows": reading.rows,
        "valid": reading.valid,
        "malformed": {"records": dict(reading.malformed), "examples": reading.malformed_examples},
        "event_times": reading.times.to_dict(),
        "columns": [one.to_dict() for one in reading.columns.values()],
        "roles_unread": unread,
        "warnings": warnings,
    }


def render_check(result: dict[str, object]) -> str:
    """Return a table with a line per column."""
    fields = cast(dict[str, Any], result)
    rows: list[tuple[str, ...]] = [("column", "use", "read", "absent", "not read", "such as")]
    for one in fields["columns"]:
        why = ", ".join(f"{reason} {count:,}" for reason, count in one["unread"].items())
        examples = ", ".join(printable(repr(example)) for example in one["examples"])
        rows.append(
            (
                *(printable(one["column"]), one["use"], f"{one['read']:,}", f"{one['absent']:,}"),
                *(f"{sum(one['unread'].values()):,}", f"{examples} ({why})" if why else ""),
            )
        )
    span = fields["event_times"]
    lines = [
        fact("rows", fields["rows"], f"({fields['valid']:,} with every value read)"),
        *([fact("event times", span["first"], f"to {span['last']}")] if span else []),
    ]
    for reason, count in fields["malformed"]["records"].items():
        shown = ", ".join(printable(repr(one)) for one in fields["malformed"]["examples"])
        lines.append(fact(reason, count, f"records, such as {shown}"))
    lines += ["", *table(rows, right=_NUMBERS)]
    return "\n".join([*lines, *(f"warning: {printable(one)}" for one in fields["warnings"])])
