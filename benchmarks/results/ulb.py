"""The ULB transactions, and the figures that their tables share.

Dal Pozzolo, Caelen, Johnson, Bontempi: "Calibrating Probability with Undersampling for Unbalanced
Classification" (IEEE SSCI 2015) published them.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.dataset import load_dataset
from beam_fraud.models.metrics import measure
from beam_fraud.models.threshold import operating_points
from beam_fraud.schema.presets import ULB
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.storage.urls import Place
from benchmarks.results.lines import Column, Figures

#: Name of the file in the folder of transactions.
FILE = "creditcard.parquet"
#: The first moment of the last fifth of the rows.
TEST_FROM = datetime.fromisoformat("2013-09-02T16:20:49+00:00")
#: Frauds that the Keras example catches of the 75 in that fifth.
CAUGHT = 66
AVERAGE_PRECISION = Column("average_precision", "average precision")
F1 = Column("f1", "F1")


def load_ulb(folder: Path) -> pa.Table:
    """Return all rows in time order."""
    return load_dataset([Place.of(folder / FILE)], ULB).transactions


def earlier_and_later(transactions: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the training rows and the last fifth."""
    earlier = pc.less(transactions.column("event_time"), pa.scalar(TEST_FROM, EVENT_TIME))
    return transactions.filter(earlier), transactions.filter(pc.invert(earlier))


def labels_of(transactions: pa.Table) -> npt.NDArray[np.int8]:
    """Return int8[n], 1 is fraud."""
    return np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)


def ulb_figures(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64], threshold: float
) -> Figures:
    """Return the figures of scored rows for the tables."""
    measured = measure(labels, scores, threshold)
    figures = {
        "average_precision": measured.average_precision,
        "precision": measured.precision,
        "recall": measured.recall,
        "f1": measured.f1,
    }
    return {name: value or 0.0 for name, value in figures.items()}


def false_alarms_at(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64], caught: int
) -> int:
    """Return the false alarms at the threshold that catches a number of frauds.

    Args:
      labels: int8[n], at least `caught` frauds among them.
      scores: float64[n].
      caught: how many frauds to catch.

    Example:
      >>> labels = np.array([1, 0, 1, 0], dtype=np.int8)
      >>> false_alarms_at(labels, np.array([0.9, 0.8, 0.7, 0.1]), caught=2)
      1
    """
    points = operating_points(labels, scores, days=0)
    first = int(np.argmax(points.caught >= caught))
    return int(points.flagged[first] - points.caught[first])
