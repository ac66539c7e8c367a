"""Publish outputs at a URL as the last step of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam

from beam_fraud.storage.batch_outputs import RunOutputs

#: Type: a branch and the name of one of its files.
_Part = tuple[str, str]


@dataclass
class Publish(beam.PTransform):
    """Publish parts, named by branch, after all other work."""

    #: Outputs of the run.
    outputs: RunOutputs
    #: Collections to wait for, beside the parts.
    after: Sequence[beam.PCollection] = ()

    def expand(self, parts: Mapping[str, beam.PCollection[str]]) -> beam.PCollection[None]:
        """Wait by a side input, and publish in one worker."""
        written = [
            names | f"Of {branch}" >> beam.Map(_named, branch).with_output_types(_Part)
            for branch, names in parts.items()
        ]
        written += [
            done | f"After {number}" >> beam.FlatMap(_nothing).with_output_types(_Part)
            for number, done in enumerate(self.after)
        ]
        root = next(iter(parts.values())).pipeline
        return (
            root
            | "Once" >> beam.Create([self.outputs])
            | "Move" >> beam.Map(_publish, beam.pvalue.AsList(written | "Parts" >> beam.Flatten()))
        )


def _named(name: str, branch: str) -> tuple[str, str]:
    return branch, name


def _nothing(done: object) -> Iterator[_Part]:
    yield from ()


def _publish(outputs: RunOutputs, parts: list[_Part]) -> None:
    committed: dict[str, list[str]] = {}
    for branch, name in parts:
        committed.setdefault(branch, []).append(name)
    outputs.publish_parts(committed)
