"""A simulated month, and a model of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.commands.train import TrainOptions
from beam_fraud.commands.train import run as train
from beam_fraud.simulate.simulation import Simulation, simulate


@pytest.fixture(scope="session")
def month() -> pa.Table:
    """About 20,000 transactions."""
    return simulate(Simulation(days=30, accounts=350, merchants=300, seed=7, fraud_rate=0.03))


@pytest.fixture(scope="session")
def bundle(month: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forest, whose scores don't depend on the blocks that rows come in."""
    directory = tmp_path_factory.mktemp("model")
    pq.write_table(month, directory / "month.parquet")
    options = TrainOptions(
        files=(str(directory / "month.parquet"),),
        schema="handbook",
        model="forest",
        out=str(directory / "bundle"),
    )
    train(options)
    return directory / "bundle"
