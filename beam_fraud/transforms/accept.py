"""Whether a run fails by its dead letters, known before anything leaves it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.records.dead_share import DeadShare, dead_share


@dataclass
class Accept(beam.PTransform):
    """Transactions and dead letters to one element, once all are counted; too many dead: an error.

    What has to wait for that takes the result as a side input (`Accepted`).
    """

    #: The largest share of dead letters, or None if any but all will do.
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
    """Batches as they are, not before the run is sure not to fail by its dead letters."""

    #: What `Accept` gives.
    accepted: beam.PCollection[bool]

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """One step, whose side input makes it wait."""
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
        raise FraudError(refusal)
    return True


def _passed(batch: pa.RecordBatch, accepted: bool) -> pa.RecordBatch:
    return batch
