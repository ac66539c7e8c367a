"""Score ULB transactions as Beam's own examples do: an element a row, without tuning.

The key of RunInference is the row's id, which the benchmark's files have in the column `row`. A
result has three columns, fewer than the pipeline's. It runs in this process, as the pipeline.

    python -m benchmarks.row_by_row DIRECTORY --model BUNDLE --out DIR
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.sklearn_inference import ModelFileType, SklearnModelHandlerNumpy
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

_SCORES = pa.schema(
    [("transaction_id", pa.int64()), ("score", pa.float64()), ("flagged", pa.bool_())]
)


def score(pattern: str, bundle: Path, out: Path) -> None:
    """Score files row by row.

    Args:
      pattern: absolute path or glob of Parquet files with the ULB columns and `row`.
      bundle: directory of a model for them.
      out: directory of the Parquet files to write.
    """
    manifest = json.loads((bundle / "manifest.json").read_text())
    features = ["Amount" if name == "amount" else name for name in manifest["features"]]
    handler = SklearnModelHandlerNumpy(
        model_uri=str(bundle / "model.joblib"),
        model_file_type=ModelFileType.JOBLIB,
        inference_fn=_probabilities,
    )
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        (
            pipeline
            | "Read" >> beam.io.ReadFromParquet(pattern, columns=["row", *features])
            | "Features" >> beam.Map(partial(_example, features))
            | "Infer" >> RunInference(KeyedModelHandler(handler))
            | "Decide" >> beam.Map(partial(_decided, manifest["thresholds"]["review"]))
            | "Write"
            >> beam.io.WriteToParquet(
                str(out / "scores"), _SCORES, codec="zstd", file_name_suffix=".parquet"
            )
        )


def _example(features: list[str], row: dict[str, Any]) -> tuple[int, npt.NDArray[np.float64]]:
    return row["row"], np.array([row[name] for name in features])


def _probabilities(
    model: Any, batch: Sequence[npt.NDArray[np.float64]], inference_args: Any = None
) -> npt.NDArray[np.float64]:
    """The one change to the example's defaults: return scores, where `predict` returns labels."""
    scores: npt.NDArray[np.float64] = model.predict_proba(np.stack(batch))[:, 1]
    return scores


def _decided(threshold: float, result: tuple[int, PredictionResult]) -> dict[str, Any]:
    row, prediction = result
    score = float(prediction.inference)
    return {"transaction_id": row, "score": score, "flagged": score >= threshold}


def main() -> None:
    """Score the Parquet files in the directory of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", required=True, type=Path, metavar="BUNDLE")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    options = parser.parse_args()
    score(f"{options.directory.absolute()}/*.parquet", options.model, options.out)


if __name__ == "__main__":
    main()
