"""Alembic's migrations of the tables."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from beam_fraud.storage.database.tables import VERSION, VERSION_TABLE

#: Key of PostgreSQL's advisory lock for migrations.
_LOCK = 0x6265616D66


def migrate(connection: Connection, version: str = VERSION) -> None:
    """Create or change the tables in one transaction, one process at a time.

    Args:
      connection: in a write transaction, of a checked database.
      version: the target version.
    """
    if connection.dialect.name == "postgresql":
        # An index on many rows may take long.
        driver: Any = connection.connection.driver_connection
        driver.answer_seconds = None
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    # Silence Alembic's log of every step.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    scripts = ScriptDirectory(str(Path(__file__).parent))

    def steps(revision: Any, context: MigrationContext) -> Any:
        return scripts._upgrade_revs(version, revision)

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations()
