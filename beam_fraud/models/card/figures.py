"""Sections of a model card: features and figures, and the Markdown that all sections use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.calibration import Calibrated
from beam_fraud.models.metrics import Metrics, measure
from beam_fraud.models.resampling.under import PriorCorrected
from beam_fraud.models.training import Budgeted, Trained
from beam_fraud.schema.velocity import Velocity
from beam_fraud.wording import printable

_ESCAPED = re.compile(r"([\\`*_{}\[\]()#!|~<>&])")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def plain(text: str) -> str:
    """Escape text, so that it is neither Markdown nor HTML.

    Example:
      >>> plain("<b>a*b")
      '&lt;b&gt;a\\\\*b'
    """
    return _ESCAPED.sub(lambda m: _ENTITIES.get(m[1], "\\" + m[1]), printable(text, escaped=True))


def code(text: str) -> str:
    """Format text as a code span, valid inside a table too.

    The fence is longer than any run of backticks inside, and a broken bar replaces a vertical bar,
    which would end a table cell: a code span has no escapes.

    Example:
      >>> code("a`b")
      '``a`b``'
    """
    shown = printable(text, escaped=True).replace("|", "\u00a6")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown[:1] in ("`", "", " ") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are already Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bullets(values: Mapping[str, object]) -> str:
    """Return a list item for each name and value."""
    return "\n".join(f"- {code(name)}: {plain(str(value))}" for name, value in values.items())


def figure(value: float | None) -> str:
    """Format a share with three digits."""
    return "-" if value is None else f"{value:.3f}"


@dataclass(frozen=True)
class Importance:
    """Importances of features."""

    #: Name of the measure.
    what: str
    #: Importances in the order of the features, not negative; larger is more important.
    values: tuple[float, ...]


def importance_of(model: Any, features: int) -> Importance | None:
    """Return the importances that come with a model for nothing; None if it has none.

    Args:
      model: a fitted classifier.
      features: number of its features.
    """
    while isinstance(model, Calibrated | PriorCorrected):
        model = model.model
    if isinstance(model, Pipeline) and isinstance(model.steps[-1][1], LogisticRegression):
        return _of_weights(model, features)
    values = np.asarray(getattr(model, "feature_importances_", ()), dtype=np.float64)
    if values.shape != (features,) or not np.isfinite(values).all() or values.sum() <= 0:
        return None
    shares = values / values.sum()
    return Importance("shares of the splits' gains in training", tuple(shares.tolist()))


def _of_weights(model: Pipeline, features: int) -> Importance | None:
    names = model[:-1].get_feature_names_out()
    matches = [re.search(r"__x(\d+)", name) for name in names]
    if not all(matches):
        return None
    values = np.zeros(features)
    for match, weight in zip(matches, np.abs(model.steps[-1][1].coef_[0]), strict=True):
        position = int(match[1]) if match else 0
        values[position] = max(values[position], weight)
    what = "largest weight, of the scaled number or of one of the categories, either way"
    return Importance(what, tuple(values.tolist()))


_KEYS = {"account_id": "account", "merchant_id": "merchant"}
_AGGREGATES = {
    "count": "number of transactions",
    "sum": "sum of the amounts",
    "mean": "mean amount",
    "max": "largest amount",
    "min": "smallest amount",
    "std": "standard deviation of the amounts",
    "ratio": "this amount divided by the mean amount",
    "seconds_since_last": "seconds since the last transaction",
    "distinct_merchant": "number of different merchants",
    "risk": "share of frauds",
}


def features_section(features: FeatureSet, importance: Importance | None) -> str:
    """Return a row for each feature, in the order that the model takes them.

    Args:
      features: the model's features.
      importance: the model's own importances, or None.
    """
    meanings = {
        definition.name(aggregate, window): _velocity(definition, aggregate, window)
        for definition in features.velocity
        for window in definition.windows
        for aggregate in definition.aggregates
    }
    head = ["feature", "what it is"]
    rows = [[code(name), meanings.get(name) or _plain(name, features)] for name in features.names]
    note = "The model has no importances of its own; `beam-fraud evaluate` measures them."
    if importance is not None:
        head.append("importance")
        for row, worth in zip(rows, importance.values, strict=True):
            row.append(f"{worth:.3f}")
        note = f"Importance: {importance.what}."
    conversion = features.schema.conversion
    if conversion is not None:
        note += (
            f" Amounts are converted to {plain(conversion.to)} by the rate known at the event time:"
            f" {plain(str(conversion))}."
        )
    return f"{len(rows)}, in this order. {note}\n\n{table(head, rows)}"


def _velocity(definition: Velocity, aggregate: str, window: str) -> str:
    key = " and ".join(plain(_KEYS.get(column, column)) for column in definition.key)
    when = f"the last {window}"
    if definition.delay_microseconds:
        when = f"the {window} that ended {definition.delay} ago"
    by_currency = definition.name(aggregate, window) in definition.amounts_by_currency
    same = ", in the transaction's currency" if by_currency else ""
    return f"{_AGGREGATES[aggregate]} of the {key} in {when}{same}"


def _plain(name: str, features: FeatureSet) -> str:
    if name == "amount":
        conversion = features.schema.conversion
        converted = "" if conversion is None else f", in {plain(conversion.to)}"
        return f"amount of the transaction{converted}"
    if name == "is_weekend":
        return f"1 on a Saturday or Sunday ({plain(features.schema.timezone)}), else 0"
    if name == "is_night":
        return f"1 from midnight to 7 o'clock ({plain(features.schema.timezone)}), else 0"
    if name in features.categories:
        return f"column of the data; one of {len(features.categories[name]):,} known categories"
    return "column of the data; a number"


def rows_of(trained: Trained) -> str:
    """Return a description of the rows behind the figures."""
    return "held-out" if trained.reported_on == "held_out" else "validation"


def figures_section(trained: Trained) -> str:
    """Return the figures at the threshold of review."""
    metrics = trained.metrics
    if metrics is None:
        return (
            "None: no rows were labelled as frauds and others as genuine, or not among both the "
            "rows to fit on and those to validate by, so precision, recall, average precision and "
            "ROC AUC are unknown. Label what it flags, and some of what it passes, then run "
            "`beam-fraud evaluate`."
        )
    return (
        f"On {metrics.rows:,} {rows_of(trained)} rows with {metrics.frauds:,} frauds, which the "
        f"scored model was not fitted on:\n\n{table(['figure', 'value'], _rows(metrics))}"
    )


def thresholds_section(trained: Trained, rule: str, decline: str | None) -> str:
    """Return the section on thresholds: the rules, and how often they flag and decline."""
    at = [("review", trained.threshold, rule)]
    if trained.decline is not None:
        at.append(("decline", trained.decline, decline or ""))
    days = _days(trained)
    per = "a day" if days else "of 10,000 transactions"
    rows = []
    if trained.metrics is None:
        unit = days or len(trained.scores) / 10_000
        alerts = {name: int((trained.scores >= t).sum()) / unit for name, t, _ in at}
        rows = [[name, f"{t:.6g}", code(spec), f"{alerts[name]:,.1f}"] for name, t, spec in at]
        head = ["decision", "from a score of", "chosen by", f"alerts {per}"]
        return f"On the validation rows thresholds mean:\n\n{table(head, rows)}"
    for name, threshold, spec in at:
        metrics = measure(trained.labels, trained.scores, threshold)
        confusion = metrics.confusion
        unit = days or metrics.rows / 10_000
        alarms, caught = confusion["fp"] / unit, confusion["tp"] / unit
        missed = confusion["fn"] / unit
        lost = trained.amounts[(trained.labels == 1) & (trained.scores < threshold)].sum() / unit
        counts = [f"{n:,.1f}" for n in (alarms + caught, caught, alarms, missed, lost)]
        shares = [figure(metrics.precision), figure(metrics.recall)]
        rows.append([name, f"{threshold:.6g}", code(spec), *counts, *shares])
    head = ["decision", "from a score of", "chosen by"]
    head += [
        f"{what} {per}" for what in ("alerts", "caught", "false alarms", "missed", "amount missed")
    ]
    declined = " A score of the second threshold or more is declined." if decline else ""
    in_force = "" if trained.budgeted is None else f"{_in_force(trained.budgeted)}\n\n"
    return (
        f"{in_force}A score of {trained.threshold:.6g} or more is flagged for review, chosen on "
        f"the validation rows by {code(rule)}.{declined} On the {rows_of(trained)} rows that "
        f"means:\n\n"
        f"{table([*head, 'precision', 'recall'], rows)}"
    )


def _in_force(budgeted: Budgeted) -> str:
    """Return the sentences on thresholds that other rows chose."""
    thresholds = budgeted.thresholds
    declined = (
        "" if thresholds.decline is None else f" and of {thresholds.decline:.6g} or more declined"
    )
    return (
        f"**In force:** a score of {thresholds.review:.6g} or more is flagged for review"
        f"{declined}. The model was fitted on the validation rows too, and gives other scores than "
        f"the one that they measured. On {budgeted.rows:,} later rows ({budgeted.span[0]} to "
        f"{budgeted.span[1]}), which it was not fitted on, it flags {budgeted.per_day:,.1f} a day. "
        "Whether these are frauds is not known yet; all figures of this card are of the validation "
        "rows and their threshold."
    )


def scores_section(trained: Trained) -> str:
    """Return the section on whether a score is a probability."""
    if trained.metrics is None:
        return (
            "A score is a rank: the share of the rows fitted on that are less unusual. It says "
            "nothing of how probable a fraud is."
        )
    mean = float(trained.scores.mean())
    share = float(trained.labels.mean())
    seen = (
        f"On the {rows_of(trained)} rows the mean score is {mean:.3g} and the share of frauds "
        f"{share:.3g}."
    )
    if trained.calibration is None:
        return f"A score ranks transactions; it is no calibrated probability. {seen}"
    return (
        f"A score is a probability, by a `{trained.calibration.method}` map of the model's own "
        "scores. The map was learned on the validation rows that chose the threshold too, from "
        "scores of a model of earlier rows: on those rows it looks better calibrated than it is, "
        f"and where the share of frauds changes it is wrong. {seen}"
    )


def _days(trained: Trained) -> float | None:
    """Return the time span of the measured rows in days; None for random rows."""
    if trained.reported_on == "held_out":
        return None
    first, last = (datetime.fromisoformat(text) for text in trained.validated_on)
    return (last - first) / timedelta(days=1) or None


def _rows(metrics: Metrics) -> list[list[str]]:
    figures = {
        "average precision": metrics.average_precision,
        "ROC AUC": metrics.roc_auc,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "F1": metrics.f1,
    }
    confusion = metrics.confusion
    return [
        *([name, figure(value)] for name, value in figures.items()),
        ["frauds flagged / missed", f"{confusion['tp']:,} / {confusion['fn']:,}"],
        ["genuine flagged / passed", f"{confusion['fp']:,} / {confusion['tn']:,}"],
    ]


#: Quantiles of frauds' amounts that divide the rows into groups.
_QUANTILES = (0.25, 0.5, 0.75)


def weaknesses_section(trained: Trained) -> str:
    """Return the section on weaknesses: by amount, and by how few frauds the figures rest on."""
    if trained.metrics is None:
        return (
            "Nothing was measured. What is unusual need not be fraud, and fraud that looks usual "
            "is not found; a kind that learns from labels finds far more once there are some."
        )
    optimism = (
        "The threshold was chosen on the very rows that the figures are of, so expect a little "
        "less on new ones."
        if trained.reported_on == "validation"
        else "Random rows of the same days are easier than later days: expect less in production."
    )
    frauds = trained.metrics.frauds
    uncertain = (
        f"With {frauds:,} frauds the figures are uncertain: one fraud more or less moves recall by "
        f"{1 / max(frauds, 1):.1%}."
    )
    unseen = (
        "What the labels do not know, it does not know: frauds that nobody has reported count as "
        "genuine, and a new kind of fraud may look like nothing it has seen."
    )
    return f"{optimism} {uncertain} {unseen}{_by_amount(trained)}"


def _by_amount(trained: Trained) -> str:
    labels, amounts = trained.labels, trained.amounts
    edges = np.unique(np.quantile(amounts[labels == 1], _QUANTILES, method="inverted_cdf"))
    bands = np.searchsorted(edges, amounts, side="left")
    rows, recalls = [], {}
    for band in range(len(edges) + 1):
        inside = bands == band
        if not inside.any():
            continue
        name = f"up to {edges[band]:,.2f}" if band < len(edges) else f"above {edges[-1]:,.2f}"
        measured = measure(labels[inside], trained.scores[inside], trained.threshold)
        counts = [f"{measured.rows:,}", f"{measured.frauds:,}"]
        rows.append([name, *counts, figure(measured.precision), figure(measured.recall)])
        if measured.recall is not None:
            recalls[name] = measured.recall
    head = ["amount", "rows", "frauds", "precision", "recall"]
    worst = min(recalls, key=lambda name: recalls[name])
    return (
        f"\n\nIt misses most, as a share, among amounts {worst}. `beam-fraud evaluate` shows other "
        f"segments.\n\n{table(head, rows)}"
    )
