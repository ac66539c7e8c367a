"""Kinds that prepare the rows, or the settings, of another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows


@dataclass(frozen=True)
class Wrapped(ModelKind):
    """A kind that is called, tuned and saved as the one within it is."""

    name: ClassVar[str] = "wrapped"

    #: What is trained.
    kind: ModelKind

    def __post_init__(self) -> None:
        """People ask for a forest, and get a forest, which is tuned like one."""
        object.__setattr__(self, "name", self.kind.name)
        object.__setattr__(self, "space", self.kind.space)

    def check_packages(self) -> None:
        """The kind's."""
        self.kind.check_packages()

    @property
    def settings(self) -> dict[str, Any]:
        """The kind's."""
        return self.kind.settings

    def with_values(self, **values: Any) -> Self:
        """With other values for settings of the kind."""
        return replace(self, kind=self.kind.with_values(**values))

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """The kind's own."""
        return self.kind.estimator(rows, seed)

    def files(self, model: Any) -> dict[str, bytes]:
        """The kind's own."""
        return self.kind.files(model)
