"""The sections on distributions of scores and on calibration."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_fraud.evaluation.charts.figure import FRAUD, GENUINE, Plot, legend_below, plot
from beam_fraud.evaluation.charts.page import Part, Section, Table
from beam_fraud.evaluation.evaluation import Evaluation, Report
from beam_fraud.evaluation.report.naming import drawn, in_colours, plot_name


def scores_section(report: Report) -> Section:
    """Return a histogram of scores by class for each model."""
    plots = (
        _histogram(model, plot_name("scores", place, report.models))
        for place, model in enumerate(report.models)
    )
    return Section("Scores", tuple(plots))


def calibration_section(report: Report) -> Section:
    """Return the section: reliability curves, Brier scores, expected calibration errors."""
    parts: list[Part] = [
        "A calibrated score of 0.3 means that three of ten such rows are frauds. A model that "
        "weighs frauds more in training, or a resampled one, promises more than comes; its ranking "
        "may be as good.",
        Table(
            ("model", "Brier score", "of the mean", "calibration error", "mean score", "frauds"),
            tuple(
                (
                    model.model_id,
                    *(_small(v) for v in (c.brier, c.brier_of_rate, c.expected_calibration_error)),
                    _small(c.mean_score),
                    _small(model.metrics.frauds / model.metrics.rows),
                )
                for model in report.models
                for c in [model.calibration]
            ),
            "Brier score: mean squared error, beside that of giving every row the share of frauds. "
            "Calibration error: mean distance of promised and found shares over the bins below.",
        ),
        _reliability(report),
    ]
    parts += [_bins(model) for model in report.models]
    return Section("Calibration", tuple(parts))


def _small(value: float) -> str:
    return f"{value:#.3g}"


def _histogram(model: Evaluation, name: str) -> Plot:
    histogram = model.histogram

    def draw(axes: Any) -> None:
        for counts, colour, label in (
            (histogram.genuine, GENUINE, "genuine"),
            (histogram.frauds, FRAUD, "fraud"),
        ):
            axes.stairs(counts, histogram.edges, fill=True, alpha=0.55, color=colour, label=label)
        axes.axvline(model.metrics.threshold, color="#555555", lw=0.9, ls="--")
        axes.set_yscale("symlog", linthresh=1)
        axes.set(xlabel="score", ylabel="rows", title=drawn(model.model_id), xlim=(0, 1))
        axes.set_ylim(bottom=0)
        legend_below(axes)

    caption = "Rows by score, counted by the logarithm; dashed: the threshold."
    return plot(name, caption, draw, width=4.9, height=3.2)


def _reliability(report: Report) -> Plot:
    def draw(axes: Any) -> None:
        shown = [bin_ for model in report.models for bin_ in model.calibration.bins]
        # Shares of 0 have no logarithm: draw them at the bottom with their upper ends.
        floor = min([b.rate_high for b in shown] + [b.mean_score for b in shown if b.mean_score])
        floor = max(floor / 2, 1e-7)
        axes.plot([floor, 1], [floor, 1], color="#999999", lw=0.8, ls=":")
        for model, name, colour in in_colours(report.models):
            bins = model.calibration.bins
            at = np.maximum([b.mean_score for b in bins], floor)
            rate = np.maximum([b.fraud_rate for b in bins], floor)
            ends = [np.maximum([b.rate_low for b in bins], floor), [b.rate_high for b in bins]]
            errors = [np.maximum(rate - ends[0], 0), np.maximum(ends[1] - rate, 0)]
            style = {"color": colour, "fmt": "o-", "ms": 4, "lw": 1.2, "elinewidth": 0.7}
            axes.errorbar(at, rate, yerr=errors, label=name, **style)
        axes.set(xscale="log", yscale="log", xlim=(floor, 1.2), ylim=(floor, 1.2))
        axes.set(xlabel="mean score of the bin", ylabel="share of frauds")
        legend_below(axes)

    caption = (
        "What scores promise against what came, by logarithms, with 95 % intervals. On the dotted "
        "line scores are probabilities; below it they promise too much."
    )
    return plot("reliability", caption, draw, width=5.4, height=4.4 + 0.15 * len(report.models))


def _bins(model: Evaluation) -> Table:
    return Table(
        ("scores from", "to", "rows", "frauds", "mean score", "share of frauds"),
        tuple(
            (
                *(_small(b.low), _small(b.high), b.rows, b.frauds),
                *(_small(b.mean_score), _small(b.fraud_rate)),
            )
            for b in model.calibration.bins
        ),
        f"{model.model_id}: half of the rows, a quarter and so on, from the lowest scores up.",
    )
