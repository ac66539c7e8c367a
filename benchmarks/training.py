"""Time of `train` from a raw file to a bundle, and of opening a bundle."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from beam_fraud.models.kinds import KINDS
from beam_fraud.models.kinds.boosting import Boosting
from benchmarks.commands import BEAM_FRAUD
from benchmarks.measure import Case, printed
from benchmarks.plan import Plan, Results, log
from benchmarks.table import Figure, Ratio

#: The seven days that the handbook trains on; all earlier transactions fill the windows.
_DAYS = ("--from", "2018-07-25", "--until", "2018-08-01")
#: Transactions of those days; bounds are for them.
_ROWS = 67_240
#: What training may take, in seconds.
_MOST_TRAINING = 60.0
#: What is timed of opening a bundle in a process of its own, and what of it has a bound.
_STEPS = {
    "all": "import numpy, pandas, sklearn, and open a bundle",
    "first": "open a bundle, with what only it imports",
    "again": "open it again",
}
#: What `first` may take, in seconds.
_MOST_LOADING = 1.0
_MOST_LOADING_OF = {"keras": 3.0}
#: Opening takes so little that it is done at least so often.
_LOADS = 5


def measure_training(plan: Plan, results: Results) -> None:
    """Measure every kind on the handbook's seven days; boosting repeatedly."""
    bundles = {kind: plan.inputs.work / "out" / f"training-{kind}" for kind in KINDS}
    boosting = [name for name, kind in KINDS.items() if isinstance(kind, Boosting)]
    cases = {kind: _training(plan.inputs.published, kind, out) for kind, out in bundles.items()}
    measured = results.measure(plan.repeat, [cases[kind] for kind in boosting])
    results.measure(1, [case for kind, case in cases.items() if kind not in boosting])
    bounded = plan.inputs.rows_of(plan.inputs.published) >= _ROWS
    for figure in measured:
        name = f"training {figure.model} on seven days, raw file to bundle, seconds"
        results.ratios.append(Ratio(name, figure.seconds, _MOST_TRAINING if bounded else None))
    for kind, bundle in bundles.items():
        _measure_loading(plan, results, kind, bundle)


def _training(source: Path, kind: str, out: Path) -> Case:
    options = ("--schema", "handbook", "--model", kind, *_DAYS, "--out", str(out))
    return Case("train on seven days", None, ((BEAM_FRAUD, "train", str(source), *options),), kind)


def _measure_loading(plan: Plan, results: Results, kind: str, bundle: Path) -> None:
    command = (sys.executable, "-m", "benchmarks.loading_run", str(bundle))
    runs = [printed(command) for _ in range(max(plan.repeat, _LOADS))]
    for step, name in _STEPS.items():
        seconds = [run[step] for run in runs]
        middle = statistics.median(seconds)
        results.figures.append(Figure(name, kind, None, len(runs), middle, min(seconds), None, 0.0))
        log.info("%s, %s: %.3f s", name, kind, middle)
        if step == "first":
            bound = _MOST_LOADING_OF.get(kind, _MOST_LOADING)
            results.ratios.append(Ratio(f"open a bundle of {kind}, seconds", middle, bound))
