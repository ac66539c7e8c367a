"""Time that rules, reasons, a database and alerts add to `score`."""

from __future__ import annotations

from pathlib import Path

from benchmarks import commands
from benchmarks.measure import Case, run
from benchmarks.plan import Plan, Results
from benchmarks.score import ULB_ROWS
from benchmarks.table import Ratio

_MODEL = "hist_gradient_boosting"
SCORES_ALONE, OPERATED = "scores alone", "rules, reasons, SQLite, alerts"
#: Together they flag about as many rows again as the model.
_RULES = """
[[rule]]
name = "large"
when = "amount > 2500"
decision = "review"

[[rule]]
name = "unlike_any_other"
when = "V14 < -8 and V12 < -6 or V17 < -10"
decision = "decline"
priority = 10

[[rule]]
name = "nothing_at_stake"
when = "amount == 0 and score < 0.9"
decision = "approve"
priority = 5
"""


def measure_operations(plan: Plan, results: Results) -> None:
    """Measure `score` of the ULB transactions alone, and with all operations."""
    inputs = plan.inputs
    rows = min(ULB_ROWS, inputs.rows)
    directory, bundle, out = inputs.ulb(rows), inputs.ulb_bundle(_MODEL), inputs.work / "out"
    out.mkdir(parents=True, exist_ok=True)
    rules = out / "rules.toml"
    rules.write_text(_RULES)
    alone = commands.pipeline(directory, bundle, out / "alone", "--reasons", "0")
    place = out / "operated"
    operated = commands.pipeline(
        directory,
        bundle,
        place,
        *("--rules", str(rules)),
        *("--sink", f"sqlite:///{place}/flagged.db", "--alert", f"file:{place}/alerts.jsonl"),
    )
    cases = [
        Case(SCORES_ALONE, rows, (alone,), _MODEL),
        Case(OPERATED, rows, (_anew(place, operated),), _MODEL),
    ]
    for case in cases:
        run(case)  # not counted: reads Python's libraries from the disk
    plain, whole = (measured.seconds for measured in results.measure(plan.repeat, cases))
    bound = 1.3 if rows == ULB_ROWS else None
    results.ratios.append(Ratio(f"{OPERATED} / {SCORES_ALONE}, {_MODEL}", whole / plain, bound))


def _anew(place: Path, command: commands.Command) -> commands.Command:
    """Remove the outputs of the last run: alerts that were sent cost nothing."""
    return ("sh", "-c", 'rm -rf "$1"; shift; exec "$@"', "sh", str(place), *command)
