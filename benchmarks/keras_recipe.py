"""Keras' example of card fraud, run again: the same recipe on the same rows.

https://keras.io/examples/structured_data/imbalanced_classification/ by François Chollet fits on the
first 80 % of the ULB rows and tells 66 of the 75 frauds of the last 20 % from 441 false alarms, at
a score of 0.5; the last epoch of the log printed there says 65 and 462. Its script looks at the
last 20 % after each epoch, and so does this, afterwards: what is fitted never receives them.

    python -m benchmarks.keras_recipe creditcard.parquet [--seeds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.keras import Keras
from beam_fraud.models.metrics import measure
from beam_fraud.models.network.fitting import read_checkpoint
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.presets import ULB
from beam_fraud.storage.urls import Place

#: Share of the rows that the example tests on, the last ones.
TESTED = 0.2
#: A row is flagged from this score on.
FLAGGED_FROM = 0.5
#: What shows that the recipe is the same: at least this recall on average...
LEAST_RECALL = 0.85
#: ...with fewer false alarms than this.
MOST_FALSE_ALARMS = 1_500


@dataclass(frozen=True)
class AfterEpoch:
    """Figures of a network after an epoch."""

    #: From 1.
    epoch: int
    #: Loss on the rows fitted on, as they passed.
    loss: float
    #: Frauds and genuine rows flagged among the rows fitted on, as they passed.
    fitted_tp: int
    fitted_fp: int
    #: Frauds and genuine rows flagged among the tested rows.
    tp: int
    fp: int


@dataclass(frozen=True)
class Run:
    """The run of one seed."""

    #: Of everything random.
    seed: int
    #: Rows fitted on and tested on.
    fitted_rows: int
    rows: int
    #: Frauds among the tested rows.
    frauds: int
    #: Frauds flagged by the last epoch's network.
    tp: int
    #: Genuine rows flagged by it.
    fp: int
    #: Average precision of its scores.
    average_precision: float
    #: Seconds to fit.
    seconds: float
    #: Each epoch.
    epochs: tuple[AfterEpoch, ...]

    @property
    def recall(self) -> float:
        """Flagged among the frauds."""
        return self.tp / self.frauds


def parts(file: str) -> tuple[LabelledRows, LabelledRows]:
    """Return the training rows and the test rows of the example."""
    transactions = load_dataset([Place.parse(file)], ULB).transactions
    matrix = feature_matrix(transactions, FeatureSet(ULB))
    labels = np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)
    first = len(labels) - int(len(labels) * TESTED)
    return LabelledRows(matrix[:first], labels[:first]), LabelledRows(
        matrix[first:], labels[first:]
    )


def run(train: LabelledRows, test: LabelledRows, seed: int, kind: Keras | None = None) -> Run:
    """Fit with one seed, then measure on the test rows.

    Args:
      train: rows to fit on.
      test: rows to test on.
      seed: of everything random.
      kind: the recipe; as published if None.
    """
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = replace(kind or Keras(), checkpoints=folder).fit(train, seed)
        seconds = time.perf_counter() - start
        prepared = model[:-1].transform(test.matrix)
        epochs = []
        for epoch in model[-1].history_:
            network = read_checkpoint(Path(folder) / "fitted", epoch.epoch)
            confusion = measure(test.labels, network.scores(prepared), FLAGGED_FROM).confusion
            epochs.append(
                AfterEpoch(
                    epoch.epoch,
                    epoch.training.loss,
                    epoch.training.tp,
                    epoch.training.fp,
                    confusion["tp"],
                    confusion["fp"],
                )
            )
    last = measure(test.labels, predict_scores(model, test.matrix), FLAGGED_FROM)
    return Run(
        seed,
        len(train.labels),
        last.rows,
        last.frauds,
        last.confusion["tp"],
        last.confusion["fp"],
        last.average_precision or 0.0,
        round(seconds, 1),
        tuple(epochs),
    )


def table(runs: list[Run]) -> str:
    """Return a line for each seed, the means, and the published and required figures."""
    lines = [f"{'':<12}{'caught':>8}{'false alarms':>14}{'recall':>8}{'avg. prec.':>12}{'s':>7}"]
    lines += [
        f"{f'seed {r.seed}':<12}{r.tp:>8}{r.fp:>14}{r.recall:>8.3f}{r.average_precision:>12.3f}"
        f"{r.seconds:>7.0f}"
        for r in runs
    ]
    caught, alarms, recall, precision, seconds = (
        statistics.fmean(getattr(r, name) for r in runs)
        for name in ("tp", "fp", "recall", "average_precision", "seconds")
    )
    met = recall >= LEAST_RECALL and alarms < MOST_FALSE_ALARMS
    return "\n".join(
        [
            *lines,
            f"{'mean':<12}{caught:>8.1f}{alarms:>14.1f}{recall:>8.3f}{precision:>12.3f}{seconds:>7.0f}",
            f"{'published':<12}{66:>8}{441:>14}{66 / 75:>8.3f}",
            f"{'its log':<12}{65:>8}{462:>14}{65 / 75:>8.3f}",
            f"A recall of at least {LEAST_RECALL:g} with fewer than {MOST_FALSE_ALARMS:,} false "
            f"alarms: {'met' if met else 'missed'}",
        ]
    )


def main() -> None:
    """Print the figures; print those of each epoch to standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="the ULB transactions, Parquet or CSV")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--json", action="store_true", help="every epoch's figures as JSON")
    options = parser.parse_args()
    train, test = parts(options.file)
    runs = []
    for seed in range(options.seeds):
        runs.append(run(train, test, seed))
        for epoch in runs[-1].epochs:
            print(f"seed {seed}", epoch, file=sys.stderr, flush=True)
    print(json.dumps([asdict(r) for r in runs]) if options.json else table(runs))


if __name__ == "__main__":
    main()
