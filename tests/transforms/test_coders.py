"""Elements survive encoding, and their size is known without encoding them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from apache_beam import coders
from apache_beam.ml.inference.base import PredictionResult
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type

import beam_fraud.transforms.coders  # noqa: F401  registers the coders
from beam_fraud.sources.raw import Origin, origin_of, with_origin


def test_a_batch_keeps_its_rows_schema_and_origin() -> None:
    schema = with_origin(pa.schema([("a", pa.int64()), ("b", pa.string())]), Origin("x.csv", "csv"))
    batch = pa.RecordBatch.from_arrays([pa.array([1, None]), pa.array(["x", "y"])], schema=schema)
    coder = coders.registry.get_coder(pa.RecordBatch)
    again = coder.decode(coder.encode(batch.slice(1)))
    assert again.equals(batch.slice(1), check_metadata=True)
    assert origin_of(again) == Origin("x.csv", "csv")
    assert coder.estimate_size(batch) == batch.nbytes


def test_a_prediction_keeps_its_arrays() -> None:
    example, inference = np.arange(6.0).reshape(3, 2), np.array([0.0, 0.5, np.nan])
    coder = coders.registry.get_coder(PredictionResult)
    again = coder.decode(coder.encode(PredictionResult(example, inference, "m")))
    np.testing.assert_array_equal(again.example, example)
    np.testing.assert_array_equal(again.inference, inference)
    assert again.model_id == "m"
    assert coder.estimate_size(again) == example.nbytes + inference.nbytes


def test_pairs_of_batches_and_blocks_are_not_pickled() -> None:
    pair = convert_to_beam_type(tuple[pa.RecordBatch, np.ndarray])
    coder = coders.registry.get_coder(pair)
    names = {type(part).__name__ for part in coder.coders()}
    assert names == {"RecordBatchCoder", "BlockCoder"}
