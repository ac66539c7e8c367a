"""Figures about the work on cases, on a page and as CSV."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, TypeAlias

import pyarrow as pa
from sqlalchemy import Connection
from starlette.responses import Response

from beam_fraud.review import figures as domain
from beam_fraud.review.errors import MissingError
from beam_fraud.review.http.charts import bar
from beam_fraud.review.http.visit import Visit

_SPANS = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
#: Columns of shares and of amounts.
_SHARES, _MONEY = ("precision", "low", "high", "in_time"), ("amount", "expected_loss", "declined")
#: Type: reads one table.
_Read: TypeAlias = Callable[[Connection], pa.Table]


def figures(visit: Visit) -> Response:
    """Show all tables of a span."""
    days = visit.query.choice("days", _SPANS, "30")
    tables = _tables(visit, int(days))

    def work(connection: Connection) -> dict[str, pa.Table]:
        return {name: read(connection) for name, (_, read) in tables.items()}

    read = visit.site.read(work)
    shown = [
        (name, title, read[name].column_names, read[name].to_pylist())
        for name, (title, _) in tables.items()
    ]
    return visit.page(
        "figures", tables=shown, days=days, spans=_SPANS, bar=bar, cell=_cell, head=_head
    )


def csv(visit: Visit) -> Response:
    """Return one table as CSV."""
    tables = _tables(visit, int(visit.query.choice("days", _SPANS, "30")))
    name = visit.parts["name"]
    if name not in tables:
        raise MissingError("There is no such table.")
    table = visit.site.read(tables[name][1])
    return Response(
        domain.figures_csv(table),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}.csv"'},
    )


def _tables(visit: Visit, days: int) -> dict[str, tuple[str, _Read]]:
    """Return the title and the reader of each table, by its name in addresses."""
    since, until = visit.now - timedelta(days=days), visit.now
    return {
        "backlog": ("Backlog", partial(domain.backlog, now=visit.now)),
        "time": ("Time to decision", _between(domain.time_to_decision, since, until)),
        "models": ("Precision by model", _precision(since, until, "model")),
        "rules": ("Precision by rule", _precision(since, until, "rule")),
        "reviewers": ("Precision by reviewer", _precision(since, until, "reviewer")),
        "saved": ("Money saved", _between(domain.money_saved, since, until)),
        "workload": (
            "Workload",
            partial(domain.workload, now=visit.now, capacity_per_day=visit.site.settings.capacity),
        ),
    }


def _between(
    read: Callable[[Connection, datetime, datetime], pa.Table], since: datetime, until: datetime
) -> _Read:
    return lambda connection: read(connection, since, until)


def _precision(since: datetime, until: datetime, by: Literal["model", "rule", "reviewer"]) -> _Read:
    return lambda connection: domain.precision(connection, since, until, by)


def _head(column: str) -> str:
    return column.replace("_", " ")


def _cell(column: str, value: object) -> str:
    """Return a figure in words."""
    if value is None:
        return "-"
    if column in _SHARES:
        return f"{100 * float(str(value)):.1f} %"
    if isinstance(value, float):
        # Not -0.0.
        rounded = round(value, 2) + 0.0
        return f"{rounded:,.2f}" if column in _MONEY else f"{round(rounded, 1):,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
