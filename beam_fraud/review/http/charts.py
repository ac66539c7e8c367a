"""Plots of the pages, as SVG in the page: no script, no style, no further request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from beam_fraud.review.http.templating import escaped, moment, money
from beam_fraud.review.surroundings import HistoryMark, HistoryPoint

#: Units of the drawing.
_WIDTH, _HEIGHT, _EDGE = 640, 140, 8
#: Classes of marks in the order they are drawn, the last above all; the stylesheet gives each a
#: colour, and its width tells it from the others.
KINDS = ("flagged", "genuine", "fraud", "own")


@dataclass(frozen=True)
class Chart:
    """A drawing, and the words around it."""

    svg: Markup
    since: datetime
    until: datetime
    #: Highest amount.
    most: float
    #: Number of marks by kind, in the order of `KINDS`, of kinds that occur.
    counts: tuple[tuple[str, int], ...]


def history_chart(points: Sequence[HistoryMark], case_id: str) -> Chart | None:
    """Return amounts over time; None without any.

    Args:
      points: transactions, oldest first.
      case_id: the case whose transactions stand out.
    """
    if not points:
        return None
    since, until = points[0].event_time, max(points[-1].event_time, points[0].event_time)
    if until - since < timedelta(hours=1):
        since, until = since - timedelta(hours=12), until + timedelta(hours=12)
    most = max(max(abs(one.amount) for one in points), 0.01)
    across = (_WIDTH - 2 * _EDGE) / (until - since).total_seconds()
    up = (_HEIGHT - 2 * _EDGE) / most
    marks: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for one in points:
        x = _EDGE + across * (one.event_time - since).total_seconds()
        y = _HEIGHT - _EDGE - up * abs(one.amount)
        marks[_kind(one, case_id)].append(f"M{x:.0f} {y:.0f}h0")
    drawn = "".join(
        f'<path class="{kind}" d="{"".join(marks[kind])}"/>' for kind in KINDS if marks[kind]
    )
    counts = tuple((kind, len(marks[kind])) for kind in KINDS if marks[kind])
    said = ", ".join(f"{count} {_WORDS[kind]}" for kind, count in counts)
    # All that goes in is a number or a word of the program.
    svg = Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'preserveAspectRatio="none" aria-label="Amounts over time: {said}">'
        f'<path class="axis" d="M0 {_HEIGHT}H{_WIDTH}M0 {_HEIGHT // 2}H{_WIDTH}"/>{drawn}</svg>'
    )
    return Chart(svg, since, until, most, counts)


_WORDS = {
    "flagged": "flagged, not decided",
    "genuine": "genuine",
    "fraud": "fraud",
    "own": "of this case",
}


def _kind(one: HistoryMark, case_id: str) -> str:
    if one.case_id == case_id:
        return "own"
    return one.verdict if one.verdict in ("fraud", "genuine") else "flagged"


def history_rows(points: Sequence[HistoryPoint]) -> Markup:
    """Return the rows of a table of transactions, the newest first.

    Args:
      points: transactions, oldest first.
    """
    # Not in the template, where they took longer than all else of a page.
    return Markup("".join(map(_row, reversed(points))))


def _row(one: HistoryPoint) -> str:
    return (
        f'<tr><td>{moment(one.event_time)}</td><td class="number">{money(one.amount)}</td>'
        f'<td class="number">{one.score:.3f}</td><td>{escaped(one.decision)}</td>'
        f"<td>{escaped(one.verdict or '-')}</td></tr>\n"
    )


def bar(share: float) -> Markup:
    """Return a bar of a share, 0 to 1."""
    width = round(100 * min(max(share, 0.0), 1.0))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="rest" d="M0 4H100"/><path class="share" d="M0 4H{}"/></svg>'
    ).format(width)
