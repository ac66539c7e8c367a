"""Decide whether a run has too many dead letters, before any output leaves it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.records.dead_share import DeadShare, dead_share


@dataclass
class Accept(beam.PTransform):
    """Count transactions and dead letters, and raise an error if too many are dead.

    Emits one element at the end; steps that must wait take it as a side input (`Accepted`).
    """

    #: Maximum share of dead letters; None fails only if all are dead.
    most: float | None

    def expand(
        self, checked: tuple[beam.PCollection[pa.RecordBatch], beam.PCollection[pa.RecordBatch]]
    ) -> beam.PCollection[bool]:
        """Return a global sum of a few bytes a batch."""
        transactions, dead_letters = checked
        shares = (
            transactions | "Rows" >> beam.Map(_of_transactions).with_output_types(DeadShare),
            dead_letters | "Dead" >> beam.Map(_of_dead_letters).with_output_types(DeadShare),
        )
        return (
            shares
            | beam.Flatten()
            | "Sum" >> beam.CombineGlobally(_merged).with_output_types(DeadShare)
            | "Refuse" >> beam.Map(_refuse, self.most).with_output_types(bool)
        )


@dataclass
class Accepted(beam.PTransform):
    """Pass batches on once `Accept` has succeeded."""

    #: The output of `Accept`.
    accepted: beam.PCollection[bool]

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Wait by a side input."""
        waiting = beam.pvalue.AsSingleton(self.accepted)
        return batches | beam.Map(_passed, waiting).with_output_types(pa.RecordBatch)


def _of_transactions(batch: pa.RecordBatch) -> DeadShare:
    return dead_share(len(batch))


def _of_dead_letters(batch: pa.RecordBatch) -> DeadShare:
    return dead_share(len(batch), batch)


def _merged(shares: Iterable[DeadShare]) -> DeadShare:
    together = DeadShare()
    for share in shares:
        together = together.merged(share)
    return together


def _refuse(share: DeadShare, most: float | None) -> bool:
    refusal = share.refusal(most)
    if refusal is not None:
        raise FraudError(refusal, Code.ROWS_INVALID)
    return True


def _passed(batch: pa.RecordBatch, accepted: bool) -> pa.RecordBatch:
    return batch
