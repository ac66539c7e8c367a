"""`beam-fraud skew`: whether two archives have the same features and scores of the same rows."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from beam_fraud.cli.commands.reports import report_files, write_report
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import SkewOptions
from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.decisions.rules.figure_condition import FigureCondition
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.monitoring.activity import doing
from beam_fraud.monitoring.skew import FIGURES, Skew
from beam_fraud.operations.skew import MOST_CHANGES, SkewFound, SkewSettings, compare_archives
from beam_fraud.storage.atomic import whole_file
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Columns on the terminal.
_SHOWN = 12
#: Exit code of `--fail-if`.
_CONDITION = 3


def call(options: SkewOptions, *, as_json: bool) -> Outcome:
    """Run the command; the exit code is 3 if a condition of `--fail-if` holds."""
    result = run(options)
    return Outcome(result, render, _CONDITION if result["fail_if"] else 0)


def run(options: SkewOptions) -> dict[str, object]:
    """Compare the archives, and write what the options ask for.

    Returns:
      The fields of `Skew`; `figures` and `fail_if`, the conditions that hold; `seconds`, and `out`,
      `rows` and `rows_written` where written.

    Raises:
      UsageError: an option is invalid.
      FraudError: an archive or an output cannot be used, or a condition compares a figure that is
        undefined.
    """
    started = time.monotonic()
    conditions = [FigureCondition.read("--fail-if", text, FIGURES) for text in options.fail_if]
    if not (math.isfinite(options.tolerance) and 0 <= options.tolerance <= 1):
        raise UsageError(
            f"--tolerance {options.tolerance:g}: must be from 0 to 1", Code.OPTION_VALUE
        )
    settings = SkewSettings(
        options.model,
        parse_moment("--from", options.since),
        parse_moment("--until", options.until),
        options.tolerance,
    )
    places = Place.parse(options.first), Place.parse(options.second)
    if places[0] == places[1]:
        raise UsageError(
            f"{places[0].shown}: give two archives, not one twice", Code.OPTION_CONFLICT
        )
    reports = Place.parse_all(options.out)
    with sole_writer("--out", *reports):
        pages, rows = report_files(reports), _rows_file(options.rows)
        with doing("comparing the archives"):
            found = _compared(places, settings, rows)
        for page in pages:
            write_report(page, _report(found.skew, page))
    figures = found.skew.figures()
    met = [condition.text for condition in conditions if condition.holds(figures)]
    for text in met:
        _LOG.error("--fail-if %s: holds", text)
    written: dict[str, object] = {}
    if rows is not None:
        written = {"rows": str(rows), "rows_written": found.written}
        if found.cut:
            _LOG.warning(
                "%s has the first %d differences; there are more, as the figures say",
                rows,
                MOST_CHANGES,
            )
    return {
        **asdict(found.skew),
        "figures": figures,
        "fail_if": met,
        "out": [str(page) for page in pages],
        **written,
        "seconds": round(time.monotonic() - started, 3),
    }


def _compared(places: tuple[Place, Place], settings: SkewSettings, rows: Path | None) -> SkewFound:
    with ExitStack() as stack:
        changes: BinaryIO | None = None
        try:
            if rows is not None:
                changes = stack.enter_context(whole_file(rows))
            return compare_archives(*places, settings, changes)
        except OSError as error:
            where = error.filename or rows or "TMPDIR"
            raise FraudError(
                f"{where}: cannot be written: {error.strerror or error}", Code.OUTPUT_UNWRITABLE
            ) from None


def render(result: Mapping[str, object]) -> str:
    """Return the result as text for a terminal."""
    # Imported here: Matplotlib takes half a second.
    from beam_fraud.evaluation.skew import skew_remarks, skew_sentence

    skew = msgspec.convert({name: result[name] for name in Skew.__dataclass_fields__}, Skew)
    lines = [
        fact("in both", skew.pairs),
        fact("only in first", skew.only_in_first),
        fact("only in second", skew.only_in_second),
        fact("rows differ", skew.rows_differ),
        "",
        skew_sentence(skew),
        *skew_remarks(skew),
    ]
    changed = [one for one in skew.columns if one.differ]
    if changed:
        rows = [("column", "kind", "differ", "share", "mean", "largest")]
        for one in changed[:_SHOWN]:
            mean, largest = (
                "" if value is None else f"{value:.4g}" for value in (one.mean, one.largest)
            )
            rows.append((one.name, one.kind, f"{one.differ:,}", f"{one.share:.4%}", mean, largest))
        lines += ["", *table(rows, right=(2, 3, 4, 5), margin=2)]
        if len(changed) > _SHOWN:
            lines.append(f"  and {len(changed) - _SHOWN:,} more columns")
    outputs = [*cast(Sequence[str], result["out"])]
    if "rows" in result:
        outputs.append(str(result["rows"]))
    return "\n".join([*lines, "", *outputs]).rstrip()


def _rows_file(text: str | None) -> Path | None:
    """Return the checked file of `--rows`."""
    if text is None:
        return None
    place = Place.parse(text)
    path = place.local
    if path is None or path.suffix != ".parquet" or path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"--rows {place.shown}: give a file ending in .parquet, in a directory that is there",
            Code.OUTPUT_NAME,
        )
    return path


def _report(skew: Skew, path: Path) -> bytes:
    if path.suffix.lower() == ".json":
        fields: dict[str, Any] = {**asdict(skew), "figures": skew.figures()}
        return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"
    # Imported here: Matplotlib takes half a second.
    from beam_fraud.evaluation.charts import render_page
    from beam_fraud.evaluation.report.sections import markdown_report
    from beam_fraud.evaluation.skew import skew_sections

    page = render_page if path.suffix.lower() == ".html" else markdown_report
    subtitle = f"{skew.first} against {skew.second}"
    return page("Skew of two archives", subtitle, skew_sections(skew)).encode()
