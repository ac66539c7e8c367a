"""The page of a comparison: sections, and the files they become."""

from __future__ import annotations

from typing import Any

from beam_fraud.evaluation.charts import (
    Notice,
    Part,
    Plot,
    Section,
    Table,
    drawn,
    legend_below,
    percent,
    plot,
    render_page,
)
from beam_fraud.evaluation.comparison.breakdown import ROUND_ALERTS, caught_at
from beam_fraud.evaluation.comparison.details import (
    Cell,
    accounts_section,
    days_section,
    in_colours,
    money,
    numbered,
    rules_section,
    sample_section,
    scores_section,
    segments_section,
)
from beam_fraud.evaluation.comparison.figures import Comparison, SideFigures
from beam_fraud.evaluation.comparison.swap import SwapCell
from beam_fraud.evaluation.report.sections import FIGURE_NAMES, json_report, markdown_report
from beam_fraud.evaluation.report.sections import with_interval as interval_text

#: Names of figures for people.
_NAMES = FIGURE_NAMES | {
    "caught": "frauds caught",
    "false_alarms": "false alarms",
    "amount_saved": "amount saved",
    "net_cost": "net cost",
}
_SHARES = ("average_precision", "precision", "recall")
_COUNTS = ("caught", "missed", "false_alarms")


def outputs_of(found: Comparison) -> dict[str, bytes]:
    """Return the files of a comparison: name to contents."""
    sections = sections_of(found)
    title, subtitle = f"{found.sentence}.", _subtitle(found)
    return {
        "comparison.html": render_page(title, subtitle, sections).encode(),
        "comparison.md": markdown_report(title, subtitle, sections).encode(),
        "comparison.json": json_report(found),
    }


def sections_of(found: Comparison) -> tuple[Section, ...]:
    """Return the sections of the page."""
    sections = [_summary(found)]
    if not found.rows:
        return tuple(sections)
    if found.changes:
        sections.append(_swaps(found))
    if found.frauds:
        sections.append(_capacity(found))
    if any(side.accounts for side in found.sides):
        sections.append(accounts_section(found))
    sections += [days_section(found), segments_section(found)]
    if any(side.rules for side in found.sides):
        sections.append(rules_section(found))
    sections.append(scores_section(found))
    if found.sample:
        sections.append(sample_section(found))
    return tuple(sections)


def _subtitle(found: Comparison) -> str:
    span = "" if found.span is None else f", from {found.span[0]} to {found.span[1]}"
    share = percent(found.frauds / found.labelled) if found.labelled else None
    labels = (
        f"labels of {found.labelled:,} count, with {found.frauds:,} frauds ({share})"
        if found.labelled
        else "no label counts"
    )
    return (
        f"{found.rows:,} transactions on {found.days_count:,} days in {found.partitions:,} "
        f"partitions{span}; {labels}. Made {found.created}."
    )


def _summary(found: Comparison) -> Section:
    parts: list[Part] = [Notice(text, warning=True) for text in found.warnings]
    if not found.rows:
        return Section("Summary", tuple(parts))
    names = [side.name for side in found.sides]
    rows: list[tuple[Cell, ...]] = [
        ("flags per day", *(f"{side.flags_per_day:,.1f}" for side in found.sides)),
        ("flagged", *(side.flagged for side in found.sides)),
    ]
    if found.labelled:
        for name in _SHARES:
            rows.append((_NAMES[name], *(_share(side, name) for side in found.sides)))
        for name in ("caught", "missed", "false_alarms"):
            title = _NAMES.get(name, f"frauds {name}")
            rows.append((title, *(_number(side, name) for side in found.sides)))
        for name in ("amount_saved", "amount_missed", "net_cost"):
            title = _NAMES.get(name, name.replace("_", " "))
            rows.append((title, *(_number(side, name) for side in found.sides)))
    parts.append(Table(("figure", *names), tuple(tuple(row) for row in rows)))
    if found.labelled:
        parts.append(
            f"Net cost: {found.prices} (`--cost`). In brackets: 95 % of {found.resamples:,} "
            f"bootstrap resamples of the accounts (seed {found.seed}). Labels are known up to "
            f"{found.maturity.as_of}; {_ripe(found)}"
        )
    parts += [_differences(found, place) for place, _ in enumerate(found.changes)]
    return Section("Summary", tuple(parts))


def _ripe(found: Comparison) -> str:
    maturity = found.maturity
    young = found.rows - found.mature_rows
    counted = (
        "labels of all rows count"
        if maturity.waited_days is None
        else f"rows have labels that count from an age of {maturity.waited_days:g} days on, "
        f"{young:,} are younger"
    )
    if maturity.unknown_share is None:
        return f"{counted}."
    return (
        f"{counted}. By the delays of {maturity.measured_frauds:,} frauds, "
        f"{percent(max(maturity.unknown_share, 0))} of the frauds of the counted rows have no "
        "label yet."
    )


def _share(side: SideFigures, name: str) -> str:
    value = getattr(side.outcome, name)
    return "undefined" if value is None else interval_text(value, side.intervals.get(name))


def _number(side: SideFigures, name: str) -> str:
    value, interval = getattr(side.outcome, name), side.intervals.get(name)
    if interval is None:
        return _sized(value, name)
    return f"{_sized(value, name)} ({_sized(interval.low, name)} to {_sized(interval.high, name)})"


def _sized(value: float, name: str) -> str:
    return f"{value:,.0f}" if name in _COUNTS else money(value)


def _signed(value: float, name: str) -> str:
    if name in _SHARES:
        return f"{value:+.3f}"
    return f"{'+' if value >= 0 else '-'}{_sized(abs(value), name)}"


def _differences(found: Comparison, place: int) -> Table:
    change, other = found.changes[place], found.sides[place + 1]
    return Table(
        (f"{found.new.name} minus {other.name}", "difference", "95 % interval", "better in"),
        tuple(
            (
                _NAMES[d.figure],
                _signed(d.value, d.figure),
                f"{_signed(d.interval.low, d.figure)} to {_signed(d.interval.high, d.figure)}",
                percent(d.better),
            )
            for d in change.differences
        ),
        "Both sides are measured on the same resamples. Where the interval spans 0, these rows do "
        "not tell which is better.",
    )


def _swaps(found: Comparison) -> Section:
    parts: list[Part] = [
        "What one side flags and the other does not, of all rows; frauds and genuine rows are "
        f"those whose labels count. All {found.changed_rows:,} rows that are decided differently "
        "are in `changed.parquet`."
    ]
    new = found.new.name
    for change, other in zip(found.changes, found.sides[1:], strict=True):
        swap = change.swap
        parts.append(
            Table(
                ("flagged by", "rows", "amount", "frauds", "their amount", "genuine"),
                (
                    _swap_row(f"{new} alone", swap.only_first),
                    _swap_row(f"{other.name} alone", swap.only_second),
                    _swap_row("both", swap.both),
                ),
                f"{new} and {other.name}: {percent(change.swap_share) or 'none'} of the rows that "
                "either flags are swapped.",
            )
        )
    return Section("Swap set", tuple(parts))


def _swap_row(name: str, cell: SwapCell) -> tuple[Cell, ...]:
    return (
        *(name, cell.rows, money(cell.amount), cell.frauds),
        *(money(cell.fraud_amount), cell.genuine),
    )


def _capacity(found: Comparison) -> Section:
    steps = _capacities(found)
    columns = ["alerts per day"]
    for number, _ in enumerate(found.sides, 1):
        mark = f" ({number})" if len(found.sides) > 1 else ""
        columns += [f"frauds caught{mark}", f"amount{mark}"]
    table = Table(
        tuple(columns),
        tuple(
            (
                f"{step:,g}",
                *(
                    cell
                    for side in found.sides
                    for caught, amount in [caught_at(side.capacity, step)]
                    for cell in (f"{caught:,}", money(amount))
                ),
            )
            for step in steps
        ),
        f"Frauds among so many of the highest scores a day.{numbered(found)}",
    )
    return Section(
        "Capacity",
        (
            "Whoever can look at k alerts a day gets this much of them, by the score alone and "
            "whatever the threshold and the rules are.",
            _capacity_plot(found, "capacity_frauds", amounts=False),
            _capacity_plot(found, "capacity_amount", amounts=True),
            table,
        ),
    )


def _capacities(found: Comparison) -> list[float]:
    """Return round numbers of alerts around what the sides flag."""
    most = max((side.flags_per_day for side in found.sides), default=0) * 5
    most = min(max(most, 1), max(found.mature_rows / max(found.mature_days, 1), 1))
    return [float(step) for step in ROUND_ALERTS if step <= most][-8:]


def _capacity_plot(found: Comparison, name: str, *, amounts: bool) -> Plot:
    def draw(axes: Any) -> None:
        for side, colour in in_colours(found):
            capacity = side.capacity
            values = capacity.amount if amounts else capacity.caught
            axes.plot(
                capacity.alerts_per_day,
                values,
                color=colour,
                lw=1.4,
                drawstyle="steps-post",
                label=drawn(side.name),
            )
            outcome = side.outcome
            days = max(found.mature_days, 1)
            if outcome.flagged:
                at = outcome.amount_saved if amounts else outcome.caught
                axes.plot(outcome.flagged / days, at, "o", color=colour, ms=5)
        total = found.fraud_amount if amounts else found.frauds
        axes.axhline(total, color="#999999", lw=0.8, ls=":", label="all frauds")
        axes.set(xscale="log", xlabel="alerts per day", xlim=(0.1, None))
        axes.set_ylabel("amount of frauds caught" if amounts else "frauds caught")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.set_ylim(0, (total or 1) * 1.06)
        legend_below(axes)

    what = "money" if amounts else "frauds"
    caption = f"Alerts per day against {what} caught; a dot is what the side flags by its decision."
    return plot(name, caption, draw, width=4.9, height=3.4 + 0.15 * len(found.sides))
