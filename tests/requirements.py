"""Programs that some tests need and Python can't install."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from deploy.postgres.server import program as server_program


def need(program: str) -> Path:
    """Where a program is; without it the test is skipped, in CI (`CI=true`) it fails."""
    found = shutil.which(program)
    if found is None:
        missing(f"{program} is not on PATH")
    return Path(str(found))


def missing(what: str) -> None:
    """Skip the test, or fail it in CI."""
    says = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    says(what)


@contextmanager
def postgres_home() -> Iterator[Path]:
    """A directory for a PostgreSQL server, which may have to run as another user than pytest."""
    try:
        server_program("initdb")
    except FraudError as error:
        missing(str(error))
    with tempfile.TemporaryDirectory(prefix="beam-fraud-postgres-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "server"
