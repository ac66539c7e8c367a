"""`beam-fraud monitor`: alarms and figures of drift over an archive."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, cast

from beam_fraud.alerts.channels.channel import Channel
from beam_fraud.alerts.dispatch import send_pending
from beam_fraud.alerts.outbox import Outbox
from beam_fraud.alerts.queue import Notice, queue_notices
from beam_fraud.cli.commands.reports import report_files, write_report
from beam_fraud.cli.commands.scoring import channels_of
from beam_fraud.cli.commands.times import false_alarm_rate
from beam_fraud.cli.options import MonitorOptions
from beam_fraud.cli.terminal.columns import fact, table
from beam_fraud.cli.terminal.command import Outcome
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.charts import percent
from beam_fraud.evaluation.drift import title
from beam_fraud.models.bundle import open_bundle
from beam_fraud.models.drift import reference_counts
from beam_fraud.monitoring.activity import doing
from beam_fraud.monitoring.drift.report import Alarm, DriftReport, Monitored, report_of
from beam_fraud.operations.drift.places import count_places
from beam_fraud.operations.drift.weights import score_weights
from beam_fraud.sinks.url import parse_sink
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.database.url import sqlite_url
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Features and alarms on the terminal.
_SHOWN = 8
#: Exit code of `--fail-if`.
_CONDITION = 3


def call(options: MonitorOptions, *, as_json: bool) -> Outcome:
    """Run the command; the exit code is 3 if an alarm goes on and `--fail-if alarms` is given."""
    result = run(options)
    alarms = cast(Sequence[Mapping[str, Any]], result["alarms"])
    fails = options.fail_if == "alarms" and any(one["until"] is None for one in alarms)
    return Outcome(result, render, _CONDITION if fails else 0)


def run(options: MonitorOptions) -> dict[str, object]:
    """Count the archive, judge its days, and write and send what the options ask for.

    Returns:
      The fields of `DriftReport`, `seconds`, and `out` and `metrics` where written.

    Raises:
      UsageError: an option is invalid.
      FraudError: the archive, the bundle or an output cannot be used, or an alert was not sent.
    """
    started = time.monotonic()
    rate = false_alarm_rate(options.false_alarms)
    since = _day(options.since)
    page = _file("--out", options.out, ".html")
    metrics = _file("--metrics", options.metrics, ".prom")
    channels = channels_of(options.alerts, sys.stderr, pseudonymise=options.pseudonymise)
    place = Place.parse(options.directory)
    outbox = _outbox(options, place, channels)
    bundle = open_bundle(Place.parse(options.model))
    also = [Place.parse(directory) for directory in options.also]
    with doing(f"counting the rows of {options.directory}"):
        counted = count_places([place, *also], bundle, options.segments)
    with doing("judging the days"):
        monitored = Monitored(
            bundle.model_id,
            counted.summary,
            reference_counts(counted.reference, counted.summary.layout),
            score_weights(bundle, counted.sample),
            counted.rows_other_models,
            counted.dead_letters,
        )
        report = report_of(monitored, rate, since=since)
    _warn(report, monitored)
    written: dict[str, object] = {}
    if page is not None:
        _write_page(page, report)
        written["out"] = str(page)
    if metrics is not None:
        # Imported here: a report without gauges needs no client library.
        from beam_fraud.monitoring.drift.gauges import exposition

        write_report(metrics, exposition(report))
        written["metrics"] = str(metrics)
    if outbox is not None:
        _notify(outbox, channels, report)
    return {**asdict(report), **written, "seconds": round(time.monotonic() - started, 3)}


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
        lines += ["", f"{title(alarm)} (weight {alarm.weight:.2f})", f"  {alarm.advice}"]
    figures = [one for one in (fields["score"], *fields["features"]) if one["psi"] is not None]
    if figures:
        lines += ["", "last seven days against the training rows, segments against earlier days"]
        rows = [("", "PSI", "missing", "weight")]
        for one in sorted(figures, key=lambda f: -f["psi"])[:_SHOWN]:
            where = "" if one["segment"] is None else f" ({one['segment']})"
            missing = percent(one["missing"]) or ""
            rows.append((one["name"] + where, f"{one['psi']:.3f}", missing, f"{one['weight']:.2f}"))
        lines += table(rows, right=(1, 2, 3), margin=2)
    lines += ["", *(str(fields[name]) for name in ("out", "metrics") if name in fields)]
    return "\n".join(lines).rstrip()


def _day(text: str | None) -> str | None:
    try:
        return None if text is None else date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"--from {text}: not a day, as in 2024-01-31", Code.TIME_INVALID) from None


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


def _outbox(options: MonitorOptions, place: Place, channels: Sequence[Channel]) -> Outbox | None:
    """Return the database in which alerts wait; None without channels."""
    if not channels:
        if options.sink is not None:
            raise UsageError(
                "--sink: the monitor writes alerts alone to it; give --alert URL, too",
                Code.OPTION_CONFLICT,
            )
        return None
    url = None if options.sink is None else parse_sink(options.sink).database
    if options.sink is not None and url is None:
        raise UsageError(
            f"--sink {options.sink}: alerts wait in a database; give "
            "postgresql://USER@HOST/DATABASE or sqlite:///FILE",
            Code.SINK_UNSUITED,
        )
    if url is None:
        if place.local is None:
            raise UsageError(
                f"--alert: alerts wait in a database, and {place.shown} can hold none; give "
                "--sink postgresql://USER@HOST/DATABASE",
                Code.SINK_UNSUITED,
            )
        url = sqlite_url(place.local / "outbox.db")
    for channel in channels:
        channel.check()
    return Outbox(url)


def _warn(report: DriftReport, monitored: Monitored) -> None:
    if not any(window.judged for window in report.windows):
        _LOG.warning(
            "%d days are too few to judge one: the usual is that of five weeks; the figures "
            "against the training rows need none",
            len(report.windows),
        )
    if not monitored.weights:
        _LOG.warning(
            "the rows keep no features, so the score, the amount, the flag rate and the volume are "
            "watched alone; score with --keep-features"
        )
    if report.rows_other_models:
        _LOG.warning("%d rows of other models are left out", report.rows_other_models)


def _write_page(path: Path, report: DriftReport) -> None:
    # Imported here: Matplotlib takes half a second.
    from beam_fraud.evaluation.charts import render_page
    from beam_fraud.evaluation.drift import drift_sections, drift_subtitle

    with warnings.catch_warnings(), doing("drawing the page"):
        # The browser's fonts draw a page's text, whatever glyphs Matplotlib's lack.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        page = render_page("Drift", drift_subtitle(report), drift_sections(report))
    write_report(path, page.encode())


def _notify(outbox: Outbox, channels: Sequence[Channel], report: DriftReport) -> None:
    """Send the alarms that go on: those of one day as one notice, once."""
    notices = notices_of(report)
    if not notices:
        return
    names = [channel.name for channel in channels]
    outbox.begin()
    persistently(outbox.url, lambda connection: queue_notices(connection, names, notices))
    ids = {notice.delivery_id(name) for notice in notices for name in names}
    outcome = send_pending(outbox, channels, only=ids)
    failed = [one.error for one in outcome.channels.values() if one.error is not None]
    if failed:
        raise FraudError(
            f"the alarms were not sent ({failed[0]}) and wait in {outbox.describe()}: repeat the "
            "call to send them",
            Code.ALERTS_UNSENT,
        )


def notices_of(report: DriftReport) -> list[Notice]:
    """Return a notice for each day on which alarms that go on were raised."""
    days: dict[str, list[Alarm]] = {}
    for alarm in report.open_alarms:
        days.setdefault(alarm.raised, []).append(alarm)
    notices = []
    for day, alarms in days.items():
        lines = [f"Drift of {report.model_id}, noticed on the rows of {day}:"]
        lines += [f"- {title(one)} (weight {one.weight:.2f}). {one.advice}" for one in alarms]
        notices.append(Notice(("drift", report.model_id, day), "\n".join(lines)))
    return notices
