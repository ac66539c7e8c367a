"""A provider for Beam YAML: transforms with named outputs.

A pipeline lists it as
```yaml
providers:
  - type: python
    config: {}
    transforms:
      Score: beam_fraud.transforms.yaml.Score
      ComputeFeatures: beam_fraud.transforms.yaml.ComputeFeatures
```
and uses `Score.scored` and `Score.dead_letters` as inputs of later transforms. Rows of one text
field, as from `ReadFromText` or a broker with format `RAW`, are JSON objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from beam_fraud.transforms import features, score
from beam_fraud.transforms.records import Record, as_dict


@dataclass
class Score(beam.PTransform):
    """`beam_fraud.Score`, whose outputs are `scored` and `dead_letters`."""

    #: A bundle's directory or URL.
    model: str
    #: A TOML file of rules that raise or lower decisions, or None.
    rules: str | None = None
    #: Maximum of reasons per flagged row; 0 for none.
    reasons: int = 5
    #: Paths, directories or globs of earlier transactions, which fill windows.
    history: Sequence[str] = ()

    def expand(self, records: beam.PCollection[Record]) -> dict[str, beam.PCollection[Any]]:
        """Score, and emit rows, which every YAML transform accepts."""
        step = score.Score(self.model, self.rules, self.reasons, self.history)
        scored, dead_letters = records | "Records" >> beam.Map(_record) | step
        return {"scored": scored, "dead_letters": dead_letters}


@dataclass
class ComputeFeatures(beam.PTransform):
    """`beam_fraud.ComputeFeatures`, whose outputs are `features` and `dead_letters`."""

    #: The name of a preset or a TOML file.
    schema: str
    #: Paths, directories or globs of earlier transactions, which fill windows.
    history: Sequence[str] = ()

    def expand(self, records: beam.PCollection[Record]) -> dict[str, beam.PCollection[Any]]:
        """Compute, and emit rows, which every YAML transform accepts."""
        step = features.ComputeFeatures(self.schema, self.history)
        computed, dead_letters = records | "Records" >> beam.Map(_record) | step
        return {"features": computed, "dead_letters": dead_letters}


def _record(row: Record) -> Record:
    """Return a row, or its JSON object."""
    values = list(as_dict(row).values())
    return values[0] if len(values) == 1 and isinstance(values[0], str | bytes) else row
