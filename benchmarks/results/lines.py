"""A results table: models, their figures by seed, and their targets."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

#: How a figure is to compare with a bound.
Figures = dict[str, float]


@dataclass(frozen=True)
class Column:
    """A figure of the models in a table."""

    #: Its name in `Line.runs`.
    name: str
    #: Its name for people.
    heading: str
    #: Digits behind the point.
    digits: int = 3
    #: Whether less is better.
    less: bool = False

    def text(self, value: float) -> str:
        """Format the figure."""
        return f"{value:,.{self.digits}f}"


@dataclass(frozen=True)
class Line:
    """One model, with a run for each seed."""

    #: Label of the model.
    model: str
    #: The figures of each seed; a single run for published figures.
    runs: tuple[Figures, ...]
    #: Published figures of the same model on the same rows.
    published: Figures = field(default_factory=dict)
    #: Largest allowed difference of the mean from a published figure.
    within: float = 0.01
    #: Required minimum, or maximum where less is better.
    floors: Figures = field(default_factory=dict)
    #: Desired figures, better than the floors.
    aims: Figures = field(default_factory=dict)
    #: Command that trains the bundle; empty for other models.
    command: str = ""

    def mean(self, figure: str) -> float | None:
        """Return the mean over the seeds; None if the runs lack this figure."""
        values = [run[figure] for run in self.runs if figure in run]
        return statistics.fmean(values) if values else None

    def spread(self, figure: str) -> float:
        """Return the standard deviation over the seeds."""
        return statistics.pstdev([run[figure] for run in self.runs if figure in run])


@dataclass(frozen=True)
class Verdict:
    """Whether a line meets a target."""

    #: The target in words.
    target: str
    #: The measured figure.
    measured: str
    #: Whether the figure meets the target.
    met: bool


@dataclass(frozen=True)
class Section:
    """A table of results and its text."""

    #: Name on the command line.
    key: str
    #: Heading on the page.
    title: str
    #: Rows that train, rows that choose, measured rows, and the published figures.
    text: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    #: Seconds to compute the section.
    seconds: float = 0.0


def verdicts(line: Line, columns: tuple[Column, ...]) -> list[Verdict]:
    """Return the targets of a line, and whether its means meet them.

    Example:
      >>> line = Line("forest", ({"f1": 0.5}, {"f1": 0.7}), floors={"f1": 0.6}, aims={"f1": 0.8})
      >>> [verdict.met for verdict in verdicts(line, (Column("f1", "F1"),))]
      [True, False]
    """
    results = []
    for column in columns:
        mean = line.mean(column.name)
        if mean is None:
            continue
        value = column.text(mean)
        if column.name in line.published:
            published = line.published[column.name]
            # Round to the published digits: 0.866 is within 0.01 of 0.876.
            met = abs(round(mean, column.digits) - published) <= line.within + 1e-9
            target = f"{column.heading} within {line.within:g} of {column.text(published)}"
            results.append(Verdict(target, value, met))
        for word, bounds in (("floor", line.floors), ("aim", line.aims)):
            if column.name in bounds:
                bound = bounds[column.name]
                met = mean <= bound if column.less else mean >= bound
                least = "at most" if column.less else "at least"
                target = f"{column.heading} {least} {column.text(bound)} ({word})"
                results.append(Verdict(target, value, met))
    return results
