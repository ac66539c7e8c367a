"""How well each kind of model does on the ULB transactions, by time and by random split.

By time: trained on what was before `--until`, measured on the rest, which nothing was chosen by.
Stratified: 70 % of random rows to train on, 30 % to measure on, flagged from a score of 0.5, as
published work does.

    python -m benchmarks.quality creditcard.parquet [--seeds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.kinds import KINDS, ModelKind
from beam_fraud.models.metrics import measure
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.threshold import MostF1
from beam_fraud.models.training import Recipe, train
from beam_fraud.presets import ULB
from beam_fraud.schema import EVENT_TIME

#: The first moment of the last fifth of the rows.
TEST_FROM = datetime.fromisoformat("2013-09-02T16:20:49+00:00")


@dataclass(frozen=True)
class Quality:
    """Figures of one model."""

    #: Kind of model.
    kind: str
    #: Of everything random.
    seed: int
    #: Average precision on the later rows.
    average_precision: float
    #: F1 on the later rows, at the threshold that the validation rows chose.
    f1_by_time: float
    #: Average precision on the held-out random rows.
    stratified_average_precision: float
    #: F1 on the held-out random rows, flagged from 0.5.
    stratified_f1: float
    #: Seconds to choose and to fit again, by time.
    seconds: float
    #: What a prediction costs on one thread, in blocks of 50,000 rows.
    microseconds_per_row: float


def quality(transactions: pa.Table, kind: ModelKind, seed: int) -> Quality:
    """Train and measure one model both ways.

    Args:
      transactions: labelled ULB rows in time order.
      kind: what to train.
      seed: of everything random.
    """
    earlier = pc.less(transactions.column("event_time"), pa.scalar(TEST_FROM, EVENT_TIME))
    later = transactions.filter(pc.invert(earlier))
    by_time = train(transactions.filter(earlier), ULB, Recipe(kind, MostF1(), seed=seed))
    scores = predict_scores(by_time.model, feature_matrix(later, by_time.features))
    labels = np.asarray(later.column("label").to_numpy(), dtype=np.int8)
    measured = measure(labels, scores, by_time.threshold)
    random = train(transactions, ULB, Recipe(kind, MostF1(), split="stratified", seed=seed))
    held_out = measure(random.labels, random.scores, 0.5)
    return Quality(
        kind.name,
        seed,
        measured.average_precision or 0.0,
        measured.f1 or 0.0,
        held_out.average_precision or 0.0,
        held_out.f1 or 0.0,
        by_time.seconds,
        by_time.microseconds_per_row,
    )


def table(results: list[Quality]) -> str:
    """Means over the seeds, a line a kind; the standard deviation behind a `±`."""
    columns = list(asdict(results[0]))[2:]
    lines = [f"{'kind':<24}" + "".join(f"{column:>32}" for column in columns)]
    for kind in dict.fromkeys(result.kind for result in results):
        values = [
            [float(getattr(result, column)) for result in results if result.kind == kind]
            for column in columns
        ]
        cells = (f"{statistics.fmean(v):.3f} ± {statistics.pstdev(v):.3f}" for v in values)
        lines.append(f"{kind:<24}" + "".join(f"{cell:>32}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="the ULB transactions, Parquet or CSV")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="repeatable")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--json", action="store_true", help="every model's figures as JSON")
    options = parser.parse_args()
    transactions = load_dataset([options.file], ULB).transactions
    results = []
    for name in options.kind or KINDS:
        for seed in range(options.seeds):
            results.append(quality(transactions, KINDS[name], seed))
            print(results[-1], file=sys.stderr, flush=True)
    print(json.dumps([asdict(r) for r in results]) if options.json else table(results))


if __name__ == "__main__":
    main()
