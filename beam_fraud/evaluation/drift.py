"""The page of a monitor: sections of plots and tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_fraud.evaluation.charts import (
    FRAUD,
    GENUINE,
    Notice,
    Part,
    Plot,
    Section,
    Table,
    drawn,
    percent,
    plot,
    visible,
)
from beam_fraud.monitoring.drift.report import LARGE, MODERATE, Alarm, DriftReport

#: Features in the plot; the table has all.
_DRAWN = 25
_COLOURS = {"stable": GENUINE, "moderate": "#e1812c", "large": FRAUD, "unknown": "#7f7f7f"}


def drift_sections(report: DriftReport) -> list[Section]:
    """Return the sections of the page in order."""
    return [
        Section("Alarms", _alarms(report)),
        Section("Days", _days(report)),
        *([Section("The last day by hour", _hours(report))] if report.hours else []),
        Section("Dead letters and lateness", _records(report)),
        Section("Score and features against the training rows", _features(report)),
        Section("What was counted", _counted(report)),
    ]


def drift_subtitle(report: DriftReport) -> str:
    """Return the subtitle of the page."""
    first, last = report.windows[0].day, report.windows[-1].day
    return f"{report.model_id} \N{MIDDLE DOT} {report.rows:,} rows, {first} to {last}"


def _alarms(report: DriftReport) -> tuple[Part, ...]:
    judged = sum(window.judged for window in report.windows)
    every = 1 / report.false_alarms_a_day
    rule = (
        f"{judged:,} days were judged by {report.tests:,} statistics together; where nothing "
        f"changes, one false alarm is expected in {every:g} days or more."
    )
    if not report.alarms:
        return (Notice(f"No alarm. {rule}"),)
    parts: list[Part] = [
        Notice(f"{title(alarm)}. {alarm.advice}", warning=alarm in report.loud_alarms)
        for alarm in report.alarms
    ]
    rows = tuple(
        (
            visible(alarm.what),
            visible(alarm.segment or "all rows"),
            alarm.since,
            alarm.raised,
            alarm.until or "goes on",
            alarm.snoozed_until,
            value_of(alarm, alarm.observed),
            value_of(alarm, alarm.expected),
            alarm.weight,
        )
        for alarm in report.alarms
    )
    columns = (
        *("what", "where", "since", "raised", "until", "snoozed until"),
        *("value", "usual", "weight"),
    )
    return (*parts, Table(columns, rows), rule)


def title(alarm: Alarm) -> str:
    """Return what changed, where, since when and how much, as a sentence without its end."""
    where = "" if alarm.segment is None else f" of {visible(alarm.segment)}"
    until = "" if alarm.until is None else f" until {alarm.until}"
    if alarm.kind in ("profile", "reference"):
        size = f"stability index {alarm.observed:.2f}"
    else:
        size = f"{value_of(alarm, alarm.observed)}, usually {value_of(alarm, alarm.expected)}"
    return f"{visible(alarm.what)}{where} since {alarm.since}{until}: {size}"


def value_of(alarm: Alarm, value: float) -> str:
    """Return a value of an alarm as text in its unit."""
    if alarm.measure == "volume":
        return f"{value:,.0f} rows"
    if alarm.kind in ("profile", "reference"):
        return f"{value:.3f}"
    return percent(value) or "unknown"


def _days(report: DriftReport) -> tuple[Part, ...]:
    return (
        _over_days(
            report,
            "rows_a_day",
            "Rows a day; red marks days on which an alarm was raised.",
            [float(window.rows) for window in report.windows],
            "rows",
        ),
        _over_days(
            report,
            "flag_rate",
            "Share of flagged rows, in percent; red marks days on which an alarm was raised.",
            [np.nan if w.flagged is None else 100 * w.flagged for w in report.windows],
            "flagged, %",
        ),
    )


def _over_days(
    report: DriftReport, name: str, caption: str, values: Sequence[float], unit: str
) -> Plot:
    days = np.array([window.day for window in report.windows], dtype="datetime64[D]")

    def draw(axes: Any) -> None:
        axes.plot(days, values, color=GENUINE, linewidth=1.2)
        judged = [window.judged for window in report.windows]
        if any(judged):
            axes.axvspan(days[judged.index(True)], days[-1], color=GENUINE, alpha=0.06)
        marked = [at for at, window in enumerate(report.windows) if window.alarms]
        axes.plot(days[marked], [values[at] for at in marked], "o", color=FRAUD, markersize=4)
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", labelrotation=30)

    return plot(name, caption, draw, width=9.5, height=2.6)


def _hours(report: DriftReport) -> tuple[Part, ...]:
    over = [one for one in report.hours if one.over or one.rows]
    usual = [one for one in report.hours if one.usual_rows is not None]

    def draw(axes: Any) -> None:
        axes.bar([one.hour for one in over], [one.rows for one in over], color=GENUINE)
        if usual:
            hours, rows = [one.hour for one in usual], [one.usual_rows for one in usual]
            axes.plot(hours, rows, "_", color=FRAUD, markersize=12, label="usual")
            axes.legend()
        axes.set_xlabel("hour")
        axes.set_ylabel("rows")
        axes.set_xlim(-0.7, 23.7)

    rows = tuple(
        (
            f"{one.hour:02d}:00",
            one.rows,
            None if one.usual_rows is None else round(one.usual_rows),
            percent(one.flagged),
            percent(one.usual_flagged),
            "over" if one.over else "not over",
        )
        for one in report.hours
    )
    caption = (
        f"Rows of each hour of {report.windows[-1].day}, and what is usual at this hour of "
        "the weekday."
    )
    columns = ("hour", "rows", "usual", "flagged", "usual flagged", "state")
    return (plot("hours", caption, draw, width=9.5, height=2.6), Table(columns, rows))


def _records(report: DriftReport) -> tuple[Part, ...]:
    parts: list[Part] = list(report.notes)
    if report.records:
        parts.append("The last seven whole days, and the four weeks before.")
        rows = tuple(
            (visible(one.what), one.count, percent(one.share), percent(one.earlier))
            for one in report.records
        )
        parts.append(Table(("what", "records", "share", "earlier"), rows))
    if report.dead_letters_undated:
        parts.append(
            f"{report.dead_letters_undated:,} dead letters have no time that can be read, and "
            "belong to no day; they raise no alarm."
        )
    elif not report.dead_letters:
        parts.append("There are no dead letters.")
    return tuple(parts)


def _features(report: DriftReport) -> tuple[Part, ...]:
    figures = [report.score, *report.features]
    whole = [one for one in figures if one.segment is None]
    known = sorted((one for one in whole if one.psi is not None), key=lambda one: -(one.psi or 0))
    parts: list[Part] = [
        f"The last seven whole days against the reference in the bundle; segments, whose training "
        f"rows are unknown, against their own four weeks before. From {MODERATE:g} on, an "
        f"index is moderate, from {LARGE:g} on large. The weight is how far the log-odds of the "
        "score move if the values of a feature are shuffled, as a share of the largest move."
    ]
    if known:
        parts.append(_indices(known[:_DRAWN]))
    rows = tuple(
        (
            visible(one.name),
            visible(one.segment or "all rows"),
            one.rows,
            one.psi,
            one.state,
            one.js,
            None if one.ks is None else f"{one.ks:.3f} to {one.ks_most:.3f}",
            percent(one.missing),
            percent(one.unseen),
            one.weight,
        )
        for one in sorted(figures, key=lambda one: (one.segment or "", -(one.psi or 0.0)))
    )
    columns = ("what", "where", "rows", "PSI", "state", "JS", "KS", "missing", "unseen", "weight")
    return (*parts, Table(columns, rows))


def _indices(figures: Sequence[Any]) -> Plot:
    shown = list(reversed(figures))

    def draw(axes: Any) -> None:
        values = [one.psi for one in shown]
        axes.barh(range(len(shown)), values, color=[_COLOURS[one.state] for one in shown])
        axes.set_yticks(range(len(shown)), [drawn(one.name) for one in shown])
        for limit in (MODERATE, LARGE):
            axes.axvline(limit, color="#7f7f7f", linewidth=0.8, linestyle="--")
        axes.set_xlabel("population stability index")
        axes.grid(axis="y", visible=False)

    caption = "Stability index of each feature and the score against the training rows."
    return plot("stability", caption, draw, width=9.5, height=1.2 + 0.22 * len(shown))


def _counted(report: DriftReport) -> tuple[Part, ...]:
    rows: list[tuple[str, int | float | str | None]] = [
        ("rows of the model", report.rows),
        ("rows of other models, left out", report.rows_other_models),
        ("days", len(report.windows)),
        ("dead letters", sum(report.dead_letters.values())),
        *((f"\N{EM DASH} {visible(name)}", n) for name, n in report.dead_letters.items()),
        ("statistics judged together each day", report.tests),
    ]
    return (Table(("what", "value"), tuple(rows)),)
