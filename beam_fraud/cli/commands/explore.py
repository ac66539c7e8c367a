"""`beam-fraud explore`: explore transactions on a page of plots and tables."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import ExploreOptions
from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.charts import Section, render_page, save_plots
from beam_fraud.evaluation.explore.exploration import explore
from beam_fraud.evaluation.explore.report import report_sections, subtitle
from beam_fraud.features.dataset import Dataset, load_dataset, mixed_currencies
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.toml import load_schema
from beam_fraud.sources.source import input_paths
from beam_fraud.storage.atomic import write_file
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)

#: Maximum of features on the terminal.
_SHOWN = 5


def run(options: ExploreOptions) -> dict[str, object]:
    """Explore the rows, and write the page.

    Raises:
      UsageError: an option is invalid.
      FraudError: there are no rows, or a file cannot be read or written.
    """
    out = Place.parse(options.out)
    with sole_writer("--out", out):
        return _explore(options, Path(out.shown).expanduser())


def _explore(options: ExploreOptions, out: Path) -> dict[str, object]:
    started = time.monotonic()
    since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
    given, history = input_places(options.files), input_places(options.history)
    schema = load_schema(options.schema)
    files = _files(given)
    _refuse_inputs(out, [*files, *_files(history)])
    _make_directory(out.parent, "--out")
    if options.png is not None:
        png = Path(options.png).expanduser()
        _make_directory(png, "--png")
        check_output(Directory(png), f"--png {png}")
    dataset = load_dataset(given, schema, since=since, until=until, history=history, labels="known")
    _refuse_nothing(dataset)
    if (mixed := mixed_currencies(dataset.transactions, schema)) is not None:
        _LOG.warning("%s", mixed)
    with doing(f"exploring {dataset.transactions.num_rows:,} rows"):
        exploration = explore(dataset, schema)
    pictures: list[Path] = []
    with warnings.catch_warnings(), doing("drawing the page"):
        # The browser's fonts draw a page's text, whatever glyphs Matplotlib's lack.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        sections = report_sections(exploration, files)
        page = render_page("Exploration", subtitle(exploration, f"schema {schema.name}"), sections)
        _write(out, page)
        if options.png is not None:
            pictures = _pictures(sections, Path(options.png).expanduser())
    return {
        "out": str(out),
        "png": [str(path) for path in pictures],
        "schema": schema.name,
        "files": files,
        "seconds": round(time.monotonic() - started, 3),
        **exploration.to_dict(),
    }


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    fields = cast(dict[str, Any], result)
    counted = fields["balance"]
    dead = sum(fields["dead_reasons"].values())
    others = fields["rows_tombstone"] + fields["rows_correction"]
    skipped = f", {others:,} deleted or changed later" if others else ""
    rate = counted["rate"]["rate"]
    lines = [
        fact(
            "rows read",
            fields["rows_in"],
            f"({dead:,} dead, {fields['rows_duplicate']:,} repeated ids{skipped})",
        ),
        fact("transactions", counted["rows"], f"({fields['span'][0]} to {fields['span'][1]})"),
        fact(
            "frauds",
            counted["frauds"],
            "(no labels)" if rate is None else f"({rate:.3%} of those labelled)",
        ),
        fact("equal rows", fields["duplicates"]["rows"]),
    ]
    if fields["separations"]:
        lines += ["", "alone they separate best (average precision, ROC AUC)"]
        rows = [
            (s["feature"], f"{s['average_precision']:.3f}", f"{s['roc_auc']:.3f}")
            for s in fields["separations"][:_SHOWN]
        ]
        lines += table(rows, margin=2)
    if fields["suspects"]:
        lines += ["", "suspects"]
        lines += [f"  {s['feature']}: {s['kind']}: {s['why']}" for s in fields["suspects"]]
    lines += ["", *(f"{a['topic']}: {a['text']}" for a in fields["advice"])]
    lines += ["", f"{fields['out']} in {fields['seconds']:.1f} s"]
    if fields["png"]:
        lines.append(f"{len(fields['png'])} plots in {Path(fields['png'][0]).parent}")
    return "\n".join(lines)


def _files(places: Sequence[Place]) -> list[str]:
    return input_paths(places)


def _refuse_inputs(out: Path, files: Sequence[str]) -> None:
    if out.is_dir():
        raise UsageError(f"--out {out}: is a directory, give a file", Code.OUTPUT_NAME)
    if os.path.realpath(out) in {os.path.realpath(file) for file in files}:
        raise UsageError(f"--out {out}: is one of the files to read", Code.PLACE_SHARED)
    if out.suffix not in (".html", ".htm"):
        raise UsageError(f"--out {out}: must end in .html", Code.OUTPUT_NAME)


def _refuse_nothing(dataset: Dataset) -> None:
    if not dataset.transactions.num_rows:
        raise FraudError(
            f"no transaction to explore among {dataset.rows_in:,} rows "
            "in the files and times given",
            Code.INPUT_EMPTY,
        )


def _make_directory(directory: Path, option: str) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FraudError(
            f"{option} {directory}: cannot be made ({error.strerror}); give another directory",
            Code.OUTPUT_UNWRITABLE,
        ) from None
    if not os.access(directory, os.W_OK):
        raise FraudError(
            f"{option} {directory}: cannot be written into; give another directory",
            Code.OUTPUT_UNWRITABLE,
        )


def _write(out: Path, page: str) -> None:
    try:
        write_file(out, page.encode())
    except OSError as error:
        raise FraudError(
            f"--out {out}: cannot be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None


def _pictures(sections: Sequence[Section], directory: Path) -> list[Path]:
    try:
        return save_plots(sections, directory)
    except OSError as error:
        raise FraudError(
            f"--png {directory}: cannot be written ({error.strerror})", Code.OUTPUT_UNWRITABLE
        ) from None
