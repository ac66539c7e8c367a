"""`beam-fraud evaluate`: measure bundles on labelled transactions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from beam_fraud.cli.commands.figures import (
    render_comparisons,
    render_intervals,
    render_metrics,
    render_models,
)
from beam_fraud.cli.commands.inputs import input_places
from beam_fraud.cli.commands.reports import report_files, write_report
from beam_fraud.cli.commands.times import parse_moment
from beam_fraud.cli.options import EvaluateOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.bootstrap import Bootstrap, bootstrap
from beam_fraud.evaluation.candidate import Candidate, candidate_of
from beam_fraud.evaluation.curves import parse_cost
from beam_fraud.evaluation.evaluation import Report, ReportSettings, comparisons_of, evaluate_models
from beam_fraud.evaluation.holdout import Evaluated, evaluated_rows
from beam_fraud.models.bundle import check_packages, open_bundle
from beam_fraud.models.fitting import Rows
from beam_fraud.models.handbook import card_precision
from beam_fraud.models.metrics import measure
from beam_fraud.models.threshold import LeastCost
from beam_fraud.monitoring.activity import doing
from beam_fraud.records.label_file import read_label_file
from beam_fraud.schema.event_time import event_micros, moment_of
from beam_fraud.storage.lock import sole_writer
from beam_fraud.storage.store import Directory, check_output
from beam_fraud.storage.urls import Place

_log = logging.getLogger(__name__)


def run(options: EvaluateOptions) -> dict[str, object]:
    """Score the rows and compare with their labels.

    Raises:
      FraudError: there are no labels or rows, or a bundle cannot be used.
    """
    if options.from_labels:
        # Imported here, as below: it reads databases, which takes half a second.
        from beam_fraud.cli.commands import traffic

        return traffic.run(options)
    for given, wanted in ((options.files, "FILE"), (options.models, "--model")):
        if not given:
            raise UsageError(f"give {wanted}, or --from-labels --database URL", Code.OPTION_MISSING)
    if options.database is not None:
        raise UsageError("--database: needs --from-labels", Code.OPTION_CONFLICT)
    reports = Place.parse_all(options.out)
    with sole_writer("--out", *reports):
        return _evaluate(options, reports)


def _evaluate(options: EvaluateOptions, reports: Sequence[Place]) -> dict[str, object]:
    threshold = options.threshold
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: must be from 0 to 1", Code.OPTION_VALUE)
    files, png = report_files(reports), _png_directory(options.png)
    prices = parse_cost(options.cost)
    read, history = input_places(options.files), input_places(options.history)
    since, until = parse_moment("--from", options.since), parse_moment("--until", options.until)
    bundles = [open_bundle(place) for place in Place.parse_all(options.models)]
    for bundle in bundles:
        check_packages(bundle)
    given = None if options.labels is None else read_label_file(Path(options.labels))
    evaluated = evaluated_rows(
        bundles,
        Rows(read, history, since, until, given),
        schema=options.schema,
        protocol=options.protocol,
        segments=options.segments,
    )
    if evaluated.dataset.rows_dead:
        _log.warning("%s", evaluated.dataset.left_out)
    candidates = [
        candidate_of(bundle, evaluated.transactions[place], evaluated.features[place], threshold)
        for place, bundle in enumerate(bundles)
    ]
    times = event_micros(evaluated.transactions[0])
    first, last = int(times.min()), int(times.max())
    rows = evaluated.rows
    reach, warnings = evaluated.reach, evaluated.warnings(bundles)
    for warning in warnings:
        _log.warning("%s", warning)
    resampled = bootstrap(
        rows.labels,
        [candidate.scores for candidate in candidates],
        [candidate.threshold for candidate in candidates],
        accounts=rows.accounts,
        count=options.resamples,
        seed=options.seed,
    )
    written: list[str] = []
    if files or png is not None:
        report = _report(options, prices, evaluated, candidates, resampled, (first, last), warnings)
        with doing("drawing the report"):
            written = _write(report, files, png)
    figures = [
        _figures(candidate, resampled, place, evaluated, options)
        for place, candidate in enumerate(candidates)
    ]
    dataset = evaluated.dataset
    comparisons = [asdict(comparison) for comparison in comparisons_of(candidates, resampled)]
    return {
        **(figures[0] if len(figures) == 1 else {"models": figures, "comparisons": comparisons}),
        **dataset.rows_by_outcome,
        "warnings": warnings,
        **({} if reach is None else {"windows": reach.to_dict()}),
        "bootstrap": {
            "unit": resampled.unit,
            "resamples": resampled.resamples,
            "seed": resampled.seed,
        },
        "reports": written,
    }


def render(result: dict[str, object]) -> str:
    """Return the result as text for a terminal."""
    if "traffic" in result:
        from beam_fraud.cli.commands import traffic

        return traffic.render(result)
    bootstrapped = cast(dict[str, Any], result["bootstrap"])
    if "models" in result:
        models = cast(list[dict[str, Any]], result["models"])
        comparisons = cast(list[dict[str, Any]], result["comparisons"])
        lines = [*render_models(models), "", *render_comparisons(comparisons, bootstrapped)]
    else:
        lines = [str(result["model_id"]), "", render_metrics(result, "")]
        lines += ["", *render_intervals(result, bootstrapped)]
    reports = (f"report: {path}" for path in cast(list[str], result["reports"]))
    return "\n".join([*lines, "", *reports]).rstrip()


def _figures(
    candidate: Candidate,
    resampled: Bootstrap,
    place: int,
    evaluated: Evaluated,
    options: EvaluateOptions,
) -> dict[str, Any]:
    labels = evaluated.rows.labels
    figures = measure(labels, candidate.scores, candidate.threshold).to_dict()
    rows = evaluated.rows
    if options.protocol is not None and rows.accounts is not None:
        precision = card_precision(
            rows.times, rows.accounts, labels, candidate.scores, options.cards
        )
        figures |= {"protocol": options.protocol, f"card_precision_at_{options.cards}": precision}
    intervals = {
        name: None if interval is None else asdict(interval)
        for name, interval in resampled.intervals(place).items()
    }
    return {"model_id": candidate.bundle.model_id, **figures, "intervals": intervals}


def _report(
    options: EvaluateOptions,
    prices: LeastCost,
    evaluated: Evaluated,
    candidates: Sequence[Candidate],
    resampled: Bootstrap,
    span: tuple[int, int],
    warnings: Sequence[str],
) -> Report:
    settings = ReportSettings(options.cards, prices, options.seed)
    segmentations = evaluated.segmentations()
    dead = evaluated.dataset.rows_dead
    first, last = (moment_of(micros).isoformat() for micros in span)
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files=tuple(Path(file).name for file in options.files),
        span=(first, last),
        timezone=evaluated.timezone,
        protocol=options.protocol,
        cards=options.cards,
        warnings=(*warnings, *((f"{dead:,} rows that can't be read are left out.",) * bool(dead))),
        unit=resampled.unit,
        resamples=resampled.resamples,
        seed=options.seed,
        models=evaluate_models(evaluated.rows, candidates, segmentations, resampled, settings),
        comparisons=comparisons_of(candidates, resampled),
    )


def _write(report: Report, files: Sequence[Path], png: Path | None) -> list[str]:
    from beam_fraud.evaluation.charts import save_plots
    from beam_fraud.evaluation.report.sections import report_bytes, sections_of

    # Draw only if needed: drawing takes most of the time.
    drawn = png is not None or any(path.suffix.lower() != ".json" for path in files)
    sections = sections_of(report) if drawn else ()
    for path in files:
        write_report(path, report_bytes(report, sections, path.suffix.lower()))
    try:
        plots = [] if png is None else save_plots(sections, png)
    except OSError as error:
        raise FraudError(
            f"--png {png}: cannot be written: {error.strerror or error}", Code.OUTPUT_UNWRITABLE
        ) from None
    return [str(path) for path in (*files, *plots)]


def _png_directory(value: str | None) -> Path | None:
    """Return the directory of plots, which is created later.

    Raises:
      UsageError: it is a file or a URL.
    """
    if value is None:
        return None
    path = Place.parse(value).local
    if path is None or (path.exists() and not path.is_dir()):
        raise UsageError(f"--png {value}: give a local directory", Code.OUTPUT_NAME)
    check_output(Directory(path), f"--png {value}")
    return path
