"""What all tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.postgres.server import Server
from tests.integration.prism import prism_binary, prism_options
from tests.requirements import postgres_home


@pytest.fixture(autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """A command called in a test sets logging up for its process, which the next test shares."""
    root, package = logging.getLogger(), logging.getLogger("beam_fraud")
    handlers, levels = list(root.handlers), (root.level, package.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])
    logging.captureWarnings(False)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A directory that files are dropped into."""
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; a test that stops one, or fills its disk, starts its own."""
    with postgres_home() as home, Server(home) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, with the password."""
    from beam_fraud.sinks.engines import engine

    name = f"test_{uuid4().hex}"
    url = postgres.create_database(name)
    yield url
    engine(url).dispose()
    postgres.drop_database(name)


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A PostgreSQL server that runs, for one test alone."""
    with postgres_home() as home, Server(home) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables, one of each kind."""
    from beam_fraud.sinks.connection import sqlite_url

    if request.param == "sqlite":
        return sqlite_url(tmp_path / "database.db")
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture(scope="session")
def prism() -> Path:
    """Beam's Prism runner, for `--prism_location`."""
    return prism_binary()


@pytest.fixture(params=["here", pytest.param("prism", marks=pytest.mark.slow)])
def beam_args(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options of Beam for the runner in this process, and for Prism: the test runs on both."""
    return () if request.param == "here" else prism_options(request.getfixturevalue("prism"))
