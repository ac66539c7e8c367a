"""A full disk is one line that names the place, not an internal error."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.schema.velocity import Velocity
from beam_fraud.storage.batch_outputs import SCORES, RunOutputs
from beam_fraud.transforms.velocity import _OfBatches, _Spill
from beam_fraud.transforms.write_parquet import _WriteParts
from tests.flagged import flagged_batch
from tests.full_disk import full_disk

ROWS = 20_000
TRANSACTIONS = pa.record_batch(
    {
        "account_id": [f"a{i}" for i in range(ROWS)],
        "event_time": pa.array(np.arange(ROWS), pa.timestamp("us", "UTC")),
        "amount": np.random.default_rng(0).random(ROWS),
        "@order": np.arange(ROWS),
    }
)


def finish(step: beam.DoFn, batch: pa.RecordBatch) -> None:
    """Pass all rows to a step and end it."""
    step.process(batch)
    list(step.finish_bundle())


@pytest.mark.parametrize("rows", [1, 200_000])
def test_scores(tmp_path: Path, rows: int) -> None:
    outputs = RunOutputs(tmp_path / "out", "r")
    outputs.begin()
    step = _WriteParts(outputs, SCORES)
    step.start_bundle()
    batch = flagged_batch(["t"])
    with full_disk(), pytest.raises(FraudError) as refused:
        finish(step, pa.Table.from_batches([batch] * rows).combine_chunks().to_batches()[0])
    assert str(refused.value) == (
        f"--out {tmp_path}/out: cannot be written (File too large); "
        "allow larger files (ulimit -f), or give another disk"
    )


def test_rows_that_wait_for_others_of_their_key(tmp_path: Path) -> None:
    step = _Spill(("account_id",), tmp_path, IdHash.random())
    with full_disk(), pytest.raises(FraudError, match=rf"^{tmp_path}: .*\(File too large\)"):
        finish(step, TRANSACTIONS)


def test_rows_that_wait_on_a_worker(tmp_path: Path) -> None:
    step = _OfBatches((Velocity(("account_id",), ("1d",), ("count",)),), 1_000, None, None)
    with full_disk(), pytest.raises(FraudError, match=r"\(File too large\)"):
        list(step.process((0, [TRANSACTIONS])))
