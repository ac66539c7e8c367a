"""What all tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest


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


@pytest.fixture
def database(tmp_path: Path) -> str:
    """URL of a database without tables."""
    from beam_fraud.sinks.connection import sqlite_url

    return sqlite_url(tmp_path / "database.db")
