"""The section of the monitor's page about quality."""

from __future__ import annotations

from typing import Any

from beam_fraud.evaluation.charts import FRAUD, GENUINE, Notice, Part, Section, Table, plot, visible
from beam_fraud.evaluation.quality.quality import Period, Quality
from beam_fraud.evaluation.traffic import Estimate

#: Ticks of the axis of weeks.
_TICKS = 6


def quality_section(quality: Quality) -> Section:
    """Return expected and measured figures of each week, and whether they agree."""
    assumption = quality.assumption
    head = {
        True: "Expected figures agree with labels",
        False: "Do not rely on expected figures",
        None: "Expected figures are unchecked",
    }[assumption.holds]
    parts: list[Part] = [
        Notice(f"{head}: {visible(assumption.why, 400)}.", warning=assumption.holds is False),
        f"They assume: {assumption.text}. Fraud of a new kind that scores low does not show in "
        "them.",
        *(Notice(f"{warning}.", warning=True) for warning in quality.warnings),
    ]
    if quality.delay_median_days is not None:
        parts.append(
            f"Half of the frauds are labelled within {quality.delay_median_days:.3g} days, 95 % "
            f"within {quality.delay_most_days:.3g}; labels are known up to {quality.labels_as_of}. "
            "Figures of younger weeks are divided by the share that is labelled at their age "
            "(corrected); a week with less than a quarter of its labels has none (immature)."
        )
    parts.append(
        plot(
            "quality",
            "Precision and recall of each week: expected as a line with its 95 % interval, "
            "measured as full squares, corrected for labels to come as hollow ones.",
            lambda axes: _draw(axes, quality),
            columns=2,
            width=9.5,
        )
    )
    columns = ("week from", "days", "rows", "flagged", "precision: expected", "measured")
    parts.append(
        Table(
            (*columns, "recall: expected", "measured", "labels", "drift"),
            tuple(map(_row, quality.periods)),
        )
    )
    return Section("Quality", tuple(parts))


def labels_of(period: Period) -> str:
    """Return in words how ripe the labels of a week are."""
    measured = period.measured
    if measured is None:
        return "none"
    return measured.state + (
        "" if measured.known is None else f", {100 * measured.known:.0f} % known"
    )


def _row(period: Period) -> tuple[str | int | None, ...]:
    expected, measured = period.expected, period.measured
    return (
        *(period.since, period.days, period.rows, period.flagged),
        None if expected is None else _shown(expected.precision),
        None if measured is None else _shown(measured.precision),
        None if expected is None else _shown(expected.recall),
        None if measured is None else _shown(measured.recall),
        labels_of(period),
        visible("; ".join(period.doubts), 120) or None,
    )


def _shown(figure: Estimate) -> str | None:
    if figure.value is None or figure.interval is None:
        return None
    return f"{figure.value:.2f} ({figure.interval.low:.2f} to {figure.interval.high:.2f})"


def _draw(axes: Any, quality: Quality) -> None:
    periods = quality.periods
    step = max(1, -(-len(periods) // _TICKS))
    for axis, name in zip(axes, ("precision", "recall"), strict=True):
        known = [
            (place, figure)
            for place, one in enumerate(periods)
            if one.expected is not None
            and (figure := getattr(one.expected, name)).value is not None
        ]
        if known:
            places = [place for place, _ in known]
            axis.plot(places, [figure.value for _, figure in known], color=GENUINE)
            ends = [figure.interval for _, figure in known]
            axis.fill_between(
                places,
                [one.low for one in ends],
                [one.high for one in ends],
                color=GENUINE,
                alpha=0.15,
                linewidth=0,
            )
        for place, one in enumerate(periods):
            figure = None if one.measured is None else getattr(one.measured, name)
            if figure is None or figure.value is None or one.measured is None:
                continue
            full = "full" if one.measured.state == "mature" else "none"
            axis.plot(place, figure.value, "s", color=FRAUD, fillstyle=full, markersize=4)
            axis.vlines(place, figure.interval.low, figure.interval.high, color=FRAUD)
        axis.set_ylim(0, 1)
        axis.set_ylabel(name)
        axis.set_xticks(range(0, len(periods), step))
        axis.set_xticklabels([one.since[5:] for one in periods[::step]], rotation=30)
