"""What a results table says: models, their figures by seed, and what is asked of them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

#: How a figure is to compare with a bound.
Figures = dict[str, float]


@dataclass(frozen=True)
class Column:
    """A figure that the models of a table have."""

    #: Its name in `Line.runs`.
    name: str
    #: Its name for people.
    heading: str
    #: Digits behind the point.
    digits: int = 3
    #: Whether less is better.
    less: bool = False

    def text(self, value: float) -> str:
        """The figure as text."""
        return f"{value:,.{self.digits}f}"


@dataclass(frozen=True)
class Line:
    """One model, with a run for each seed."""

    #: What it is.
    model: str
    #: The figures of each seed; one alone, for what others have published.
    runs: tuple[Figures, ...]
    #: What others have published of the same model on the same rows.
    published: Figures = field(default_factory=dict)
    #: How far the mean may be from what was published.
    within: float = 0.01
    #: The least that is asked for, or the most where less is better.
    floors: Figures = field(default_factory=dict)
    #: What is aimed at.
    aims: Figures = field(default_factory=dict)
    #: How to train it; empty where it is not a bundle of ours.
    command: str = ""

    def mean(self, figure: str) -> float | None:
        """The mean over the seeds; None if the runs don't have this figure."""
        values = [run[figure] for run in self.runs if figure in run]
        return statistics.fmean(values) if values else None

    def spread(self, figure: str) -> float:
        """The standard deviation over the seeds."""
        return statistics.pstdev([run[figure] for run in self.runs if figure in run])


@dataclass(frozen=True)
class Verdict:
    """Whether a line does what is asked of it."""

    #: What is asked, in words.
    asked: str
    #: What it does, in words.
    found: str
    #: Whether that is enough.
    met: bool


@dataclass(frozen=True)
class Section:
    """A table and what it is of."""

    #: What the command line calls it.
    key: str
    #: What people call it.
    title: str
    #: Which rows train, which choose and which are measured; whose figures stand beside ours.
    text: str
    #: Its figures.
    columns: tuple[Column, ...]
    #: Its models.
    lines: tuple[Line, ...]
    #: Seconds to compute all of it.
    seconds: float = 0.0


def verdicts(line: Line, columns: tuple[Column, ...]) -> list[Verdict]:
    """What is asked of a line, and whether its means do it.

    Example:
      >>> line = Line("forest", ({"f1": 0.5}, {"f1": 0.7}), floors={"f1": 0.6}, aims={"f1": 0.8})
      >>> [verdict.met for verdict in verdicts(line, (Column("f1", "F1"),))]
      [True, False]
    """
    found = []
    for column in columns:
        mean = line.mean(column.name)
        if mean is None:
            continue
        value = column.text(mean)
        if column.name in line.published:
            wanted = line.published[column.name]
            # As many digits as were published: 0.866 is within 0.01 of 0.876.
            met = abs(round(mean, column.digits) - wanted) <= line.within + 1e-9
            asked = f"{column.heading} within {line.within:g} of {column.text(wanted)}"
            found.append(Verdict(asked, value, met))
        for word, bounds in (("floor", line.floors), ("aim", line.aims)):
            if column.name in bounds:
                bound = bounds[column.name]
                met = mean <= bound if column.less else mean >= bound
                least = "at most" if column.less else "at least"
                asked = f"{column.heading} {least} {column.text(bound)} ({word})"
                found.append(Verdict(asked, value, met))
    return found
