"""Figures of the review: backlog, times, precision, money and workload, as rows."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from sqlalchemy import ColumnElement, Connection, case, func, select

from beam_fraud.evaluation.explore.rows import wilson
from beam_fraud.review.opening import parts
from beam_fraud.storage.database.review_tables import CASE_TRANSACTIONS, CASES
from beam_fraud.storage.database.tables import FLAGGED
from beam_fraud.storage.database.upsert import in_values

#: First characters of a text that a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def figures_csv(table: pa.Table) -> bytes:
    """Return a table as CSV; texts that a spreadsheet would compute begin with an apostrophe."""
    columns = [
        pa.array([_inert(text) for text in column.to_pylist()], pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    data = io.BytesIO()
    arrow_csv.write_csv(pa.table(columns, table.schema.names), data)
    return data.getvalue()


def _inert(text: str | None) -> str | None:
    return f"'{text}" if text and text.startswith(_FORMULA) else text


def backlog(connection: Connection, now: datetime) -> pa.Table:
    """Return the cases that are not closed.

    Args:
      connection: in a transaction.
      now: the current time, UTC.

    Returns:
      A row each for `free`, `claimed` and `snoozed`: `state`, `cases`, `transactions`, `amount`,
      `expected_loss`, `overdue` and `oldest_hours` (null without cases).
    """
    table = CASES.c
    state = case(
        (table.snoozed_until > now, "snoozed"), (table.claimed_until > now, "claimed"), else_="free"
    )
    query = (
        select(
            state.label("state"),
            func.count(),
            func.sum(table.undecided),
            func.sum(table.amount),
            func.sum(table.expected_loss),
            func.sum(case((table.due_at < now, 1), else_=0)),
            func.min(table.opened_at),
        )
        .where(table.state == "open")
        .group_by(state)
    )
    found = {row[0]: row[1:] for row in connection.execute(query)}
    names = ("free", "claimed", "snoozed")
    rows = [found.get(name, (0, 0, 0.0, 0.0, 0, None)) for name in names]
    counts, undecided, amounts, losses, overdue, oldest = zip(*rows, strict=True)
    return pa.table(
        {
            "state": pa.array(names),
            "cases": pa.array(counts, pa.int64()),
            "transactions": pa.array(map(int, undecided), pa.int64()),
            "amount": pa.array(amounts, pa.float64()),
            "expected_loss": pa.array(losses, pa.float64()),
            "overdue": pa.array(map(int, overdue), pa.int64()),
            "oldest_hours": pa.array(
                [None if one is None else _hours(now - one) for one in oldest], pa.float64()
            ),
        }
    )


def time_to_decision(connection: Connection, since: datetime, until: datetime) -> pa.Table:
    """Return how long cases were open, by the day in UTC on which they were closed.

    Returns:
      `day`, `closed`, `median_hours`, `p90_hours` and `in_time`, the share closed before their due
      time.
    """
    table = CASES.c
    query = select(table.opened_at, table.closed_at, table.due_at).where(
        table.closed_at >= since, table.closed_at < until
    )
    days: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for opened_at, closed_at, due_at in connection.execute(query):
        days[_day(closed_at)].append((_hours(closed_at - opened_at), closed_at <= due_at))
    ordered = sorted(days)
    hours = [[one for one, _ in days[day]] for day in ordered]
    return pa.table(
        {
            "day": pa.array(ordered, pa.string()),
            "closed": pa.array(map(len, hours), pa.int64()),
            "median_hours": pa.array([float(np.median(one)) for one in hours], pa.float64()),
            "p90_hours": pa.array([float(np.quantile(one, 0.9)) for one in hours], pa.float64()),
            "in_time": pa.array(
                [sum(ok for _, ok in days[day]) / len(days[day]) for day in ordered], pa.float64()
            ),
        }
    )


def precision(
    connection: Connection,
    since: datetime,
    until: datetime,
    by: Literal["model", "rule", "reviewer"],
) -> pa.Table:
    """Return the share of frauds among decided flagged transactions, without audited ones.

    Args:
      connection: in a transaction.
      since: begin of the decisions, inclusive.
      until: end of the decisions, exclusive.
      by: what the rows are about; a transaction on which several rules fired counts for each.

    Returns:
      `name`, `fraud`, `genuine`, `unsure`, `precision` among fraud and genuine (null without any),
      and `low` and `high`, its 95 % interval by Wilson's score (Wilson 1927).
    """
    table = CASE_TRANSACTIONS.c
    decided = (table.decided_at >= since, table.decided_at < until, table.probability == 1.0)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    if by == "rule":
        keys = select(table.transaction_id, table.model_id, table.verdict).where(*decided)
        rows = connection.execute(keys).tuples().all()
        rules = _rules(connection, [(key, model) for key, model, _ in rows])
        for key, _, verdict in rows:
            for rule in rules.get(key, ()):
                counts[rule][verdict] += 1
    else:
        column = table.model_id if by == "model" else table.decided_by
        grouped = select(column, table.verdict, func.count()).where(*decided)
        for name, verdict, number in connection.execute(grouped.group_by(column, table.verdict)):
            counts[name][verdict] = number
    return _precision_rows(counts)


def _rules(
    connection: Connection, keys: Sequence[tuple[str, str]]
) -> Mapping[str, tuple[str, ...]]:
    table = FLAGGED.c
    rules: dict[str, tuple[str, ...]] = {}
    models = dict(keys)
    for some in parts(list(models)):
        # Not by pairs, for which SQLite would read the whole table.
        query = select(table.transaction_id, table.model_id, table.rules).where(
            in_values(connection, table.transaction_id, some)
        )
        for key, model, names in connection.execute(query):
            if model == models[key]:
                rules[key] = msgspec.json.decode(names, type=tuple[str, ...])
    return rules


def _precision_rows(counts: Mapping[str, Mapping[str, int]]) -> pa.Table:
    names = sorted(counts)
    fraud, genuine, unsure = (
        np.array([counts[name].get(verdict, 0) for name in names], np.int64)
        for verdict in ("fraud", "genuine", "unsure")
    )
    total = fraud + genuine
    nothing, trials = total == 0, np.maximum(total, 1)
    low, high = wilson(fraud, trials)
    return pa.table(
        {
            "name": pa.array(names, pa.string()),
            "fraud": fraud,
            "genuine": genuine,
            "unsure": unsure,
            "precision": pa.array(fraud / trials, mask=nothing),
            "low": pa.array(low, mask=nothing),
            "high": pa.array(high, mask=nothing),
        }
    )


def money_saved(connection: Connection, since: datetime, until: datetime) -> pa.Table:
    """Return the frauds that people confirmed, by the day in UTC of the decision.

    Returns:
      `day`, `frauds`, and `amount`: the sum of their amounts, a bound on what was saved, because a
      payment may have left before the decision; `declined` is the part that the model or a rule had
      declined.
    """
    table = CASE_TRANSACTIONS.c
    query = select(table.transaction_id, table.model_id, table.decided_at, table.amount).where(
        table.decided_at >= since, table.decided_at < until, table.verdict == "fraud"
    )
    rows = connection.execute(query).tuples().all()
    declined = _declined(connection, [(key, model) for key, model, _, _ in rows])
    days: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for key, _, at, amount in rows:
        days[_day(at)].append((max(amount, 0.0), key in declined))
    ordered = sorted(days)
    return pa.table(
        {
            "day": pa.array(ordered, pa.string()),
            "frauds": pa.array([len(days[day]) for day in ordered], pa.int64()),
            "amount": pa.array([sum(one for one, _ in days[day]) for day in ordered], pa.float64()),
            "declined": pa.array(
                [sum(one for one, was in days[day] if was) for day in ordered], pa.float64()
            ),
        }
    )


def _declined(connection: Connection, keys: Sequence[tuple[str, str]]) -> set[str]:
    table = FLAGGED.c
    models = dict(keys)
    return {
        key
        for some in parts(list(models))
        for key, model in connection.execute(
            select(table.transaction_id, table.model_id).where(
                in_values(connection, table.transaction_id, some), table.decision == "decline"
            )
        )
        if model == models[key]
    }


def workload(
    connection: Connection, now: datetime, *, capacity_per_day: float, days: int = 7
) -> pa.Table:
    """Forecast the backlog of the next days.

    The forecast for a weekday is the mean number of cases opened on that weekday in the last four
    weeks, or on all days if the review is younger than a week.

    Args:
      connection: in a transaction.
      now: the current time, UTC.
      capacity_per_day: cases that the team decides in a day.
      days: number of days, the first is tomorrow in UTC.

    Returns:
      `day`, `expected` (cases opened), `capacity` and `backlog` (open cases at the end of the day).
    """
    table = CASES.c
    today = now.astimezone(UTC).date()
    since = datetime.combine(today - timedelta(weeks=4), time(), UTC)
    day_of = _day_of(connection, table.opened_at)
    query = select(day_of, func.count()).where(table.opened_at >= since).group_by(day_of)
    # Days before today to cases; today is not over.
    opened = {
        (today - date.fromisoformat(str(day))).days: number
        for day, number in connection.execute(query)
    }
    age = max(opened, default=0)
    open_now = select(func.count()).select_from(CASES).where(table.state == "open")
    left = float(connection.execute(open_now).scalar_one())
    expected, backlogs = [], []
    for day in range(days):
        same = [(5 - day) % 7 + 1 + 7 * week for week in range(4)]
        known = [one for one in same if one <= age] if age >= 7 else list(range(1, age + 1))
        expected.append(sum(opened.get(one, 0) for one in known) / max(len(known), 1))
        left = max(left + expected[-1] - capacity_per_day, 0.0)
        backlogs.append(left)
    return pa.table(
        {
            "day": pa.array([str(today + timedelta(days=n + 1)) for n in range(days)]),
            "expected": pa.array(expected, pa.float64()),
            "capacity": pa.array([float(capacity_per_day)] * days, pa.float64()),
            "backlog": pa.array(backlogs, pa.float64()),
        }
    )


def _day_of(connection: Connection, moment: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the day in UTC of a time, as ISO 8601 text or a date."""
    if connection.dialect.name == "postgresql":
        return func.date(func.timezone("UTC", moment))
    return func.date(moment)


def _hours(span: timedelta) -> float:
    return span.total_seconds() / 3600


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()
