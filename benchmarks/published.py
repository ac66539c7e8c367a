"""How well each kind of model does in the test week that the fraud-detection handbook published.

Trained on 2018-07-25 to 07-31, measured on 08-08 to 08-14 as `models.handbook_protocol` says.

    python -m benchmarks.published handbook_transactions.parquet [--kind KIND] [--seeds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from beam_fraud.commands import evaluate, train
from beam_fraud.commands.evaluate import EvaluateOptions
from beam_fraud.commands.train import TrainOptions
from beam_fraud.models.kinds import KINDS

#: The figures, as `evaluate --protocol handbook` calls them.
FIGURES = ("roc_auc", "average_precision", "card_precision_at_100")


@dataclass(frozen=True)
class Published:
    """Figures of one model in the published week."""

    #: Kind of model.
    kind: str
    #: Of everything random.
    seed: int
    #: Transactions that were tested.
    rows: int
    #: Frauds among them.
    frauds: int
    #: Area under the receiver operating characteristic.
    roc_auc: float
    #: Average precision.
    average_precision: float
    #: Share of compromised cards among the hundred looked at, a day on average.
    card_precision_at_100: float


def published_week(file: Path, kind: str, seed: int) -> Published:
    """Train and measure one model.

    Args:
      file: the handbook's transactions.
      kind: what to train.
      seed: of everything random.
    """
    with TemporaryDirectory() as out:
        options = TrainOptions(
            files=(str(file),),
            schema="handbook",
            model=kind,
            out=str(Path(out) / kind),
            since="2018-07-25",
            until="2018-08-01",
            seed=seed,
        )
        train.run(options)
        result: dict[str, Any] = evaluate.run(
            EvaluateOptions(options.files, options.out, protocol="handbook")
        )
    figures = {name: result[name] for name in ("rows", "frauds", *FIGURES)}
    return Published(kind, seed, **figures)


def table(results: list[Published]) -> str:
    """Means over the seeds, a line a kind; the standard deviation behind a `±`."""
    lines = [f"{'kind':<24}" + "".join(f"{name:>24}" for name in FIGURES)]
    for kind in dict.fromkeys(result.kind for result in results):
        values = [[float(getattr(r, name)) for r in results if r.kind == kind] for name in FIGURES]
        cells = (f"{statistics.fmean(v):.3f} ± {statistics.pstdev(v):.3f}" for v in values)
        lines.append(f"{kind:<24}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the handbook's transactions")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="repeatable")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--json", action="store_true", help="every model's figures as JSON")
    options = parser.parse_args()
    results = []
    for name in options.kind or KINDS:
        for seed in range(options.seeds):
            results.append(published_week(options.file, name, seed))
            print(results[-1], file=sys.stderr, flush=True)
    print(json.dumps([asdict(r) for r in results]) if options.json else table(results))


if __name__ == "__main__":
    main()
