"""Sections of accounts, days, segments, rules, scores and single rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_fraud.evaluation.charts import (
    FRAUD,
    GENUINE,
    SERIES,
    Part,
    Plot,
    Section,
    Table,
    drawn,
    legend_below,
    percent,
    plot,
    visible,
)
from beam_fraud.evaluation.comparison.figures import (
    ChangedRow,
    Comparison,
    Outcome,
    RuleEffect,
    SegmentOutcomes,
    SideFigures,
)
from beam_fraud.evaluation.curves import SCORE_EDGES

Cell = str | int | float | None
#: Maximum of days of a table.
_MOST_DAYS = 31
#: Maximum of rules and reasons of a sampled row, and of characters of each.
_REASONS, _LONGEST_REASON = 2, 120
#: Sides of a table of segments.
_ABREAST = 2


def accounts_section(found: Comparison) -> Section:
    """Return the section: frauds and alerts by account."""
    rows: list[tuple[Cell, ...]] = []
    names = (
        ("accounts with an alert per day", "alerts_per_day"),
        ("accounts with an alert", "flagged"),
        ("accounts with a fraud", "defrauded"),
        ("of these with a fraud caught", "caught"),
        ("of these caught at their first fraud", "caught_at_first_fraud"),
        ("accounts whose first alert is a fraud", "first_alert_is_fraud"),
        ("frauds from the first alert on", "frauds_stopped"),
        ("their amount", "amount_stopped"),
    )
    for title, name in names:
        values = [None if s.accounts is None else getattr(s.accounts, name) for s in found.sides]
        rows.append((title, *(None if v is None else money(v) for v in values)))
    return Section(
        "Accounts",
        (
            "An analyst who blocks a card at its first alert stops the frauds from that "
            "transaction on.",
            Table(("figure", *(side.name for side in found.sides)), tuple(rows)),
        ),
    )


def days_section(found: Comparison) -> Section:
    """Return the section: flags by day."""

    def draw(axes: Any) -> None:
        places = range(len(found.days))
        for number, (side, colour) in enumerate(in_colours(found)):
            flagged = [day.flagged[number] for day in found.days]
            axes.plot(places, flagged, "-", color=colour, lw=1.2, label=drawn(side.name))
        step = max(1, -(-len(found.days) // 10))
        axes.set_xticks(places[::step], [day.date[2:] for day in found.days[::step]])
        axes.set(xlabel="day", ylabel="rows flagged")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.02)
        legend_below(axes)

    parts: list[Part] = []
    if len(found.days) > 1:
        caption = f"Rows flagged by day, in {found.timezone}."
        parts.append(plot("days", caption, draw, width=10.0, height=3.2))
    if len(found.days) <= _MOST_DAYS:
        columns = ["day", "rows", "frauds"]
        for number, _ in enumerate(found.sides, 1):
            mark = f" ({number})" if len(found.sides) > 1 else ""
            columns += [f"flagged{mark}", f"caught{mark}"]
        parts.append(
            Table(
                tuple(columns),
                tuple(
                    (
                        *(day.date, day.rows, day.frauds),
                        *(n for pair in zip(day.flagged, day.caught, strict=True) for n in pair),
                    )
                    for day in found.days
                ),
                f"Frauds are those whose labels count.{numbered(found)}",
            )
        )
    return Section("Days", tuple(parts))


def segments_section(found: Comparison) -> Section:
    """Return a table per segmentation, with sides next to each other."""
    parts: list[Part] = [
        "Rows and frauds of the segments of a table add up to all rows whose labels count; AP is "
        "average precision, saved the amount of caught frauds. With few frauds in a segment its "
        "figures say little."
    ]
    for table in found.segments:
        for start in range(0, len(found.sides), _ABREAST):
            parts.append(_segment_table(found, table, start))
    return Section("Segments", tuple(parts))


def _segment_table(found: Comparison, table: SegmentOutcomes, start: int) -> Table:
    stop = min(start + _ABREAST, len(found.sides))
    columns = [table.name, "rows", "frauds"]
    for number in range(start + 1, stop + 1):
        mark = f" ({number})" if len(found.sides) > 1 else ""
        names = ("precision", "recall", "AP", "saved", "cost")
        columns += [f"{name}{mark}" for name in names]
    rows = []
    for segment in table.segments:
        cells: list[Cell] = [segment.name, segment.rows, segment.frauds]
        for outcome in segment.sides[start:stop]:
            cells += _outcome_cells(outcome)
        rows.append(tuple(cells))
    return Table(tuple(columns), tuple(rows), f"By {table.name}.{numbered(found, start, stop)}")


def _outcome_cells(outcome: Outcome) -> list[Cell]:
    return [
        *(outcome.precision, outcome.recall, outcome.average_precision),
        *(money(outcome.amount_saved), money(outcome.net_cost)),
    ]


def rules_section(found: Comparison) -> Section:
    """Return the section: what each rule does."""
    parts: list[Part] = [
        "What a rule alone adds: rows that neither the model nor another rule flags. What it lets "
        "pass: rows that the model would flag, and on which no other rule fires. Net gain: what a "
        "rule saves by `--cost` on these. Frauds and genuine rows are those whose labels count. A "
        "rule in shadow has no effect: alone are the rows that nothing flags."
    ]
    for side in found.sides:
        if side.rules:
            columns = ["rule", "fires on", "frauds", "precision", "alone", "frauds alone"]
            columns += ["amount alone", "genuine alone", "lets pass", "frauds passed", "net gain"]
            rows = tuple(_rule_row(rule) for rule in side.rules)
            parts.append(Table(tuple(columns), rows, f"{side.name}."))
    return Section("Rules", tuple(parts))


def _rule_row(rule: RuleEffect) -> tuple[Cell, ...]:
    labelled = rule.fired.frauds + rule.fired.genuine
    return (
        f"{rule.name} (in shadow)" if rule.shadow else rule.name,
        *(rule.fired.rows, rule.fired.frauds),
        percent(rule.fired.frauds / labelled) if labelled else None,
        *(rule.alone.rows, rule.alone.frauds, money(rule.alone.fraud_amount)),
        *(rule.alone.genuine, rule.let_pass.rows, rule.let_pass.frauds, money(rule.net_gain)),
    )


def scores_section(found: Comparison) -> Section:
    """Return a histogram of the scores of each side."""
    plots = [
        _score_plot(side, "scores" if len(found.sides) == 1 else f"scores_{number}")
        for number, side in enumerate(found.sides, 1)
    ]
    return Section("Scores", tuple(plots))


def _score_plot(side: SideFigures, name: str) -> Plot:
    def draw(axes: Any) -> None:
        for counts, colour, label in (
            (side.score_genuine, GENUINE, "genuine"),
            (side.score_unlabelled, "#9aa5b1", "no label"),
            (side.score_frauds, FRAUD, "fraud"),
        ):
            if np.sum(counts):
                axes.stairs(counts, SCORE_EDGES, fill=True, alpha=0.55, color=colour, label=label)
        axes.set_yscale("symlog", linthresh=1)
        axes.set(xlabel="score", ylabel="rows", title=drawn(side.name), xlim=(0, 1))
        axes.set_ylim(bottom=0)
        legend_below(axes)

    return plot(name, "Rows by score, counted by the logarithm.", draw, width=4.9, height=3.2)


def sample_section(found: Comparison) -> Section:
    """Return the section: a sample of the rows that are flagged by one side alone."""
    columns = ("transaction", "day", "amount", "label", "score (1)", "(2)", "decided (1)", "(2)")
    return Section(
        "Changed rows",
        (
            "A sample of the rows that one side alone flags, drawn by the hash of their ids: those "
            f"that {visible(found.new.name)} adds, then those that it no longer flags. Rules and "
            "reasons are those of the side that flags the row.",
            Table(
                (*columns, "why"),
                tuple(_sample_row(row) for row in found.sample),
                numbered(found, 0, 2).strip(),
            ),
        ),
    )


def _sample_row(row: ChangedRow) -> tuple[Cell, ...]:
    label = {1: "fraud", 0: "genuine", None: None}[row.label]
    flagging = 0 if row.decisions[0] != "approve" else 1
    why = [*(f"rule {name}" for name in row.rules[flagging]), *row.reasons[flagging]]
    return (
        *(visible(row.transaction_id), row.event_time[:10], money(row.amount), label),
        *(f"{score:.3f}" for score in row.scores),
        *row.decisions,
        "; ".join(visible(reason, _LONGEST_REASON) for reason in why[:_REASONS]) or None,
    )


def in_colours(found: Comparison) -> list[tuple[SideFigures, str]]:
    """Return each side with its colour."""
    return [(side, SERIES[place % len(SERIES)]) for place, side in enumerate(found.sides)]


def numbered(found: Comparison, start: int = 0, stop: int | None = None) -> str:
    """Return the end of a caption that explains numbers of sides; empty for one side."""
    if len(found.sides) == 1:
        return ""
    shown: Sequence[SideFigures] = found.sides[start:stop]
    return f" {'; '.join(f'({n}) {side.name}' for n, side in enumerate(shown, start + 1))}."


def money(value: float) -> str:
    """Format a count or an amount."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:,.2f}"
