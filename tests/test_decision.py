"""Scores to decisions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_fraud.decision import decide
from beam_fraud.models.manifest import Thresholds
from beam_fraud.sinks.parquet_writer import ParquetBlockWriter
from beam_fraud.sources.raw import Origin, origin_of, with_origin
from beam_fraud.stages import SCORED


def scored(origin: Origin | None) -> pa.RecordBatch:
    schema = pa.schema([SCORED.field(name) for name in SCORED.names[:5]])
    rows = [
        {
            "transaction_id": name,
            "event_time": 0,
            "account_id": "a",
            "merchant_id": "m",
            "amount": 1,
        }
        for name in "abc"
    ]
    transactions = pa.RecordBatch.from_pylist(
        rows, schema=schema if origin is None else with_origin(schema, origin)
    )
    scores = np.array([0.1, 0.5, 0.9])
    return decide(transactions, scores, Thresholds(review=0.5, decline=0.9), "m@1")


def test_a_score_at_a_threshold_is_over_it() -> None:
    batch = scored(None)
    assert batch.schema.equals(SCORED, check_metadata=True)
    assert batch.column("decision").to_pylist() == ["approve", "review", "decline"]
    assert batch.column("flagged").to_pylist() == [False, True, True]


def test_the_origin_of_the_transactions_stays_with_their_scores() -> None:
    origin = Origin("tx:0", "jsonl", appended=1_700_000_000_000)
    batch = scored(origin)
    assert batch.schema.equals(SCORED)
    assert origin_of(batch) == origin
    assert origin_of(batch.filter(batch.column("flagged"))) == origin


def test_batches_of_several_origins_go_to_one_file_that_names_none(tmp_path: Path) -> None:
    writer = ParquetBlockWriter(tmp_path / "part-0.parquet", SCORED)
    # More than are joined at once.
    for number in range(600):
        writer.write(scored(Origin("tx:0", "jsonl", block=number, appended=number)))
    assert writer.close() == 1_800
    written = pq.read_schema(tmp_path / "part-0.parquet")
    assert written.equals(SCORED)
    assert written.metadata is None
