"""Log-in: the form, its cookies and its limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from beam_fraud.errors import Code, UsageError
from beam_fraud.review import audit_log
from beam_fraud.review.http.cookies import LOGIN_COOKIE, SESSION_COOKIE
from beam_fraud.review.http.server import ReviewServer
from beam_fraud.review.people import attempts
from beam_fraud.review.people.roles import Role
from beam_fraud.review.people.users import add_user, disable_user
from beam_fraud.serve.http.access_log import AccessLogSettings
from beam_fraud.serve.http.listen import Listen
from beam_fraud.storage.database.connection import transaction, writing
from beam_fraud.storage.database.people_tables import SESSIONS
from tests.failing import fails
from tests.review.world import World, make_world, served

PASSWORD = "quiet river seven"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = make_world(tmp_path_factory.mktemp("login"))
    with writing(world.site.url) as connection:
        add_user(connection, "pia", Role.ANALYST, PASSWORD)
    with served(world) as world:
        yield world


@pytest.fixture
def world(made: World) -> World:
    with writing(made.site.url) as connection:
        for name in ("pia", "anna", "nobody", "x" * 64):
            attempts.forgive(connection, name)
    return made


def form_of(world: World, path: str = "/login") -> tuple[str, str]:
    """Return the cookie and the token of a log-in form."""
    answer = requests.get(world.url + path, timeout=10)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{LOGIN_COOKIE}=")
    token = re.search(r'name="form_token" value="([0-9a-f]{64})"', answer.text)
    assert token is not None
    return cookie.partition(";")[0], token[1]


def log_in(world: World, name: str, password: str, following: str = "/") -> requests.Response:
    cookie, token = form_of(world)
    return requests.post(
        f"{world.url}/login",
        data={"form_token": token, "name": name, "password": password, "next": following},
        headers={"cookie": cookie},
        allow_redirects=False,
        timeout=10,
    )


def test_the_right_password_begins_a_session_whose_cookie_scripts_and_others_never_get(
    world: World,
) -> None:
    answer = log_in(world, "Pia", PASSWORD, "/figures?days=7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/figures?days=7")
    cookie, *flags = (part.strip().lower() for part in answer.headers["set-cookie"].split(";"))
    assert cookie.startswith(SESSION_COOKIE.lower())
    assert {"secure", "httponly", "path=/", "samesite=lax"} <= set(flags)
    assert not any(flag.startswith("domain") for flag in flags)
    own = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    page = requests.get(world.url, headers=own, timeout=10)
    assert page.status_code == 200
    token = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert token is not None
    out = requests.post(
        f"{world.url}/logout",
        data={"form_token": token[1]},
        headers=own,
        allow_redirects=False,
        timeout=10,
    )
    assert out.status_code == 303
    after = requests.get(world.url, headers=own, timeout=10, allow_redirects=False)
    assert after.headers["location"].startswith("/login")
    with transaction(world.site.url) as connection:
        done = [one.action for one in audit_log.entries(connection, who="pia")]
    assert done[:2] == ["logged_out", "logged_in"]


@pytest.mark.parametrize(
    ("name", "password"),
    [("pia", "wrong"), ("pia", ""), ("nobody", PASSWORD), ("anna", ""), ("x" * 64, PASSWORD)],
)
def test_a_wrong_log_in_tells_nothing(world: World, name: str, password: str) -> None:
    answer = log_in(world, name, password)
    assert answer.status_code == 422
    assert "The name or the password is wrong." in answer.text
    assert SESSION_COOKIE not in answer.headers.get("set-cookie", "")


def test_too_many_wrong_log_ins_shut_the_name_for_a_while(world: World) -> None:
    for _ in range(attempts.OF_NAME):
        assert log_in(world, "nobody", "wrong").status_code == 422
    answer = log_in(world, "NOBODY", "wrong")
    assert answer.status_code == 429
    assert "try again in 1" in answer.text
    # Others are not shut out.
    assert log_in(world, "pia", PASSWORD).status_code == 303


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1"]
)
def test_a_log_in_leads_to_no_other_site(world: World, address: str) -> None:
    answer = log_in(world, "pia", PASSWORD, address)
    assert answer.headers["location"] == "/"


def test_a_log_in_form_of_another_browser_is_refused(world: World) -> None:
    (cookie, _), (_, token) = form_of(world), form_of(world)
    for headers in ({"cookie": cookie}, {}):
        answer = requests.post(
            f"{world.url}/login",
            data={"form_token": token, "name": "pia", "password": PASSWORD},
            headers=headers,
            timeout=10,
        )
        assert answer.status_code == 403


def test_a_disabled_person_is_logged_out(world: World) -> None:
    with writing(world.site.url) as connection:
        add_user(connection, "olaf", Role.LEAD, PASSWORD)
    own = {"cookie": log_in(world, "olaf", PASSWORD).headers["set-cookie"].partition(";")[0]}
    assert requests.get(world.url, headers=own, timeout=10, allow_redirects=False).ok
    with writing(world.site.url) as connection:
        disable_user(connection, "olaf")
    answer = requests.get(world.url, headers=own, timeout=10, allow_redirects=False)
    assert answer.headers["location"].startswith("/login")
    assert log_in(world, "olaf", PASSWORD).status_code == 422


def test_the_database_has_no_token_of_a_browser(world: World) -> None:
    cookie = log_in(world, "pia", PASSWORD).headers["set-cookie"]
    token = cookie.partition(";")[0].partition("=")[2]
    with transaction(world.site.url) as connection:
        stored = connection.scalars(select(SESSIONS.c.token_hash)).all()
    assert token not in stored
    answer = requests.get(
        world.url,
        headers={"cookie": f"{SESSION_COOKIE}={stored[0]}"},
        timeout=10,
        allow_redirects=False,
    )
    assert answer.status_code == 303


def test_passwords_travel_encrypted(world: World, tmp_path: Path) -> None:
    with fails(Code.TLS_MISSING, "0.0.0.0", UsageError):
        ReviewServer(world.site, Listen("0.0.0.0", 0), AccessLogSettings(on=False))


def test_the_access_log_names_pages_and_no_case(world: World, tmp_path: Path) -> None:
    import threading

    log = tmp_path / "access.log"
    server = ReviewServer(world.site, Listen(port=0), AccessLogSettings("text", log))
    started = threading.Event()
    thread = threading.Thread(target=server.run, args=(started.set,))
    thread.start()
    assert started.wait(10)
    case_id, _ = world.cases["acct-1"]
    requests.get(f"{server.url}/case/{case_id}?search=acct-1", timeout=10, allow_redirects=False)
    server.stop()
    thread.join(20)
    text = log.read_text("utf-8")
    assert "GET case 303" in text
    assert case_id not in text
    assert "acct-1" not in text
    assert datetime.now(UTC).strftime("%Y-%m-%d") in text
