"""What a promotion requires of a model's figures: `ap >= champion.ap - 0.01`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from beam_fraud.errors import Code, UsageError
from beam_fraud.platform.wording import did_you_mean

#: Name in a requirement to the figure.
FIGURES = {
    "ap": "average_precision",
    "auc": "roc_auc",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "microseconds": "microseconds_per_row",
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_FORM = re.compile(
    rf"\s*(?P<figure>\w+)\s*(?P<comparison>>=|<=|>|<)\s*"
    rf"(?:(?P<number>{_NUMBER})"
    rf"|champion\.(?P<other>\w+)(?:\s*(?P<sign>[+-])\s*(?P<margin>{_NUMBER}))?)\s*"
)


@dataclass(frozen=True)
class Requirement:
    """A comparison of a figure with a number, or with the champion's figure and a margin."""

    #: As it was written.
    text: str
    #: Name of the figure, a value of `FIGURES`.
    figure: str
    comparison: str
    #: Name of the champion's figure, or None for a number.
    other: str | None
    #: The number, or what is added to the champion's figure.
    number: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Parse the value of `--require`.

        Raises:
          UsageError: it is no requirement.

        Example:
          >>> Requirement.parse("ap >= champion.ap - 0.01")
          Requirement(text='ap >= champion.ap - 0.01', figure='average_precision', \
comparison='>=', other='average_precision', number=-0.01)
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--require {text!r}: write a figure, >=, >, <= or <, and a number or the "
                "champion's, as in 'ap >= champion.ap - 0.01'",
                Code.OPTION_VALUE,
            )
        other = match["other"]
        number = float(match["margin"] or match["number"] or 0)
        return cls(
            text=text,
            figure=_figure(match["figure"], text),
            comparison=match["comparison"],
            other=None if other is None else _figure(other, text),
            number=-number if match["sign"] == "-" else number,
        )

    def unmet(
        self, new: Mapping[str, float | None], champion: Mapping[str, float | None] | None
    ) -> str | None:
        """Return why the requirement is not met; None if it is.

        Args:
          new: figures of the model.
          champion: figures of the champion on the same rows; None without one.

        Example:
          >>> require = Requirement.parse("f1 > champion.f1")
          >>> require.unmet({"f1": 0.5}, {"f1": 0.6})
          'f1 is 0.5, must be > 0.6'
          >>> require.unmet({"f1": 0.7}, {"f1": 0.6})
        """
        limit: float | None = self.number
        if self.other is not None:
            theirs = None if champion is None else champion[self.other]
            limit = None if theirs is None else theirs + self.number
        value, name = new[self.figure], self.figure.replace("_", " ")
        if limit is None:
            what = "there is no champion" if champion is None else "the champion's is undefined"
            return f"{name} cannot be compared, {what}"
        if value is None:
            return f"{name} is undefined on these rows"
        if _COMPARISONS[self.comparison](value, limit):
            return None
        return f"{name} is {value:.6g}, must be {self.comparison} {limit:.6g}"


def _figure(name: str, text: str) -> str:
    known = FIGURES | {full: full for full in FIGURES.values()}
    if name not in known:
        hint = did_you_mean(name, FIGURES, f"known: {', '.join(FIGURES)}")
        raise UsageError(f"--require {text!r}: unknown figure {name!r}; {hint}", Code.OPTION_VALUE)
    return known[name]
