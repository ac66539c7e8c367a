"""Several processes that show the pages at one port."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from jinja2 import Environment
from jinja2.compiler import CodeGenerator

from beam_fraud.cli.commands.server_process import ServerProcess, start_all
from beam_fraud.review.http.cookies import SESSION_COOKIE
from beam_fraud.review.http.site import Site
from beam_fraud.review.people.roles import Role
from beam_fraud.review.people.sessions import begin_session
from beam_fraud.review.people.users import add_user, known_user
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.storage.database.connection import prepare_database, sqlite_url, writing
from deploy.ports import free_port
from tests.open_files import connections, listening
from tests.review.world import serving_site
from tests.stream_process import wait_until


@dataclass(frozen=True)
class _First:
    """Who asks a new process for its first page, and of which database."""

    url: str
    token: str


def _first_page(first: _First, answering: Callable[[str], None]) -> dict[str, object]:
    """Answer one request in a process of the pages; return what it did for that alone."""
    compiled: list[str | None] = []

    class Counted(CodeGenerator):
        def __init__(
            self, environment: Environment, name: str | None, *given: Any, **named: Any
        ) -> None:
            compiled.append(name)
            super().__init__(environment, name, *given, **named)

    # A collection looks at those; not at what the process had before it was one of the pages.
    collected, kept = len(gc.get_objects()), gc.get_freeze_count()
    with serving_site(Site(first.url, ReviewSettings())) as address:
        answering(address)
        Environment.code_generator_class = Counted
        cookie = {"cookie": f"{SESSION_COOKIE}={first.token}"}
        page = requests.get(address, headers=cookie, timeout=30)
    return {
        "page": (page.status_code, "The queue is empty" in page.text),
        "compiled": compiled,
        "collected": collected / kept if kept else None,
    }


def test_the_first_page_of_a_process_neither_compiles_nor_copies(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "review.db")
    prepare_database(url)
    with writing(url) as connection:
        add_user(connection, "lena", Role.LEAD, None)
        token = begin_session(connection, known_user(connection, "lena"))
    process = ServerProcess("process 1 of the pages", _first_page, _First(url, token))
    start_all([process], threading.Event())
    result = process.result()
    assert result["page"] == (200, True)
    assert result["compiled"] == []
    collected = result["collected"]
    # A full collection writes to all it looks at: what a fork inherits would be copied.
    assert isinstance(collected, float)
    assert collected < 0.1


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
