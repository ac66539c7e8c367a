"""A simulated month and a model of it, a Kafka broker, and runners of Beam."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands.train import run as train
from beam_fraud.cli.options import TrainOptions
from beam_fraud.simulate.simulation import Simulation, simulate
from deploy.flink.cluster import FlinkCluster
from deploy.kafka.broker import Broker
from tests.integration.flink import running_job_server
from tests.requirements import need_flink, need_kafka
from tests.shared_server import Running, shared_server


@pytest.fixture(scope="session")
def month() -> pa.Table:
    """About 20,000 transactions."""
    return simulate(Simulation(days=30, accounts=350, merchants=300, seed=7, fraud_rate=0.03))


@pytest.fixture(scope="session")
def bundle(month: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forest, whose scores do not depend on the size of blocks."""
    directory = tmp_path_factory.mktemp("model")
    pq.write_table(month, directory / "month.parquet")
    options = TrainOptions(
        files=(str(directory / "month.parquet"),),
        schema="handbook",
        model="forest",
        settings=("trees=20",),
        out=str(directory / "bundle"),
    )
    train(options)
    return directory / "bundle"


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka broker of all test processes; a test that stops one starts its own."""
    need_kafka()

    def start(data: Path) -> Running:
        broker = Broker(data)
        broker.start()
        assert broker.pid is not None
        return Running(broker.pid, broker.port)

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Each process has a directory of its own in that of the run.
        base = base.parent
    with shared_server(base / "kafka", start) as running:
        yield Broker(base / "kafka/server", running.port)


@pytest.fixture
def topic(broker: Broker) -> Callable[..., str]:
    """Return a function that creates a new topic of given partitions and settings."""

    def create(partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"topic-{uuid4().hex}"
        broker.create_topic(name, partitions, config)
        return name

    return create


@pytest.fixture(scope="session")
def flink_job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of Beam's Flink job server, for `--job_endpoint`."""
    with running_job_server(tmp_path_factory.mktemp("flink")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def flink_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    """A Flink cluster of two slots; a test that kills a part starts its own cluster."""
    need_flink()
    with FlinkCluster(tmp_path_factory.mktemp("flink-cluster")) as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FlinkCluster]:
    """A Flink cluster for one test, which may kill parts of it."""
    need_flink()
    with FlinkCluster(tmp_path / "flink") as running:
        yield running
