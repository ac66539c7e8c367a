"""`beam-fraud monitor`: alarms and figures of drift over an archive."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.channels.url import parse_channels
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.cli.commands.database import database_of
from beam_fraud.cli.commands.monitored_quality import (
    labels_of,
    monitored_quality,
    render_quality,
)
from beam_fraud.cli.commands.reports import report_files, write_report
from beam_fraud.cli.commands.times import false_alarm_rate, parse_moment
from beam_fraud.cli.options import MonitorOptions
from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.charts import percent
from beam_fraud.evaluation.drift import title
from beam_fraud.evaluation.quality.quality import Quality
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.drift import reference_counts, zone_of
from beam_fraud.monitoring.activity import doing
from beam_fraud.monitoring.drift.report import Alarm, DriftReport, Monitored, report_of
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.monitoring.otlp import OtlpTarget, exporting
from beam_fraud.operations.drift.database import count_database
from beam_fraud.operations.drift.notices import queue_alarms, snoozes_of, with_snoozes
from beam_fraud.operations.drift.places import count_places
from beam_fraud.operations.drift.weights import score_weights
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.url import masked, sqlite_url
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Features and alarms on the terminal.
_SHOWN = 8
#: Exit code of `--fail-if`.
_CONDITION = 3
#: Days after the last row that `--until` may be: longer is a mistake, not an outage.
_LONGEST_SILENCE = 366


def call(options: MonitorOptions, *, as_json: bool) -> Outcome:
    """Run the command; with `--fail-if alarms`, exit with 3 if an alarm goes on unsnoozed."""
    result = run(options)
    alarms = cast(Sequence[Mapping[str, Any]], result["alarms"])
    loud = any(one["until"] is None and one["snoozed_until"] is None for one in alarms)
    fails = options.fail_if == "alarms" and loud
    return Outcome(result, render, _CONDITION if fails else 0)


def run(options: MonitorOptions) -> dict[str, object]:
    """Count the archive, judge its days, and write and send what the options ask for.

    Returns:
      The fields of `DriftReport`, `quality`, `seconds`, and `out` and `metrics` where written.

    Raises:
      UsageError: an option is invalid.
      FraudError: the archive, the bundle or an output cannot be used, or an alert was not sent.
    """
    started = time.monotonic()
    rate = false_alarm_rate(options.false_alarms)
    since = _day(options.since)
    now = datetime.now(UTC) if options.until == "now" else parse_moment("--until", options.until)
    page = _file("--out", options.out, ".html")
    metrics = _file("--metrics", options.metrics, ".prom")
    target = OtlpTarget.of(options.otlp)
    channels = parse_channels(options.alerts, sys.stderr, pseudonymise=options.pseudonymise)
    source = _source(options)
    database = source if isinstance(source, str) else _database(options, source, channels)
    for channel in channels:
        channel.check()
    bundle = open_bundle(Place.parse(options.model))
    labels = labels_of(options)
    timezone = zone_of(bundle)
    also = [Place.parse(directory) for directory in options.also]
    shown = masked(source) if isinstance(source, str) else source.shown
    with doing(f"counting the rows of {shown}"):
        if isinstance(source, str):
            counted = count_database(source, bundle, timezone)
        else:
            counted = count_places([source, *also], bundle, options.segments, labels)
    if now is not None:
        _check_now(now, counted.summary, timezone)
    with doing("judging the days"):
        monitored = Monitored(
            bundle.model_id,
            counted.summary,
            reference_counts(counted.reference, counted.summary.layout),
            score_weights(bundle, counted.sample),
            counted.rows_other_models,
            counted.dead_letters,
            counted.dead_letters_undated,
            counted.notes,
            timezone,
        )
        report = report_of(monitored, rate, since=since, now=now)
    if database is not None:
        report = with_snoozes(report, snoozes_of(database))
    _warn(report, featureless=isinstance(source, Place) and not monitored.weights)
    quality = monitored_quality(counted, bundle, labels, report.alarms)
    written: dict[str, object] = {}
    if page is not None:
        _write_page(page, report, quality)
        written["out"] = str(page)
    if metrics is not None or target is not None:
        # Imported here: a report without gauges needs no client library.
        from beam_fraud.evaluation.monitor_report import MonitorReport
        from beam_fraud.monitoring.drift.gauges import exposition

        gauges = list(MonitorReport(report, quality).gauges())
        if metrics is not None:
            write_report(metrics, exposition(gauges))
            written["metrics"] = str(metrics)
        with exporting(target, "monitor", lambda: gauges):
            pass
    if channels and database is not None:
        _notify(database, channels, report)
    return {
        **asdict(report),
        "quality": None if quality is None else asdict(quality),
        **written,
        "seconds": round(time.monotonic() - started, 3),
    }


def render(result: Mapping[str, object]) -> str:
    """Return the result as text for a terminal."""
    fields = cast(dict[str, Any], result)
    windows = fields["windows"]
    judged = sum(window["judged"] for window in windows)
    lines = [
        fact("rows", fields["rows"], f"({windows[0]['day']} to {windows[-1]['day']})"),
        fact("days judged", judged, f"(of {len(windows):,})"),
        fact("alarms", len(fields["alarms"])),
    ]
    for one in fields["alarms"]:
        alarm = Alarm(**one)
        quiet = f", snoozed until {alarm.snoozed_until}" if alarm.snoozed_until else ""
        lines += ["", f"{title(alarm)} (weight {alarm.weight:.2f}{quiet})", f"  {alarm.advice}"]
    figures = [one for one in (fields["score"], *fields["features"]) if one["psi"] is not None]
    if figures:
        lines += ["", "last seven days against the training rows, segments against earlier days"]
        rows = [("", "PSI", "missing", "weight")]
        for one in sorted(figures, key=lambda f: -f["psi"])[:_SHOWN]:
            where = "" if one["segment"] is None else f" ({one['segment']})"
            missing = percent(one["missing"]) or ""
            rows.append((one["name"] + where, f"{one['psi']:.3f}", missing, f"{one['weight']:.2f}"))
        lines += table(rows, right=(1, 2, 3), margin=2)
    if fields["quality"] is not None:
        lines += ["", *render_quality(fields["quality"])]
    if fields["notes"]:
        lines += ["", *fields["notes"]]
    lines += ["", *(str(fields[name]) for name in ("out", "metrics") if name in fields)]
    return "\n".join(lines).rstrip()


def _day(text: str | None) -> str | None:
    try:
        return None if text is None else date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"--from {text}: not a day, as in 2024-01-31", Code.TIME_INVALID) from None


def _check_now(now: datetime, summary: Summary, zone: tzinfo) -> None:
    """Check that a time is about that of the rows.

    Raises:
      UsageError: it is before them, or over a year after them.
    """
    day = (now.astimezone(zone).date() - date(1970, 1, 1)).days
    if not summary.days[0] <= day <= summary.days[-1] + _LONGEST_SILENCE:
        first, last = (np.datetime64(int(one), "D") for one in (summary.days[0], summary.days[-1]))
        raise UsageError(
            f"--until {now:%Y-%m-%d}: the rows are from {first} to {last}; give a time between "
            "their first day and a year after their last",
            Code.TIME_INVALID,
        )


def _file(option: str, text: str | None, ending: str) -> Path | None:
    """Return the checked file of an option."""
    if text is None:
        return None
    if not text.lower().endswith(ending):
        raise UsageError(f"{option} {text}: must end in {ending}", Code.OUTPUT_NAME)
    if ending == ".html":
        return report_files([Place.parse(text)])[0]
    place = Place.parse(text)
    path = place.local
    if path is None or path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"{option} {text}: give a file in a directory that is there", Code.OUTPUT_NAME
        )
    return path


def _source(options: MonitorOptions) -> Place | str:
    """Return the archive, or the URL of the database that is read instead of one.

    Raises:
      UsageError: neither or both are given, or an option does not fit a database.
      FraudError: the database is not there or cannot be reached, or its tables are not ours.
    """
    directory, url = options.directory, options.database
    if (directory is None) == (url is None):
        code = Code.OPTION_MISSING if url is None else Code.OPTION_CONFLICT
        raise UsageError("give DIR, an archive, or --database URL, not both", code)
    if directory is not None or url is None:
        return Place.parse(str(directory))
    refused = (
        ("--segment", options.segments),
        ("--also", options.also),
        ("--sink", options.sink),
        ("--labels", options.labels),
    )
    for option, given in refused:
        if given:
            raise UsageError(
                f"{option}: not with --database, which is the only source, has no columns of "
                "segments, and holds the alerts",
                Code.OPTION_CONFLICT,
            )
    # Notices wait there.
    return database_of(url, writes=bool(options.alerts))


def _database(options: MonitorOptions, place: Place, channels: Sequence[Channel]) -> str | None:
    """Return the URL of the database of alerts and snoozes; None if there is none.

    Raises:
      UsageError: an option names no database, or channels have none.
    """
    url = None if options.sink is None else parse_sink(options.sink, databases=True).database
    if options.sink is not None and url is None:
        raise UsageError(
            f"--sink {options.sink}: alerts wait in a database; give "
            "postgresql://USER@HOST/DATABASE or sqlite:///FILE",
            Code.SINK_UNSUITED,
        )
    if url is None and place.local is not None:
        url = sqlite_url(place.local / "outbox.db")
    if url is None and channels:
        raise UsageError(
            f"--alert: alerts wait in a database, and {place.shown} can hold none; give "
            "--sink postgresql://USER@HOST/DATABASE",
            Code.SINK_UNSUITED,
        )
    return url


def _warn(report: DriftReport, *, featureless: bool) -> None:
    if not any(window.judged for window in report.windows):
        _LOG.warning(
            "%d days are too few to judge one: the usual is that of five weeks; the figures "
            "against the training rows need none",
            len(report.windows),
        )
    if featureless:
        _LOG.warning(
            "the rows keep no features, so the score, the amount, the flag rate and the volume are "
            "watched alone; score with --keep-features"
        )
    if report.rows_other_models:
        _LOG.warning("%s rows of other models are left out", f"{report.rows_other_models:,}")


def _write_page(path: Path, report: DriftReport, quality: Quality | None) -> None:
    # Imported here: Matplotlib takes half a second.
    from beam_fraud.evaluation.charts import render_page
    from beam_fraud.evaluation.drift import drift_sections, drift_subtitle
    from beam_fraud.evaluation.quality.page import quality_section

    with warnings.catch_warnings(), doing("drawing the page"):
        # The browser's fonts draw a page's text, whatever glyphs Matplotlib's lack.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        sections = drift_sections(report)
        if quality is not None:
            sections.append(quality_section(quality))
        page = render_page("Drift and quality", drift_subtitle(report), sections)
    write_report(path, page.encode())


def _notify(url: str, channels: Sequence[Channel], report: DriftReport) -> None:
    """Send the alarms that go on and are in no notice yet, those of a day together."""
    outbox = Outbox(url)
    outbox.begin()
    names = [channel.name for channel in channels]
    ids = queue_alarms(url, names, report, partial(notice_text, report.model_id))
    if not ids:
        return
    outcome = send_pending(outbox, channels, only=ids)
    failed = [one.error for one in outcome.channels.values() if one.error is not None]
    if failed:
        raise FraudError(
            f"the alarms were not sent ({failed[0]}) and wait in {outbox.describe()}: repeat the "
            "call to send them",
            Code.ALERTS_UNSENT,
        )


def notice_text(model_id: str, day: str, alarms: Sequence[Alarm]) -> str:
    """Return the text of a notice of alarms that were raised on one day."""
    lines = [f"Drift of {model_id}, noticed on the rows of {day}:"]
    lines += [f"- {title(one)} (weight {one.weight:.2f}). {one.advice}" for one in alarms]
    return "\n".join(lines)
