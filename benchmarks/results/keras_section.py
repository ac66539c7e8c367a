"""The Keras example of card fraud, run again with several seeds."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import keras_recipe
from benchmarks.results.lines import Column, Line, Section
from benchmarks.results.ulb import AVERAGE_PRECISION, FILE

COLUMNS = (
    Column("recall", "recall"),
    Column("caught", "caught of 75", digits=1),
    Column("alarms", "false alarms", digits=0, less=True),
    AVERAGE_PRECISION,
)
TEXT = """\
The recipe of the Keras example "Imbalanced classification: credit card fraud detection"
(fchollet) as `--model keras`: 30 epochs on the first 80 % in time, measured after the last epoch
on the last 56,961 rows at a score of 0.5. Nothing is chosen, so no validation rows are needed."""


def section(folder: Path, seeds: int) -> Section:
    """Return the section.

    Args:
      folder: where the transactions are.
      seeds: how many, from 0 on.
    """
    start = time.perf_counter()
    train, test = keras_recipe.parts(str(folder / FILE))
    runs = [keras_recipe.run(train, test, seed) for seed in range(seeds)]
    ours = Line(
        "`--model keras`",
        tuple(
            {
                "recall": run.recall,
                "caught": float(run.tp),
                "alarms": float(run.fp),
                "average_precision": run.average_precision,
            }
            for run in runs
        ),
        floors={
            "recall": keras_recipe.LEAST_RECALL,
            "alarms": keras_recipe.MOST_FALSE_ALARMS - 1,
        },
    )
    lines = (
        Line("as published", ({"recall": 66 / 75, "caught": 66.0, "alarms": 441.0},)),
        Line("the last epoch of its log", ({"recall": 65 / 75, "caught": 65.0, "alarms": 462.0},)),
        ours,
    )
    seconds = round(time.perf_counter() - start, 1)
    return Section("keras", "ULB: the Keras example", TEXT, COLUMNS, lines, seconds)
