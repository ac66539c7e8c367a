"""The quality of a model in `monitor`: its labels, its figures on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beam_fraud.cli.commands.database import database_of
from beam_fraud.cli.options import ExportLabelsOptions, MonitorOptions
from beam_fraud.cli.terminal.columns import table
from beam_fraud.evaluation.quality.quality import Labelled, Quality, ScoredDays, quality_of
from beam_fraud.models.bundle import Bundle, read_reliability
from beam_fraud.models.drift import zone_of
from beam_fraud.monitoring.drift.report import Alarm
from beam_fraud.operations.drift.archive import Counted
from beam_fraud.operations.drift.quality import RowsByScore
from beam_fraud.operations.retraining.weights import audit_weights
from beam_fraud.records.known_frauds import KnownFrauds
from beam_fraud.records.label_file import LabelFile, read_label_file
from beam_fraud.storage.temporary import temporary_directory
from beam_fraud.storage.urls import Place

_LOG = logging.getLogger(__name__)
#: Weeks on the terminal.
_SHOWN = 8


def labels_of(options: MonitorOptions) -> LabelFile | None:
    """Return the labels of a file or a database, or None.

    Raises:
      UsageError: it is neither.
      FraudError: they cannot be read.
    """
    if options.labels is None:
        return None
    if Place.parse(options.labels).local is not None:
        return read_label_file(Path(options.labels))
    # Imported here: it loads what labels are imported with, too.
    from beam_fraud.cli.commands import labels

    database_of(options.labels, option="--labels", writes=False)
    with temporary_directory() as directory:
        file = directory / "labels.parquet"
        labels.run_export(ExportLabelsOptions(database=options.labels, out=str(file)))
        return read_label_file(file)


def monitored_quality(
    counted: Counted, bundle: Bundle, labels: LabelFile | None, alarms: Sequence[Alarm]
) -> Quality | None:
    """Return the quality of a model over archives and counts; None if none has rows by score.

    Args:
      counted: their rows, and the frauds that the labels name.
      bundle: the model.
      labels: the labels; None for expected figures alone.
      alarms: alarms of drift.

    Raises:
      FraudError: a file of the bundle is changed.
    """
    labelled, by_score = None, counted.by_score
    if labels is not None and by_score.newest is None:
        _LOG.warning("counts have no rows to find the labels of; give archives, too (--also)")
    elif labels is not None and by_score.newest is not None:
        frauds = KnownFrauds.joined(by_score.frauds)
        weights = audit_weights(np.ones(len(frauds), np.int8), frauds.probability)
        as_of = max(by_score.newest, labels.newest or by_score.newest)
        labelled = Labelled(frauds, weights.values, as_of)
    quality = quality_by_score(by_score, bundle, alarms, labelled)
    if quality is None:
        return None
    for warning in quality.warnings:
        _LOG.warning("%s", warning)
    if quality.assumption.holds is False:
        _LOG.warning("expected quality cannot be relied on: %s", quality.assumption.why)
    return quality


def quality_by_score(
    by_score: RowsByScore,
    bundle: Bundle,
    alarms: Sequence[Alarm],
    labelled: Labelled | None = None,
) -> Quality | None:
    """Return the quality of a model by its rows by score; None without any.

    Args:
      by_score: the rows.
      bundle: the model.
      alarms: alarms of drift.
      labelled: the known frauds; None for expected figures alone.

    Raises:
      FraudError: a file of the bundle is changed.
    """
    if not len(by_score.summary.days):
        return None
    scored = ScoredDays(by_score.summary.days, by_score.by_decision, zone_of(bundle))
    return quality_of(scored, read_reliability(bundle), labelled, alarms)


def render_quality(quality: Mapping[str, Any]) -> list[str]:
    """Return the last weeks, expected and measured, and whether they agree."""
    rows: list[tuple[str, ...]] = [
        ("week from", "flagged", "precision", "measured", "recall", "measured", "labels")
    ]
    for period in quality["periods"][-_SHOWN:]:
        expected, measured = period["expected"] or {}, period["measured"] or {}
        known = measured.get("known")
        rows.append(
            (
                period["since"],
                f"{period['flagged']:,}",
                *(_figure(expected.get("precision")), _figure(measured.get("precision"))),
                *(_figure(expected.get("recall")), _figure(measured.get("recall"))),
                measured.get("state", "none")
                + ("" if known is None else f", {100 * known:.0f} % known"),
            )
        )
    assumption = quality["assumption"]
    head = {True: "agrees with labels", False: "cannot be relied on", None: "is unchecked"}
    said = f"expected quality {head[assumption['holds']]}: {assumption['why']}"
    return [said, *table(rows, right=range(1, 6), margin=2)]


def _figure(figure: Mapping[str, Any] | None) -> str:
    return "-" if figure is None or figure["value"] is None else f"{figure['value']:.2f}"
