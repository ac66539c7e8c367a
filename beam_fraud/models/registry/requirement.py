"""A promotion's requirements of a model's figures: `ap >= champion.ap - 0.01`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beam_fraud.decisions.rules.figure_condition import FigureCondition

#: Name in a requirement to the figure; full names are known as well.
FIGURES = {
    "ap": "average_precision",
    "auc": "roc_auc",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "microseconds": "microseconds_per_row",
}
_NAMES = FIGURES | {full: full for full in FIGURES.values()}
_CHAMPION = "champion."


@dataclass(frozen=True)
class Requirement:
    """A condition on a model's figures and on the champion's."""

    condition: FigureCondition

    @property
    def text(self) -> str:
        """The condition as it was written."""
        return self.condition.text

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Parse the value of `--require`, a condition in the language of rules.

        Raises:
          UsageError: it is no condition.

        Example:
          >>> Requirement.parse("ap >= champion.ap - 0.01").text
          'ap >= champion.ap - 0.01'
        """
        names = (*_NAMES, *(f"{_CHAMPION}{name}" for name in _NAMES))
        return cls(FigureCondition.read("--require", text, names))

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
          "f1 is 0.5, the champion's f1 is 0.6"
          >>> require.unmet({"f1": 0.7}, {"f1": 0.6})
        """
        values: dict[str, float | None] = {}
        for name, full in _NAMES.items():
            values[name] = new.get(full)
            values[f"{_CHAMPION}{name}"] = None if champion is None else champion.get(full)
        for name in self.condition.compared:
            if values[name] is None:
                if name.startswith(_CHAMPION) and champion is None:
                    return f"{_described(name)} cannot be compared, there is no champion"
                return f"{_described(name)} is undefined on these rows"
        if self.condition.holds(values):
            return None
        return ", ".join(
            f"{_described(name)} is {values[name]:.6g}" for name in self.condition.compared
        )


def _described(name: str) -> str:
    figure = _NAMES[name.removeprefix(_CHAMPION)].replace("_", " ")
    return f"the champion's {figure}" if name.startswith(_CHAMPION) else figure
