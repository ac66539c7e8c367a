"""The analysts' pages beside a server: their rights, and that no payment waits for them."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests

from beam_fraud.cli.commands import serve
from beam_fraud.cli.commands.listening import listen_of
from beam_fraud.cli.commands.serve_pages import pages_of
from beam_fraud.cli.options import ServeOptions
from beam_fraud.errors import Code
from beam_fraud.review.http.cookies import SESSION_COOKIE
from beam_fraud.review.http.routes import ROUTES
from beam_fraud.review.people.sessions import begin_session
from beam_fraud.review.people.users import known_user
from beam_fraud.serve.http.listen import bound
from beam_fraud.serve.http.tokens import TOKENS_VARIABLE
from beam_fraud.storage.database.connection import writing
from deploy.ports import free_port
from tests.failing import fails
from tests.open_files import listening
from tests.review.test_routes import ENTRIES, call, contents, least
from tests.review.world import PEOPLE, World, make_world
from tests.serve.conftest import Served
from tests.serving import Command, Serve
from tests.stream_process import wait_until

TOKEN = "a-token-of-the-gateway"
CLOSED = [page for page in ROUTES if page.role is not None]


@dataclass(frozen=True)
class Beside:
    """A server, and what the pages beside it show."""

    server: Serve
    world: World

    def renewed(self) -> World:
        """Return the world with a new session of each person."""
        with writing(self.world.site.url) as connection:
            tokens = {
                name: begin_session(connection, known_user(connection, name)) for name in PEOPLE
            }
        return replace(self.world, tokens=tokens)

    def predict(self, **headers: str) -> requests.Response:
        """Ask for a prediction of what is no transaction: an engine that answers refuses it."""
        url = f"http://127.0.0.1:{self.server.port}/predict"
        return requests.post(url, json={}, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def beside(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """A server with tokens, and pages beside it over the database of `tests.review.world`."""
    directory = tmp_path_factory.mktemp("beside")
    world = replace(make_world(directory), url=f"http://127.0.0.1:{free_port()}")
    (directory / "settings.toml").write_text('second_person = ["block"]\n')
    options = ["--review", world.site.url, "--review-port", world.url.rpartition(":")[2]]
    options += ["--review-settings", str(directory / "settings.toml")]
    options += ["--lists", str(world.site.lists)]
    server = Serve(Path(served.bundle), directory / "state", *options)
    server.environment[TOKENS_VARIABLE] = f"gateway={TOKEN}"
    try:
        # Whether it is ready is shown to tokens alone.
        server.log.touch()
        Command.start(server)
        wait_until(lambda: "answering at" in server.said() or not server.runs)
        assert server.runs, server.said()
        yield Beside(server, world)
    finally:
        server.kill()


def test_rights_hold_on_every_route(beside: Beside) -> None:
    world = beside.renewed()
    before = contents(world)
    for page in CLOSED:
        for answer in (call(world, page, None), call(world, page, None, form_of="adam")):
            assert answer.status_code == (303 if page.method == "GET" else 401), page.name
            assert "acct-1" not in answer.text
        for who, role in PEOPLE.items():
            if role < page.role:
                assert call(world, page, who).status_code == 403, page.name
        if page.method == "POST":
            assert call(world, page, "adam", form_of="rita").status_code == 403, page.name
            other = {"sec-fetch-site": "cross-site"}
            assert call(world, page, "adam", **other).status_code == 403, page.name
    assert contents(world) == before


def test_the_least_role_may_use_every_route(beside: Beside) -> None:
    for page in CLOSED:
        answer = call(beside.renewed(), page, least(page))
        # What came before may have changed the case.
        allowed = {ENTRIES[page.name].status, *((404, 409, 422) if page.method == "POST" else ())}
        assert answer.status_code in allowed, (page.name, answer.text)
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_tokens_and_sessions_open_their_own_port_alone(beside: Beside) -> None:
    world, token = beside.renewed(), {"authorization": f"Bearer {TOKEN}"}
    assert beside.predict(**token).status_code == 422
    assert world.get("/", None, **token).headers["location"].startswith("/login")
    assert world.get("/", "adam").status_code == 200
    session = {"cookie": f"{SESSION_COOKIE}={world.tokens['adam']}"}
    assert beside.predict(**session).status_code == 401
    # Neither port has the routes of the other.
    assert world.get("/predict", "adam").status_code == 404
    assert world.get("/metrics", "adam").status_code == 404
    answers = f"http://127.0.0.1:{beside.server.port}"
    for path in ("/login", "/figures", "/case/x"):
        assert requests.get(f"{answers}{path}", headers=token, timeout=30).status_code == 404


def test_no_payment_waits_for_a_page(beside: Beside) -> None:
    world, token = beside.renewed(), {"authorization": f"Bearer {TOKEN}"}
    case_id, _ = world.cases["acct-2"]
    answers: list[requests.Response] = []

    def note() -> None:
        answers.append(world.post(f"/case/{case_id}/note", "anna", {"version": 1, "text": "x"}))

    writing_a_note = threading.Thread(target=note)
    with closing(sqlite3.connect(world.site.url.removeprefix("sqlite:///"))) as held:
        held.execute("BEGIN EXCLUSIVE")
        writing_a_note.start()
        assert [beside.predict(**token).status_code for _ in range(20)] == [422] * 20
        # It waits for the database.
        assert answers == []
        held.rollback()
    writing_a_note.join(30)
    assert [answer.status_code for answer in answers] == [303]


def test_pages_that_end_begin_again_beside_the_answers(beside: Beside) -> None:
    world, token = beside.renewed(), {"authorization": f"Bearer {TOKEN}"}
    (pages,) = listening(int(world.url.rpartition(":")[2]), beside.server.pid)
    os.kill(pages, signal.SIGKILL)
    assert beside.predict(**token).status_code == 422
    wait_until(lambda: "the process of the pages answers again" in beside.server.said())
    assert world.get("/", "anna").status_code == 200
    assert beside.predict(**token).status_code == 422
    (again,) = listening(int(world.url.rpartition(":")[2]), beside.server.pid)
    assert again != pages
    summary = beside.server.stop()
    assert summary["review"] == world.url
    with pytest.raises(requests.ConnectionError):
        world.get("/login")


@pytest.mark.parametrize(
    ("changed", "code", "named"),
    [
        ({"review": None}, Code.OPTION_CONFLICT, "--review-port: needs --review"),
        ({"review": "sqlite:////no/such.db"}, Code.PLACE_EMPTY, "--review"),
        ({"review": "parquet:flagged"}, Code.SINK_UNSUITED, "--review"),
        ({"review_settings": "/no/such.toml"}, Code.REVIEW_SETTINGS, "such.toml"),
    ],
)
def test_wrong_calls_name_the_option(
    tmp_path: Path, changed: dict[str, str | None], code: Code, named: str
) -> None:
    options = ServeOptions(state=str(tmp_path), review=f"sqlite:///{tmp_path / 'a.db'}")
    options = replace(options, sink=options.review, review_port=9)
    with fails(code, named):
        pages_of(replace(options, **changed))  # type: ignore[arg-type]


def test_the_database_of_the_sink_need_not_be_there_yet(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    pages = pages_of(ServeOptions(state=str(tmp_path), review=url, sink=url))
    assert pages is not None
    assert (tmp_path / "a.db").exists()


def test_pages_that_cannot_be_shown_end_the_call_before_it_writes(
    served: Served, tmp_path: Path
) -> None:
    url, state = f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "state"
    options = ServeOptions(model=served.bundle, state=str(state), port=0, review=url, sink=url)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = replace(options, review_port=port)
        with fails(Code.WORKER_ENDED, "pages"):
            serve.run(options)
        # What their process says.
        pages = pages_of(options)
        assert pages is not None
        with fails(Code.PORT_UNUSABLE, f"--review-port {port}"):
            bound(listen_of(pages))
    assert not state.exists()
