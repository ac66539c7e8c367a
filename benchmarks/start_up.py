"""Time of `--help`."""

from __future__ import annotations

from benchmarks import commands
from benchmarks.measure import Case, run
from benchmarks.plan import Plan, Results
from benchmarks.table import Ratio

#: It takes so little that it is run at least so often.
_RUNS = 5


def measure_help(plan: Plan, results: Results) -> None:
    """Measure the time of the list of commands."""
    case = Case("beam-fraud --help", None, ((commands.BEAM_FRAUD, "--help"),))
    run(case)
    (measured,) = results.measure(max(plan.repeat, _RUNS), [case])
    results.ratios.append(Ratio("beam-fraud --help, seconds", measured.seconds, 0.5))
