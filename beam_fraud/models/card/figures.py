"""The figures of a model card, and the work that its thresholds cause."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from beam_fraud.models.card.markdown import code, figure, table
from beam_fraud.models.metrics import Metrics, measure
from beam_fraud.models.training import Trained


def rows_of(trained: Trained) -> str:
    """Return a description of the rows behind the figures."""
    return "held-out" if trained.reported_on == "held_out" else "validation"


def figures_section(trained: Trained) -> str:
    """Return the figures at the threshold of review."""
    metrics = trained.metrics
    if metrics is None:
        return (
            "None: no rows were labelled as frauds and others as genuine, so precision, recall, "
            "average precision and ROC AUC are unknown. Label what it flags, and some of what it "
            "passes, then run `beam-fraud evaluate`."
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
        rows = [[name, f"{t:.6g}", code(asked), f"{alerts[name]:,.1f}"] for name, t, asked in at]
        head = ["decision", "from a score of", "chosen by", f"alerts {per}"]
        return f"On the validation rows thresholds mean:\n\n{table(head, rows)}"
    for name, threshold, asked in at:
        metrics = measure(trained.labels, trained.scores, threshold)
        confusion = metrics.confusion
        unit = days or metrics.rows / 10_000
        alarms, caught = confusion["fp"] / unit, confusion["tp"] / unit
        missed = confusion["fn"] / unit
        lost = trained.amounts[(trained.labels == 1) & (trained.scores < threshold)].sum() / unit
        counts = [f"{n:,.1f}" for n in (alarms + caught, caught, alarms, missed, lost)]
        shares = [figure(metrics.precision), figure(metrics.recall)]
        rows.append([name, f"{threshold:.6g}", code(asked), *counts, *shares])
    head = ["decision", "from a score of", "chosen by"]
    head += [
        f"{what} {per}" for what in ("alerts", "caught", "false alarms", "missed", "amount missed")
    ]
    declined = " A score of the second threshold or more is declined." if decline else ""
    return (
        f"A score of {trained.threshold:.6g} or more is flagged for review, chosen on the "
        f"validation rows by {code(rule)}.{declined} On the {rows_of(trained)} rows that means:\n\n"
        f"{table([*head, 'precision', 'recall'], rows)}"
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
        found = measure(labels[inside], trained.scores[inside], trained.threshold)
        counts = [f"{found.rows:,}", f"{found.frauds:,}"]
        rows.append([name, *counts, figure(found.precision), figure(found.recall)])
        if found.recall is not None:
            recalls[name] = found.recall
    head = ["amount", "rows", "frauds", "precision", "recall"]
    worst = min(recalls, key=lambda name: recalls[name])
    return (
        f"\n\nIt misses most, as a share, among amounts {worst}. `beam-fraud evaluate` shows other "
        f"segments.\n\n{table(head, rows)}"
    )
