"""Every kind of model and every resampler on the same transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beam_fraud.transforms.coders  # noqa: F401  registers how elements are encoded
from beam_fraud.cli.commands import train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.decisions.decider import Decider
from beam_fraud.features.dataset import load_dataset
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import load_model, open_bundle
from beam_fraud.models.kinds import KINDS
from beam_fraud.models.predict import predict_scores
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.simulation import FRAUD_RATE, Simulation, simulate
from beam_fraud.storage.urls import Place
from beam_fraud.transforms.deciders import Deciders
from beam_fraud.transforms.infer import Infer, Scored
from tests.one_thread import one_thread

#: Transactions: a part of those that all are bounded on.
ROWS, SOAK_ROWS = 3_000, 20_000
#: How many of them the pipeline scores.
SCORED_ROWS = 1_000
#: What all training on `ROWS` and `SOAK_ROWS` together may take, in seconds of the processor: at
#: least as many as on the clock where nothing else runs, and no more of them where something does.
BOUNDS = {ROWS: 60.0, SOAK_ROWS: 180.0}
#: One in a hundred is a fraud, of few rows three: what chance gives is 0.01 or 0.03.
FRAUD_RATES = {ROWS: 0.03, SOAK_ROWS: FRAUD_RATE}
AVERAGE_PRECISION = 0.1
#: How far scores may be off that are summed in another order.
TOLERANCE = 1e-6
#: What rows are resampled for: of those that need nothing else the quickest to fit.
RESAMPLED = "hist_gradient_boosting"

pytestmark = pytest.mark.slow


def save(scored: Scored, directory: Path) -> None:
    """Write a file for every block of rows and their scores."""
    directory.mkdir(exist_ok=True)
    rows, _, scores = scored
    table = pa.table({"row": rows["row"], "score": scores})
    pq.write_table(table, directory / f"{table['row'][0]}.parquet")


def resamplers() -> list[str]:
    """Return the names of all installed resamplers."""
    name = "beam_fraud.models.resampling"
    return list(import_module(name).RESAMPLERS) if find_spec(name) else []


@dataclass(frozen=True)
class Run:
    """A trained model."""

    out: str
    average_precision: float
    seconds: float


@pytest.fixture(scope="module", params=[ROWS, pytest.param(SOAK_ROWS, marks=pytest.mark.soak)])
def number(request: pytest.FixtureRequest) -> int:
    """How many transactions there are."""
    result: int = request.param
    return result


@pytest.fixture(scope="module")
def transactions(number: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    accounts = 12 * number // 1_000
    simulated = simulate(Simulation(50, accounts, 2 * accounts, 1, FRAUD_RATES[number]))
    path = tmp_path_factory.mktemp("training") / "transactions.parquet"
    pq.write_table(simulated.slice(0, number), path)
    return path


@pytest.fixture(scope="module")
def runs(transactions: Path, number: int) -> Iterator[dict[str, Run]]:
    requested = [(kind, {}) for kind in KINDS] + [
        (RESAMPLED, {"resample": r}) for r in resamplers()
    ]
    done = {}
    with one_thread():
        for kind, more in requested:
            name = "-".join([kind, *more.values()])
            out = str(transactions.parent / name)
            options = TrainOptions(
                files=(str(transactions),), schema="handbook", model=kind, out=out, **more
            )
            start = time.process_time()
            result = train.run(options)
            seconds = time.process_time() - start
            assert result["rows_in"] == number
            metrics = result["metrics"]
            assert isinstance(metrics, dict)
            done[name] = Run(out, metrics["average_precision"], seconds)
        yield done


def test_all_kinds_train_in_three_minutes(runs: dict[str, Run], number: int) -> None:
    spent = {name: round(run.seconds, 1) for name, run in runs.items()}
    print(spent)
    assert len(runs) == len(KINDS) + len(resamplers())
    assert sum(spent.values()) < BOUNDS[number], spent


def test_each_model_finds_frauds(runs: dict[str, Run]) -> None:
    result = {name: run.average_precision for name, run in runs.items()}
    assert {name: value for name, value in result.items() if value < AVERAGE_PRECISION} == {}


def test_the_pipeline_scores_as_each_model_does_outside(
    runs: dict[str, Run], transactions: Path, tmp_path: Path
) -> None:
    table = load_dataset([Place.of(transactions)], HANDBOOK).transactions.slice(0, SCORED_ROWS)
    outside = {}
    with beam.Pipeline() as pipeline:
        for name, run in runs.items():
            bundle = open_bundle(run.out)
            matrix = feature_matrix(table, bundle.features)
            outside[name] = predict_scores(load_model(bundle), matrix)
            blocks = [
                (pa.record_batch({"row": pa.array(range(first, last))}), matrix[first:last])
                for first, last in [(0, 1), (1, 350), (350, SCORED_ROWS)]
            ]
            rows = pipeline | f"Rows {name}" >> beam.Create(blocks, reshuffle=False)
            deciders = Deciders(Decider(bundle, bundle.features))
            _ = rows | name >> Infer(deciders) | f"Save {name}" >> beam.Map(save, tmp_path / name)
    for name, scores in outside.items():
        inside = [pq.read_table(part) for part in (tmp_path / name).iterdir()]
        assert sum(map(len, inside)) == SCORED_ROWS
        for part in inside:
            result = part["score"].to_numpy()
            assert np.abs(result - scores[part["row"].to_numpy()]).max() <= TOLERANCE, name
