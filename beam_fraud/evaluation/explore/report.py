"""Sections of a page on an exploration."""

from __future__ import annotations

from collections.abc import Sequence

from beam_fraud.evaluation.charts import Notice, Part, Section, Table, percent
from beam_fraud.evaluation.explore.correlation import LABEL, TIME
from beam_fraud.evaluation.explore.exploration import Exploration
from beam_fraud.evaluation.explore.features import Numbers
from beam_fraud.evaluation.explore.plots import (
    MOST_NAMES,
    plot_balance,
    plot_correlation,
    plot_distributions,
    plot_rates,
    plot_separation,
)
from beam_fraud.evaluation.explore.rows import Rate

#: Maximum of features in plots; tables hold more.
_DRAWN = 40
#: Maximum of rows of a table of pairs.
_PAIRS = 40
#: Ratio of mean to values below which the mean counts as a rounded 0.
_ROUNDING = 1e-12
_HOLDERS = {"account_id": "accounts", "merchant_id": "merchants"}

Cells = tuple[str | int | float | None, ...]


def report_sections(exploration: Exploration, files: Sequence[str]) -> list[Section]:
    """Return the sections in order; without those that need labels if there are none."""
    sections = [
        Section("Advice", _advice(exploration)),
        Section("Overview", _overview(exploration, files)),
        Section("Classes", _classes(exploration)),
        Section("Time and amount", _over(exploration)),
        Section("Missing values", _missing(exploration)),
        Section("Duplicates", _duplicates(exploration)),
        Section("Features", _features(exploration)),
        Section("Separation", _separation(exploration)),
        Section("Correlation", _correlation(exploration)),
        Section("Categories", _categories(exploration)),
        Section("Leakage suspects", _suspects(exploration)),
    ]
    return [section for section in sections if section.parts]


def subtitle(exploration: Exploration, schema: str) -> str:
    """Return the subtitle of a page."""
    first, last = exploration.span
    return (
        f"{exploration.balance.rows:,} transactions, {_moment(first)} to {_moment(last)} · {schema}"
    )


def _moment(text: str) -> str:
    return text[:16].replace("T", " ") + " UTC"


def _advice(exploration: Exploration) -> tuple[Part, ...]:
    return tuple(
        Notice(f"{piece.topic.capitalize()}. {piece.text}", piece.warning)
        for piece in exploration.advice
    )


def _skipped(exploration: Exploration) -> tuple[tuple[str, int], ...]:
    return (
        ("deleted rows, left out", exploration.rows_tombstone),
        ("later changes of rows, left out", exploration.rows_correction),
    )


def _overview(exploration: Exploration, files: Sequence[str]) -> tuple[Part, ...]:
    counted = exploration.balance
    rows: list[Cells] = [
        ("files", len(files)),
        ("rows read", exploration.rows_in),
        ("dead letters", sum(exploration.dead_reasons.values())),
        *((f"\N{EM DASH} {reason}", count) for reason, count in exploration.dead_reasons.items()),
        ("repeated ids, left out", exploration.rows_duplicate),
        *((name, count) for name, count in _skipped(exploration) if count),
        ("transactions looked at", counted.rows),
        ("first", _moment(exploration.span[0])),
        ("last", _moment(exploration.span[1])),
        ("transactions a day", None if counted.rows_a_day is None else round(counted.rows_a_day)),
        ("features", len(exploration.features)),
    ]
    parts: list[Part] = [Table(("what", "value"), tuple(rows))]
    if exploration.holders:
        columns = (
            "who",
            "number",
            "rows, median",
            "rows, most",
            "with frauds",
            "frauds at worst 1 %",
        )
        cells = tuple(
            (
                _HOLDERS[held.role],
                held.distinct,
                held.median_rows,
                held.most_rows,
                held.defrauded,
                percent(held.share_of_worst),
            )
            for held in exploration.holders
        )
        parts.append(Table(columns, cells, "Accounts and merchants."))
    return tuple(parts)


def _classes(exploration: Exploration) -> tuple[Part, ...]:
    counted = exploration.balance
    if not counted.genuine and not counted.frauds:
        return ("No row has a label.",)
    rows: tuple[Cells, ...] = (
        ("genuine", counted.genuine, counted.mean_genuine_amount),
        ("fraud", counted.frauds, counted.mean_fraud_amount),
        ("no label", counted.unlabelled, None),
    )
    rate = counted.rate
    text = (
        f"{percent(rate.rate)} of the labelled rows are frauds (95 % interval "
        f"{percent(rate.low)} to {percent(rate.high)}), and "
        f"{percent(counted.fraud_share_of_amount)} of their money."
    )
    return (
        text,
        plot_balance(counted),
        Table(("class", "rows", "mean amount"), rows),
    )


def _over(exploration: Exploration) -> tuple[Part, ...]:
    when = exploration.over_time
    return (
        f"Hours and days are those of {when.timezone}. An interval that leaves its plot is "
        "of a group of few rows.",
        plot_rates(f"by_{when.period}", when.period, when.calendar, _width(len(when.calendar))),
        plot_rates("by_hour", "hour", when.hours),
        plot_rates("by_weekday", "weekday", when.weekdays),
        plot_rates("by_amount", "amount", exploration.amounts),
        _rates_table("amount", exploration.amounts, ""),
    )


def _rates_table(what: str, groups: Sequence[Rate], caption: str) -> Table:
    columns = (what, "rows", "frauds", "rate", "95 % interval")
    rows = tuple(
        (
            group.group,
            group.rows,
            group.frauds if group.labelled else None,
            percent(group.rate),
            None if group.low is None else f"{percent(group.low)} to {percent(group.high)}",
        )
        for group in groups
    )
    return Table(columns, rows, caption)


def _missing(exploration: Exploration) -> tuple[Part, ...]:
    some = [m for m in exploration.missing if m.absent or m.dead]
    if not some:
        return (f"None of the {len(exploration.missing)} columns and features lacks a value.",)
    some.sort(key=lambda m: -(m.absent + m.dead))
    columns = ("column", "absent", "share", "dead letters", "rate where absent", "where present")
    rows = tuple(
        (
            m.column,
            m.absent,
            percent(m.share),
            m.dead,
            percent(m.rate_absent),
            percent(m.rate_present),
        )
        for m in some
    )
    full = len(exploration.missing) - len(some)
    return (
        f"{full} of {len(exploration.missing)} columns and features are complete. A row without a "
        "required value is a dead letter, counted at its first fault.",
        Table(columns, rows),
    )


def _duplicates(exploration: Exploration) -> tuple[Part, ...]:
    equal = exploration.duplicates
    text = (
        f"{equal.rows:,} rows ({percent(equal.share)}) equal an earlier one in every column that "
        f"the schema reads but the id; {equal.frauds:,} of them are frauds."
    )
    if equal.rows:
        text += (
            f" They are of {equal.groups:,} sets of equal rows, the largest of {equal.largest:,}."
        )
    if not equal.conflicting_groups:
        return (text,)
    differ = (
        f"{equal.conflicting_rows:,} rows of {equal.conflicting_groups:,} sets are equal but for "
        "the label: some of a set are frauds and some are not."
    )
    return (text, Notice(differ, warning=True))


def _features(exploration: Exploration) -> tuple[Part, ...]:
    best = [s.feature for s in exploration.separations]
    drawn = list(exploration.distributions)
    left_out = len(drawn) - _DRAWN
    if left_out > 0:
        order = {feature: place for place, feature in enumerate(best)}
        best_distributions = sorted(drawn, key=lambda d: order.get(d.feature, len(order)))[:_DRAWN]
        drawn = [d for d in drawn if d in best_distributions]
    columns = (
        *("feature", "present", "distinct", "least", "median", "mean", "99 % below", "most"),
        "most frequent",
    )
    rows = tuple(
        (
            n.feature,
            n.present,
            n.distinct,
            n.least,
            n.median,
            _mean(n),
            n.percentile_99,
            n.most,
            percent(n.most_frequent_share),
        )
        for n in exploration.numbers
    )
    more = f"The {_DRAWN} that separate the classes best are drawn, {left_out:,} are not."
    return (
        *((more,) if left_out > 0 else ()),
        *plot_distributions(drawn),
        Table(columns, rows, "Numeric features."),
    )


def _separation(exploration: Exploration) -> tuple[Part, ...]:
    if not exploration.separations:
        return ()
    columns = ("feature", "frauds are", "average precision", "ROC AUC", "KS", "KS at", "rows")
    rows = tuple(
        (s.feature, s.frauds_are, s.average_precision, s.roc_auc, s.ks, s.ks_at, s.rows)
        for s in exploration.separations
    )
    return (
        "Each feature alone, as if its value, or the rate of frauds of its category, were a score. "
        "KS is the largest distance between the classes' distribution functions.",
        plot_separation(exploration.separations, exploration.balance.rate.rate or 0.0),
        Table(columns, rows),
    )


def _correlation(exploration: Exploration) -> tuple[Part, ...]:
    together = exploration.correlation
    features = [name for name in together.names if name not in (TIME, LABEL)]
    others = [name for name in (TIME, LABEL) if name in together.names]
    if not features:
        return ()
    drawn = features
    most = MOST_NAMES - len(others)
    if len(features) > most:
        best = [s.feature for s in exploration.separations if s.feature in set(features)]
        chosen = set([*best, *(f for f in features if f not in set(best))][:most])
        drawn = [name for name in features if name in chosen]
    parts: list[Part] = [plot_correlation(together, [*drawn, *others])]
    if len(drawn) < len(features):
        parts.insert(
            0,
            f"{len(drawn)} of {len(features)} features are drawn: those that "
            "separate the classes best.",
        )
    if together.redundant:
        pairs = tuple((p.feature, p.other, p.coefficient) for p in together.redundant[:_PAIRS])
        caption = "Pairs that say nearly the same, strongest first."
        if len(together.redundant) > _PAIRS:
            caption += f" {len(together.redundant) - _PAIRS:,} more are not shown."
        parts.append(Table(("feature", "other", "coefficient"), pairs, caption))
    return tuple(parts)


def _categories(exploration: Exploration) -> tuple[Part, ...]:
    return tuple(
        _rates_table(
            text.column,
            text.values,
            f"{text.column}: {text.distinct:,} different values, {text.once:,} of them in one row "
            f"only{'' if text.feature else '; no feature'}.",
        )
        for text in exploration.categories
    )


def _suspects(exploration: Exploration) -> tuple[Part, ...]:
    if not exploration.suspects:
        return (
            "None: no feature predicts too well alone, is an id, the time or a constant, or is "
            "named after what is known later.",
        )
    rows = tuple((s.feature, s.kind, s.why) for s in exploration.suspects)
    return (Table(("feature", "suspected", "why"), rows),)


def _mean(numbers: Numbers) -> float | None:
    """Return the mean, 0 if it is a rounding error."""
    if numbers.mean is None or numbers.least is None or numbers.most is None:
        return None
    largest = max(abs(numbers.least), abs(numbers.most))
    return numbers.mean if abs(numbers.mean) > _ROUNDING * largest else 0.0


def _width(bars: int) -> float:
    return 5.0 if bars <= 10 else 10.2
