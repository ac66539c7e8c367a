"""Programs and extras that some tests need."""

from __future__ import annotations

import importlib.util
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


def need_module(module: str, extra: str) -> None:
    """See that an extra is installed; without it the test is skipped, in CI it fails."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        missing(f"pip install 'beam-fraud[{extra}]'")
