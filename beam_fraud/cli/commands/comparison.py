"""The comparison at the end of a rescore: options, files and conditions of a release."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from beam_fraud.cli.options.groups import ComparisonOptions
from beam_fraud.decisions.rules.figure_condition import FigureCondition
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.evaluation.comparison.comparison import ComparisonSettings, compare
from beam_fraud.evaluation.comparison.figures import Comparison, figure_names, parse_prices
from beam_fraud.evaluation.comparison.scored_rows import Partition, Side
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.duration import microseconds
from beam_fraud.storage.rescore_outputs import RescoreOutputs
from beam_fraud.storage.urls import Place

_log = logging.getLogger(__name__)
#: The file of rows that sides decide differently.
CHANGED = "changed.parquet"


@dataclass(frozen=True)
class ComparisonPlan:
    """A comparison whose options are checked."""

    settings: ComparisonSettings
    sides: tuple[Side, ...]
    #: Conditions of `--fail-if`.
    conditions: tuple[FigureCondition, ...]

    def run(self, outputs: RescoreOutputs, partitions: Sequence[Partition]) -> dict[str, object]:
        """Compare, write the files and test the conditions.

        Args:
          outputs: receive `comparison.html`, `.json` and `.md`, and `changed.parquet`.
          partitions: the finished partitions.

        Returns:
          Figures and warnings, JSON-compatible; `fail_if`, the conditions that hold; and
          `undefined`, the error of a condition that compares an undefined figure, or None.

        Raises:
          FraudError: a file cannot be read or written.
        """
        # Drawing is not needed to check options.
        from beam_fraud.evaluation.comparison.report import outputs_of

        new, *against = self.sides
        with outputs.growing(CHANGED) as changed:
            found = compare(partitions, new, against, self.settings, changed)
        for warning in found.warnings:
            _log.warning("%s", warning)
        with doing("drawing the comparison"):
            files = outputs_of(found)
        for name, data in files.items():
            outputs.write(name, data)
        figures = found.figures()
        met: list[str] = []
        undefined: str | None = None
        for condition in self.conditions:
            try:
                met += [condition.text] * condition.holds(figures)
            except FraudError as error:
                undefined = str(error)
        for text in met:
            _log.error("--fail-if %s: holds", text)
        places = [outputs.place(name) for name in (*files, CHANGED)]
        return {**_result(found, places), "fail_if": met, "undefined": undefined}


def _result(found: Comparison, outputs: list[str]) -> dict[str, object]:
    return {
        "sentence": found.sentence,
        "figures": found.figures(),
        "changed_rows": found.changed_rows,
        "maturity": asdict(found.maturity),
        "warnings": list(found.warnings),
        "outputs": outputs,
    }


def comparison_plan(
    options: ComparisonOptions, sides: Sequence[Side], timezone: str
) -> ComparisonPlan:
    """Check the options of a comparison before anything is scored.

    Args:
      options: the options.
      sides: the sides, the new one first.
      timezone: time zone of days.

    Raises:
      UsageError: an option is invalid.
    """
    labels = None if options.labels is None else Place.parse(options.labels)
    if labels is not None and (labels.local is None or not labels.local.is_file()):
        raise UsageError(f"--labels {labels.shown}: give a file that is there", Code.INPUT_MISSING)
    names = figure_names(sides)
    return ComparisonPlan(
        settings=ComparisonSettings(
            prices=parse_prices(options.cost),
            maturity=_maturity(options.label_maturity),
            labels=None if labels is None else labels.local,
            segments=tuple(dict.fromkeys(options.segments)),
            timezone=timezone,
            resamples=options.resamples,
        ),
        sides=tuple(sides),
        conditions=tuple(FigureCondition.read("--fail-if", t, names) for t in options.fail_if),
    )


def _maturity(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return microseconds(text)
    except UsageError as error:
        raise UsageError(f"--label-maturity {error}", error.code) from None
