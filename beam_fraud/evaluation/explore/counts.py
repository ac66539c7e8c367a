"""How rows and frauds spread: classes, accounts and merchants, amounts, time, categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_fraud.evaluation.charts import visible
from beam_fraud.evaluation.explore.rows import Floats, Rate, Rows, Whole, rates
from beam_fraud.evaluation.rows import hours_of, weekdays_of
from beam_fraud.records.text import as_mask
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros


@dataclass(frozen=True)
class Balance:
    """The classes of n rows."""

    #: All rows.
    rows: int
    #: Labelled as genuine.
    genuine: int
    #: Labelled as fraud.
    frauds: int
    #: Without a label.
    unlabelled: int
    #: Frauds over labelled rows, with its interval.
    rate: Rate
    #: Frauds per day, from the first row to the last; None for less than a day.
    frauds_a_day: float | None
    #: Rows per day; None for less than a day.
    rows_a_day: float | None
    #: Mean amount of genuine rows; None without any.
    mean_genuine_amount: float | None
    #: Mean amount of frauds; None without any.
    mean_fraud_amount: float | None
    #: Share of frauds in the total amount of labelled rows; None without any.
    fraud_share_of_amount: float | None


def balance(rows: Rows) -> Balance:
    """Count the classes of n > 0 rows."""
    genuine, frauds = int(rows.genuine.sum()), int(rows.fraud.sum())
    times = event_micros(rows.transactions)
    days = (int(times[-1]) - int(times[0])) / DAY
    amounts = rows.numbers("amount")
    lost, passed = (
        float(amounts[rows.fraud].sum()),
        float(amounts[rows.genuine].sum()),
    )
    (rate,) = rates(("all",), np.zeros(len(rows), dtype=np.int64), rows)
    return Balance(
        rows=len(rows),
        genuine=genuine,
        frauds=frauds,
        unlabelled=len(rows) - genuine - frauds,
        rate=rate,
        frauds_a_day=frauds / days if days >= 1 else None,
        rows_a_day=len(rows) / days if days >= 1 else None,
        mean_genuine_amount=passed / genuine if genuine else None,
        mean_fraud_amount=lost / frauds if frauds else None,
        fraud_share_of_amount=lost / (lost + passed) if lost + passed > 0 else None,
    )


@dataclass(frozen=True)
class Holders:
    """Figures of accounts or of merchants."""

    #: `accounts` or `merchants`.
    role: Literal["account_id", "merchant_id"]
    #: Their number.
    distinct: int
    #: Median of rows.
    median_rows: float
    #: Maximum of rows.
    most_rows: int
    #: Number with a fraud.
    defrauded: int
    #: Share of frauds of the 1 % with most frauds; None without frauds.
    share_of_worst: float | None


def holders(rows: Rows) -> tuple[Holders, ...]:
    """Return the figures of accounts and merchants that the schema has."""
    roles: tuple[Literal["account_id", "merchant_id"], ...] = ("account_id", "merchant_id")
    named = (role for role in roles if rows.features.schema.role(role))
    return tuple(_holders(role, rows) for role in named if rows.texts(role).is_valid().true_count)


def _holders(role: Literal["account_id", "merchant_id"], rows: Rows) -> Holders:
    texts = rows.texts(role)
    there = texts.is_valid()
    encoded = texts.filter(there).dictionary_encode()
    codes = np.asarray(encoded.indices, dtype=np.int64)
    distinct = len(encoded.dictionary)
    counts = np.bincount(codes, minlength=distinct)
    fraud = rows.fraud[as_mask(there)]
    frauds = np.sort(np.bincount(codes[fraud], minlength=distinct))
    total = int(frauds.sum())
    worst = int(frauds[-max(distinct // 100, 1) :].sum())
    return Holders(
        role=role,
        distinct=distinct,
        median_rows=float(np.median(counts)),
        most_rows=int(counts.max()),
        defrauded=int((frauds > 0).sum()),
        share_of_worst=worst / total if total else None,
    )


#: Shares of rows below the edges of bands: tenths, and finer for large, rare amounts.
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
#: Significant digits of an edge.
_DIGITS = 2


def amount_bands(rows: Rows) -> tuple[Rate, ...]:
    """Return the rates of non-empty bands of amounts, from small to large.

    Edges are round numbers near the tenths of the n > 0 rows, and near their last 5, 1 and 0.1 %.
    """
    amounts = rows.numbers("amount")
    edges = _edges(amounts)
    if not len(edges):
        return rates((f"all {_number(float(amounts[0]))}",), np.zeros(len(rows), np.int64), rows)
    codes = np.searchsorted(edges, amounts, side="right")
    bands, codes = np.unique(codes, return_inverse=True)
    shown = [_number(edge) for edge in edges]
    names = [
        f"below {shown[0]}"
        if code == 0
        else f"{shown[-1]} and more"
        if code == len(edges)
        else f"{shown[code - 1]} to {shown[code]}"
        for code in bands.tolist()
    ]
    return rates(names, codes, rows)


def _edges(amounts: Floats) -> Floats:
    quantiles = np.quantile(amounts, _SHARES)
    rounded = {float(f"{edge:.{_DIGITS}g}") for edge in quantiles.tolist()}
    # A band below the smallest amount would be empty.
    return np.array(sorted(edge for edge in rounded if edge > amounts.min()), dtype=np.float64)


def _number(edge: float) -> str:
    return f"{edge:,.0f}" if abs(edge) >= 10 else f"{edge:g}"


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: Maximum of days; more are grouped by month.
_MOST_DAYS = 731


@dataclass(frozen=True)
class OverTime:
    """Rates by local time in the schema's time zone."""

    #: Time zone.
    timezone: str
    #: Rates of the hours `00` to `23`.
    hours: tuple[Rate, ...]
    #: Rates of the weekdays, from Monday.
    weekdays: tuple[Rate, ...]
    #: Rates of days or months with rows, in order: `2018-04-01`, or `2018-04`.
    calendar: tuple[Rate, ...]
    #: Unit of `calendar`: months if there are more than two years of days.
    period: Literal["day", "month"]


def over_time(rows: Rows) -> OverTime:
    """Count n > 0 rows by hour, weekday and day."""
    local = rows.local_micros()
    days = local // DAY
    calendar, period = _calendar(days, rows)
    return OverTime(
        rows.features.schema.timezone,
        rates([f"{hour:02}" for hour in range(24)], hours_of(local), rows),
        rates(WEEKDAYS, weekdays_of(local), rows),
        calendar,
        period,
    )


def _calendar(days: Whole, rows: Rows) -> tuple[tuple[Rate, ...], Literal["day", "month"]]:
    # Local time may repeat an hour when clocks are set back.
    unique_days, codes = np.unique(days, return_inverse=True)
    dates = unique_days.astype("datetime64[D]")
    if len(unique_days) <= _MOST_DAYS:
        return rates([str(date) for date in dates], codes, rows), "day"
    months, of_day = np.unique(dates.astype("datetime64[M]"), return_inverse=True)
    return rates([str(month) for month in months], of_day[codes], rows), "month"


#: Maximum of values shown per column.
_TOP = 15
ABSENT, OTHERS = "(absent)", "(all others)"


@dataclass(frozen=True)
class Category:
    """A categorical feature, a currency, or another text column."""

    #: Name of the column.
    column: str
    #: Whether it is a feature.
    feature: bool
    #: Number of distinct non-null values.
    distinct: int
    #: Number of values that occur once.
    once: int
    #: Non-empty groups: the most frequent values, the other values together, and null.
    values: tuple[Rate, ...]


def categories(rows: Rows) -> tuple[Category, ...]:
    """Describe all text columns except ids, and accounts and merchants that are no features."""
    schema = rows.features.schema
    currency = ("currency",) if schema.role("currency") else ()
    names = dict.fromkeys((*rows.categorical, *currency, *schema.key_columns))
    return tuple(_category(name, rows) for name in names)


def _category(name: str, rows: Rows) -> Category:
    encoded = rows.texts(name).dictionary_encode()
    distinct = len(encoded.dictionary)
    codes = np.asarray(encoded.indices.fill_null(distinct), dtype=np.int64)
    counts = np.bincount(codes, minlength=distinct + 1)
    # Ties keep the order of first appearance.
    top = np.argsort(-counts[:distinct], kind="stable")[:_TOP]
    place = np.full(distinct + 1, len(top))
    place[top] = np.arange(len(top))
    place[distinct] = len(top) + 1
    texts = [visible(encoded.dictionary[int(code)].as_py()) for code in top]
    by_value = rates([*texts, OTHERS, ABSENT], place[codes], rows)
    return Category(
        column=name,
        feature=name in rows.categorical,
        distinct=distinct,
        once=int((counts[:distinct] == 1).sum()),
        values=tuple(rate for rate in by_value if rate.rows),
    )
