"""Every route: who may use it, and what it does with forms and names of any intent.

A new route needs an entry in `ENTRIES`: a call of it that works.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from beam_fraud.review.http.routes import ROUTES, Page
from beam_fraud.review.people.roles import Role
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.tables import METADATA
from tests.review.world import HOSTILE, PEOPLE, World, make_world, restore, served

#: Tables whose rows requests renew without changing anything for people.
_OWN = {"sessions", "login_attempts", "openid_nonces"}
#: What would run, be read as a header or turn a line around, if it came out as it went in.
_HARM = ("<script>alert", "<img src=x", "49$", "\u202e", "\u2066")


@dataclass(frozen=True)
class Entry:
    """A call of a route that works."""

    path: Callable[[World], str]
    #: Fields of its form.
    fields: Callable[[World], dict[str, object]] = lambda world: {}
    #: Fields that hold any text.
    texts: tuple[str, ...] = ()
    status: int = 200


def _case(ending: str = "") -> Callable[[World], str]:
    return lambda world: f"/case/{world.cases['acct-1'][0]}{ending}"


def _versioned(**fields: object) -> Callable[[World], dict[str, object]]:
    return lambda world: {"version": world.cases["acct-1"][1], **fields}


def _form(ending: str, *texts: str, **fields: object) -> Entry:
    return Entry(_case(ending), _versioned(**fields), texts, 303)


def _at(path: str, *texts: str, status: int = 303, **fields: object) -> Entry:
    return Entry(lambda world: path, lambda world: fields, texts, status)


ENTRIES = {
    "static": _at("/static/style.css", status=200),
    "healthz": _at("/healthz", status=200),
    "login": _at("/login", status=200),
    # Without the page's cookie; `test_login.py` logs in.
    "log_in": _at("/login", "name", "next", "password", status=403, name="x", password="y"),
    # Without a provider; `test_openid.py` has some.
    "openid": _at("/login/openid", status=404),
    "openid_back": _at("/login/openid/back?state=a&code=b", status=404),
    "logout": _at("/logout"),
    "account": _at("/account", status=200),
    # No person of this test has a password.
    "password": _at(
        "/account", "password", "new", "again", status=422, password="a", new="b", again="b"
    ),
    "queue": _at("/", status=200),
    "next": _at("/next", "rule", "account"),
    "bulk": Entry(
        lambda world: "/bulk",
        lambda world: {
            "case": f"{world.cases['acct-1'][0]}:{world.cases['acct-1'][1]}",
            "verdict": "genuine",
            "comment": "holiday sale",
        },
        ("case", "comment", "reason", "verdict"),
    ),
    "save_view": _at("/views", "name", "account", "search", name="large", amount_from="100"),
    "delete_view": _at("/views/delete", "name", name="none", status=404),
    "case": Entry(_case()),
    "history": Entry(_case("/history")),
    "case_state": Entry(_case("/state")),
    "decide": _form("/decide", "reason", "comment", "transaction", verdict="fraud"),
    # The case is open.
    "reopen": Entry(_case("/reopen"), _versioned(comment="wrong"), ("comment",), 409),
    "claim": _form("/claim", "version"),
    # Nobody has claimed it: nothing to do.
    "release": _form("/release"),
    "assign": _form("/assign", "to", to="anna"),
    "remind": _form("/remind", "hours", hours="4"),
    "snooze": _form("/snooze", "hours", hours="4"),
    "note": _form("/note", "text", text="called the customer"),
    "list_subject": _form(
        "/list", "reason", "value", value="account:acct-1", action="watch", reason="new pattern"
    ),
    # No alert was queued.
    "resend": Entry(_case("/resend"), _versioned(transaction="acct-1-t0"), ("transaction",), 404),
    "lists": _at("/lists?state=all", status=200),
    "approve": Entry(
        lambda world: "/lists/approve",
        lambda world: {"request": world.request_id},
        ("request",),
        303,
    ),
    "refuse": Entry(
        lambda world: "/lists/refuse",
        lambda world: {"request": world.request_id, "comment": "no"},
        ("request", "comment"),
        303,
    ),
    "figures": _at("/figures", status=200),
    "figures_csv": _at("/figures/rules.csv", status=200),
    "live": _at("/live", status=200),
    "log": _at("/log", status=200),
    "users": _at("/users", status=200),
    "add_user": _at(
        "/users", "name", "password", "role", name="nina", role="lead", password="quiet river 7"
    ),
    "disable_user": _at("/users/disable", "name", name="rita"),
    "reset_user": _at("/users/reset", "name", "role", name="rita", role="analyst"),
}
_PAGES = [page for page in ROUTES if page.name in ENTRIES]
_CLOSED = [page for page in _PAGES if page.role is not None]
_FORMS = [page for page in _CLOSED if page.method == "POST"]


def test_each_route_has_an_entry() -> None:
    assert {page.name for page in ROUTES} == ENTRIES.keys()
    assert len({(page.method, page.path) for page in ROUTES}) == len(ROUTES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    directory = tmp_path_factory.mktemp("review")
    with served(make_world(directory)) as world:
        template = directory / "template.db"
        with transaction(world.site.url) as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(directory / "review.db", template)
        yield world, template


@pytest.fixture
def world(made: tuple[World, Path]) -> World:
    restore(*made)
    return made[0]


def contents(world: World) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of the database, but those of sessions."""
    with transaction(world.site.url) as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for name, table in METADATA.tables.items()
            if name not in _OWN
        }


def call(world: World, page: Page, who: str | None, **more: object):
    """Call a route by its entry."""
    entry = ENTRIES[page.name]
    if page.method == "GET":
        return world.get(entry.path(world), who)
    fields = entry.fields(world) | more.pop("changed", {})
    return world.post(entry.path(world), who, fields, **more)


def least(page: Page) -> str:
    """Return the person with the least role that may use a page."""
    return next(name for name, role in PEOPLE.items() if page.role is None or role >= page.role)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_the_least_role_may_use_it(world: World, page: Page) -> None:
    who = None if page.role is None else least(page)
    answer = call(world, page, who)
    assert answer.status_code == ENTRIES[page.name].status, answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.name == "static" or answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("page", _CLOSED, ids=lambda page: page.name)
def test_without_a_log_in_nothing_is_readable_or_writable(world: World, page: Page) -> None:
    before = contents(world)
    for answer in (call(world, page, None), call(world, page, None, form_of="adam")):
        assert answer.status_code == (303 if page.method == "GET" else 401)
        assert "acct-1" not in answer.text
        if page.method == "GET":
            assert answer.headers["location"].startswith("/login?next=")
            assert answer.text == ""
    assert contents(world) == before


@pytest.mark.parametrize(
    "page", [page for page in _CLOSED if page.role > Role.READ_ONLY], ids=lambda page: page.name
)
def test_a_lower_role_may_not_use_it(world: World, page: Page) -> None:
    before = contents(world)
    for who, role in PEOPLE.items():
        if role < page.role:
            answer = call(world, page, who)
            assert answer.status_code == 403
            assert "acct-1" not in answer.text
    assert contents(world) == before


@pytest.mark.parametrize("page", _FORMS, ids=lambda page: page.name)
def test_a_form_of_another_session_has_no_effect(world: World, page: Page) -> None:
    before = contents(world)
    answers = [
        call(world, page, "adam", form_of="rita"),
        call(world, page, "adam", changed={"form_token": ""}),
        call(world, page, "adam", changed={"form_token": "0" * 64}),
        call(world, page, "adam", **{"sec-fetch-site": "cross-site"}),
        call(world, page, "adam", **{"content-type": "text/plain"}),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403, 403, 415]
    assert contents(world) == before


def test_hostile_names_are_shown_and_do_nothing(world: World) -> None:
    for page in _PAGES:
        if page.method == "GET" and page.name != "static":
            answer = call(world, page, "adam")
            assert answer.status_code in (200, 303, ENTRIES[page.name].status), page.name
            harmless(answer)
    for name in HOSTILE:
        answer = world.get(f"/case/{world.cases[name][0]}", "adam")
        assert answer.status_code == 200
        harmless(answer)


@pytest.mark.parametrize(
    "page", [page for page in _PAGES if page.method == "POST"], ids=lambda p: p.name
)
def test_hostile_fields_are_text_or_refused(world: World, page: Page) -> None:
    who = "adam" if page.name not in ("approve",) else "lena"
    for name in ENTRIES[page.name].texts:
        for hostile in (HOSTILE[0], *HOSTILE[3:5], HOSTILE[7], "x" * 20_000, "\0"):
            answer = call(world, page, who, changed={name: hostile})
            assert answer.status_code < 500, (name, hostile, answer.text)
            harmless(answer)
    for reader in ("/", "/lists?state=all", "/log", "/users", "/figures"):
        answer = world.get(reader, "adam")
        # The form may have ended the session, or changed the person.
        assert answer.status_code in (200, 303, 403)
        harmless(answer)
    harmless(world.get(f"/case/{world.cases['acct-1'][0]}", "lena"))


@pytest.mark.parametrize("hostile", [*HOSTILE, "%00", "..%2f..%2fetc%2fpasswd", "%ff%fe"])
def test_hostile_addresses_find_nothing(world: World, hostile: str) -> None:
    from urllib.parse import quote

    text = hostile if hostile.startswith(("%", "..")) else quote(hostile, safe="")
    for path in ("/case/{}", "/case/{}/state", "/static/{}", "/figures/{}.csv", "/{}"):
        answer = world.get(path.format(text), "adam")
        assert answer.status_code in (404, 422)
        harmless(answer)
    for query in ("/?search={}", "/?sort={}", "/?after={}", "/lists?state={}", "/log?before={}"):
        answer = world.get(query.format(text), "adam")
        assert answer.status_code in (200, 422), answer.text
        harmless(answer)


def test_no_cell_of_a_csv_file_is_a_formula(world: World) -> None:
    with transaction(world.site.url) as connection:
        assert connection is not None
    for name in HOSTILE:
        case_id, version = world.cases[name]
        decided = world.post(
            f"/case/{case_id}/decide", "adam", {"version": version, "verdict": "fraud"}
        )
        assert decided.status_code == 303
    for table in ("backlog", "time", "models", "rules", "reviewers", "saved", "workload"):
        answer = world.get(f"/figures/{table}.csv", "rita")
        assert answer.headers["content-disposition"].startswith("attachment")
        for row in csv.reader(io.StringIO(answer.text)):
            assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row), row


def test_a_filter_that_cannot_be_read_is_said_on_the_queue(world: World) -> None:
    answer = world.get("/?amount_from=much&rule=large", "anna")
    assert answer.status_code == 422
    assert "Amount from: &#39;much&#39; is no number" in answer.text
    assert "Take the next case" in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(world: World, method: str) -> None:
    import requests

    answer = requests.request(method, f"{world.url}/", timeout=10)
    assert answer.status_code in (400, 405)


def harmless(answer) -> None:
    """Check that an answer has names as text alone."""
    assert "evil" not in answer.headers.get("set-cookie", "")
    assert "evil" not in answer.headers.get("location", "").partition("?")[0]
    # What forms send back is in an attribute, which shows nothing and runs nothing.
    shown = re.sub(r' value="[^"]*"', "", answer.text)
    assert "<script>alert" not in answer.text
    for harm in _HARM:
        assert harm not in shown, harm
