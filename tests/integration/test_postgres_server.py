"""The PostgreSQL server for trials and tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beam_fraud.errors import FraudError
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import prepare_database
from deploy.postgres.server import Server
from tests.flagged import flagged_batch
from tests.requirements import postgres_home

ROOT = Path(__file__).resolve().parent.parent.parent


def test_rows_outlive_a_crash_of_the_server(own_postgres: Server) -> None:
    url = own_postgres.create_database("cards")
    prepare_database(url)
    DatabaseSink(url).open("r").write(flagged_batch(["a"]))
    own_postgres.kill()
    own_postgres.start()
    result = own_postgres.execute("SELECT transaction_id FROM flagged_transactions", "cards")
    assert result == [("a",)]


def test_a_port_in_use_is_reported(postgres: Server) -> None:
    with postgres_home() as home:
        second = Server(home, postgres.port)
        with pytest.raises(FraudError, match="something listens there already"):
            second.start()


def test_a_wrong_statement_is_one_error(postgres: Server) -> None:
    with pytest.raises(FraudError, match="no_such_table"):
        postgres.execute("SELECT * FROM no_such_table")


def test_it_runs_by_hand_until_it_is_stopped() -> None:
    with postgres_home() as home:
        port = str(Server(home).port)
        command = [
            sys.executable,
            "-m",
            "deploy.postgres.server",
            "--data",
            str(home),
            "--port",
            port,
        ]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                line = process.stderr.readline()
            finally:
                process.send_signal(signal.SIGTERM)
            assert line.startswith(f"PostgreSQL answers at postgresql://fraud@127.0.0.1:{port}/")
            assert process.wait(30) == 0
