"""A bundle that a table measures, and the command that trains one like it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from beam_fraud.models.kinds import ModelKind, model_kind
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema

#: The top of the project, which paths of schemas start from.
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class BundleRecipe:
    """The options of `train`."""

    #: What the table calls it.
    title: str
    #: For `--model`.
    model: str
    #: For `--set`, each `NAME=VALUE`.
    settings: tuple[str, ...] = ()
    #: For `--schema`: a preset, or a TOML file of the project.
    schema: str = "ulb"
    #: Folds whose validation rows choose; None: one split.
    folds: int | None = None
    #: The other options.
    options: tuple[str, ...] = ()

    @property
    def kind(self) -> ModelKind:
        """The kind with its settings."""
        return model_kind(self.model, self.settings)

    def load_schema(self) -> Schema:
        """The schema."""
        return load_schema(str(ROOT / self.schema) if "/" in self.schema else self.schema)

    def command(self, file: str) -> str:
        """The command that trains such a bundle.

        Args:
          file: name of the transactions.
        """
        words = [f"beam-fraud train {file} --schema {self.schema} --model {self.model}"]
        words += [f"--set {setting}" for setting in self.settings]
        words += [] if self.folds is None else [f"--folds {self.folds}"]
        words += [*self.options, "--out bundle"]
        return " \\\n  ".join(words)
