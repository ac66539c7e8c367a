"""Databases with tables, copied from one of each kind: a migration takes longer than most tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from beam_fraud.storage.database.connection import prepare_database, sqlite_url
from deploy.postgres.server import Server
from tests.connections import close_connections


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables."""
    file = tmp_path_factory.mktemp("template") / "database.db"
    prepare_database(sqlite_url(file))
    return file


@pytest.fixture(scope="session")
def postgres_template(postgres: Server) -> Iterator[str]:
    """The name of a database with all tables."""
    name = f"template_{uuid4().hex}"
    url = postgres.create_database(name)
    prepare_database(url)
    # A database in use cannot be copied.
    close_connections(url)
    yield name
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database with tables, one of each kind."""
    if request.param == "sqlite":
        file = tmp_path / "database.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        yield sqlite_url(file)
        return
    server: Server = request.getfixturevalue("postgres")
    template: str = request.getfixturevalue("postgres_template")
    name = f"test_{uuid4().hex}"
    server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    url = server.url(name)
    yield url
    close_connections(url)
    server.drop_database(name)
