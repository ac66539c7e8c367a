"""Several processes that show the pages at one port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import requests

from beam_fraud.storage.database.connection import prepare_database, sqlite_url
from deploy.ports import free_port
from tests.open_files import connections, listening
from tests.stream_process import wait_until


def _answers(address: str) -> bool:
    try:
        # A connection of its own: the system chooses the process.
        return requests.get(f"{address}/healthz", timeout=30).status_code == 200
    except requests.ConnectionError:
        return False


def test_a_killed_process_starts_again_and_the_port_answers(tmp_path: Path) -> None:
    url, port = sqlite_url(tmp_path / "review.db"), free_port()
    prepare_database(url)
    address, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    command = [sys.executable, "-m", "beam_fraud", "review", "--database", url, "--json"]
    command += ["--port", str(port), "--workers", "2", "--access-log", "none"]
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file)
    try:
        wait_until(lambda: "the pages are at" in log.read_text() or server.poll() is not None)
        assert all(_answers(address) for _ in range(8)), log.read_text()
        with ExitStack() as people:
            for _ in range(8):
                one = people.enter_context(requests.Session())
                assert one.get(f"{address}/healthz", timeout=30).status_code == 200
            # Each has its share, not what chance gives it.
            assert connections(port, server.pid) == [4, 4]
        killed = listening(port, server.pid)
        assert len(killed) == 2
        os.kill(killed[0], signal.SIGKILL)
        wait_until(lambda: len(set(listening(port, server.pid)) - {killed[0]}) == 2)
        wait_until(lambda: all(_answers(address) for _ in range(8)))
        server.terminate()
        printed, _ = server.communicate(timeout=60)
    finally:
        server.kill()
    result = json.loads(printed)
    assert (server.returncode, result["workers"], result["restarts"]) == (0, 2, 1)
    assert not _answers(address)
