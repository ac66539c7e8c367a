"""Cost of rescoring a year of daily files: beside a plain loop, by models, by rows."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import BEAM_FRAUD, Command
from benchmarks.measure import Case
from benchmarks.plan import Plan, Results
from benchmarks.table import Figure, Ratio

#: Bytes that a run may take.
_MOST_MB = 2.5 * 1024**3 / 1e6
#: What a run over a finished one may take.
_MOST_SECONDS_AGAIN = 10
#: First day that is left out where the cost of few rows is compared with that of many.
_FEW_DAYS_UNTIL = "2024-02-07"


#: Options that repeat a comparison, and no scores.
_OTHER_RESAMPLES = ("--resamples", "999")


@dataclass(frozen=True)
class _Archive:
    directory: Path
    #: Bundles of four models.
    bundles: tuple[Path, ...]
    #: Where results go.
    out: Path

    def plain(self) -> Command:
        out = self.out / "plain"
        command = (sys.executable, "-m", "benchmarks.plain_rescore", str(self.directory))
        return _anew((*command, "--model", str(self.bundles[0]), "--out", str(out)), out)

    def rescore(self, models: int = 1, *options: str) -> Command:
        """Rescore from the beginning."""
        return _anew(self.again(models, *options), self._out(models))

    def again(self, models: int = 1, *options: str) -> Command:
        """The same over what a run of as many models has left."""
        new, *against = self.bundles[:models]
        others = [argument for bundle in against for argument in ("--against", str(bundle))]
        command = (BEAM_FRAUD, "rescore", str(self.directory), "--model", str(new), *others)
        return (*command, "--out", str(self._out(models)), *options)

    def _out(self, models: int) -> Path:
        return self.out / str(models)


def _anew(command: Command, out: Path) -> Command:
    """Run a command after the removal of its outputs."""
    return ("sh", "-c", f"rm -rf {shlex.quote(str(out))} && exec {shlex.join(command)}")


def measure_rescore(plan: Plan, results: Results) -> None:
    """Measure `rescore` of a year in daily files; with `--full` of ten times as many rows."""
    inputs = plan.inputs
    seeds = 10 if plan.full else 1
    rows = inputs.archive_rows(seeds)
    archive = _Archive(inputs.archive(seeds), inputs.archive_bundles(4), inputs.work / "out")

    def case(name: str, command: Command, of: int = rows) -> Case:
        return Case(name, of, (_on_one_core(command),))

    cases = [
        case("rescore, plain loop, 1 core", archive.plain()),
        case("rescore, 4 models, 1 core", archive.rescore(4)),
        case("rescore, 4 models, comparison alone", archive.again(4, *_OTHER_RESAMPLES)),
        case("rescore, 2 models, 1 core", archive.rescore(2)),
        case("rescore, 2 models, comparison alone", archive.again(2, *_OTHER_RESAMPLES)),
        Case("rescore, --workers 2", rows, (archive.rescore(1, "--workers", "2"),)),
        case("rescore, 1 core", archive.rescore()),
        case("rescore again", archive.again()),
    ]
    plain, four, of_four, two, of_two, _, one, again = results.measure(plan.repeat, cases)
    # Starting and reading the digests is not what comparing costs.
    comparing_two, comparing_four = (of.seconds - again.seconds for of in (of_two, of_four))
    bound = plan.bound
    results.ratios += [
        Ratio(
            f"rescore, thousand rows/s a core, {rows:,} rows",
            rows / one.seconds / 1_000,
            bound(100),
            at_most=False,
            aim=150,
        ),
        Ratio(f"rescore / plain loop, {rows:,} rows", one.seconds / plain.seconds, bound(1.5)),
        Ratio(
            "rescore, two models / one, less the comparison",
            (two.seconds - comparing_two) / one.seconds,
            bound(1.4),
        ),
        Ratio(
            "rescore, four models / one, less the comparison",
            (four.seconds - comparing_four) / one.seconds,
            bound(2.0),
        ),
        Ratio("rescore, peak MB", one.peak_mb, _MOST_MB),
        Ratio("rescore again, seconds", again.seconds, _MOST_SECONDS_AGAIN),
    ]
    if plan.full:
        until = ("--until", _FEW_DAYS_UNTIL)
        some = inputs.archive_rows(seeds, until=_FEW_DAYS_UNTIL)
        [few] = results.measure(
            plan.repeat, [case("rescore, 1 core", archive.rescore(1, *until), some)]
        )
        name = f"rescore, cost of a row of {rows:,} / of {some:,}"
        results.ratios.append(Ratio(name, _cost(one) / _cost(few), bound(1.1)))


def _cost(figure: Figure) -> float:
    assert figure.rows
    return figure.seconds / figure.rows


def _on_one_core(command: Command) -> Command:
    pin = shutil.which("taskset")
    return command if pin is None else (pin, "-c", "0", *command)
