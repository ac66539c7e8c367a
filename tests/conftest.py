"""What all tests share."""

import logging
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from deploy.postgres.server import Server
from tests.requirements import need


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
def database_server() -> Iterator[Server]:
    """A PostgreSQL server."""
    from deploy.postgres.server import program

    try:
        program("initdb")
    except FraudError:
        need("initdb")
    # The server runs as another user, whom pytest's own directories do not let in.
    with tempfile.TemporaryDirectory(prefix="beam-fraud-") as home:
        Path(home).chmod(0o755)
        with Server(Path(home) / "postgres") as server:
            yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables, one of each kind."""
    from beam_fraud.sinks.connection import sqlite_url
    from beam_fraud.sinks.engines import engine

    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "database.db")
        return
    server, name = request.getfixturevalue("database_server"), f"t{uuid.uuid4().hex}"
    url = server.create_database(name)
    yield url
    engine(url).dispose()
    server.drop_database(name)
