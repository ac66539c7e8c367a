"""A provider for Beam YAML: transforms whose outputs have names there.

A pipeline lists it as
```yaml
providers:
  - type: python
    config: {}
    transforms:
      Score: beam_fraud.transforms.yaml.Score
      ComputeFeatures: beam_fraud.transforms.yaml.ComputeFeatures
```
and takes `Score.scored` and `Score.dead_letters` for inputs of the next transforms. Rows of one
field of text, as `ReadFromText` gives and brokers in the format `RAW`, are JSON objects.
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
    #: Reasons of a flagged row at most; 0 for none.
    reasons: int = 5
    #: Paths, directories or globs of earlier transactions, which fill windows.
    history: Sequence[str] = ()

    def expand(self, records: beam.PCollection[Record]) -> dict[str, beam.PCollection[Any]]:
        """Score; rows come out, which every transform of YAML takes."""
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
        """Compute; rows come out, which every transform of YAML takes."""
        step = features.ComputeFeatures(self.schema, self.history)
        computed, dead_letters = records | "Records" >> beam.Map(_record) | step
        return {"features": computed, "dead_letters": dead_letters}


def _record(row: Record) -> Record:
    """Return a row, or the JSON object that it holds."""
    values = list(as_dict(row).values())
    return values[0] if len(values) == 1 and isinstance(values[0], str | bytes) else row
