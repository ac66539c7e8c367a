"""Fixtures of all tests."""

import fcntl
import gc
import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest

# Threads of OpenMP that spin while others have the cores make a fit forty times slower. Libraries
# look when they are loaded, and processes of tests inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from deploy.postgres.server import Server
from tests.requirements import ENVIRONMENT, need_prism, postgres_home, started_environment

# A machine that is busy is no fault of what is tested.
hypothesis.settings.register_profile("untimed", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("untimed")

#: Variables that pytest, OpenMP (by scikit-learn and XGBoost), JAX and Polars set for themselves.
LIBRARIES = {
    "PYTEST_CURRENT_TEST",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "_RJEM_MALLOC_CONF",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "TPU_SKIP_MDS_QUERY",
}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without searches for garbage: nearly all that is imported lives on."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Import a file in one process at a time.

    The first compiles what is not compiled yet; the others would do it at the same time, and find
    the result after it.
    """
    if not isinstance(collector, pytest.Module) or "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with collector.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the long tests of whole runners early, so that no core ends with one of them alone.

    Those of models come before them: CI still builds what runners need.
    """
    first = {"models": 0, "integration": 1}
    items.sort(key=lambda item: first.get(item.path.parent.name, 2))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """Set up shared fixtures in the environment that pytest was started in."""
    if fixturedef.scope != "session":
        return (yield)
    with started_environment():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Fail the last test of a file that leaves the environment changed."""
    done = yield
    if nextitem is None or nextitem.path != item.path:
        left = {name for name, value in os.environ.items() if ENVIRONMENT.get(name) != value}
        left |= ENVIRONMENT.keys() - os.environ.keys()
        left -= LIBRARIES
        assert not left, f"{item.path.name} leaves variables changed: {', '.join(sorted(left))}"
    return done


@pytest.fixture(autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """Restore logging: a command sets it up for the whole process."""
    root, package = logging.getLogger(), logging.getLogger("beam_fraud")
    handlers, levels = list(root.handlers), (root.level, package.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])
    logging.captureWarnings(False)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A watched directory."""
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A shared PostgreSQL server; a test that stops a server starts its own."""
    with postgres_home() as home, Server(home) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, with the password."""
    from tests.connections import close_connections

    name = f"test_{uuid4().hex}"
    url = postgres.create_database(name)
    yield url
    close_connections(url)
    postgres.drop_database(name)


@pytest.fixture
def iceberg_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sink's URL of a table that is not there yet, in pyiceberg's default catalogue."""
    from pyiceberg.utils.config import Config

    settings = {"URI": f"sqlite:///{tmp_path}/catalog.db", "WAREHOUSE": f"file://{tmp_path}/lake"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__DEFAULT__{name}", value)
    # It reads them when it is imported.
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())
    return "iceberg:shop.flagged"


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A PostgreSQL server for one test."""
    with postgres_home() as home, Server(home) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables, one of each kind."""
    from beam_fraud.storage.database.connection import sqlite_url

    if request.param == "sqlite":
        return sqlite_url(tmp_path / "database.db")
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture(scope="session")
def prism() -> Iterator[tuple[str, ...]]:
    """Options that run a command on Beam's Prism runner."""
    from apache_beam.runners.portability.prism_runner import PrismRunner

    yield ("--runner=PrismRunner", f"--prism_location={need_prism()}")
    # Beam stops its server when the process exits, which a worker of pytest-xdist does without.
    server = PrismRunner.shared_handle.acquire(lambda: None)
    if server is not None:
        server.stop()


@pytest.fixture(params=["here", pytest.param("prism", marks=pytest.mark.slow)])
def beam_args(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options of Beam for the runner in this process, and for Prism: a test runs on both."""
    options: tuple[str, ...] = ()
    if request.param == "prism":
        options = request.getfixturevalue("prism")
    return options
