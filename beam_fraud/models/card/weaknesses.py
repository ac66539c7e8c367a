"""Where a model is weak: by amount, and by how few frauds its figures rest on."""

from __future__ import annotations

import numpy as np

from beam_fraud.models.card.markdown import figure, table
from beam_fraud.models.metrics import measure
from beam_fraud.models.training import Trained

#: Quantiles of the frauds' amounts that divide the rows.
_QUANTILES = (0.25, 0.5, 0.75)


def weaknesses_section(trained: Trained) -> str:
    """What not to rely on."""
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
