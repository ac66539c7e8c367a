"""Log-in at a provider of OpenID Connect: a certified one, and one that lies."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import requests
from joserfc import jwt
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import Connection

from beam_fraud.errors import Code
from beam_fraud.review import audit_log
from beam_fraud.review.http.cookies import LOGIN_COOKIE, OPENID_COOKIE, SESSION_COOKIE
from beam_fraud.review.people.identities import log_in
from beam_fraud.review.people.openid import Identity, Provider
from beam_fraud.review.people.openid_settings import OpenIdSettings
from beam_fraud.review.people.roles import Role
from beam_fraud.review.people.sessions import form_token
from beam_fraud.review.people.users import add_user, disable_user, list_users
from beam_fraud.storage.database.connection import transaction, writing
from deploy.ports import free_port
from tests.failing import fails
from tests.requirements import need
from tests.review import browser
from tests.review.browser import one, wait
from tests.review.providers import (
    CLIENT,
    ROLES,
    SECRET,
    Liar,
    certified_provider,
    key,
    signed,
    unsigned,
)
from tests.review.test_login import PASSWORD
from tests.review.test_login import log_in as log_in_by_password
from tests.review.world import PEOPLE, World, make_world, restore, served

#: Where a log-in begins, and where it comes back.
BEGIN, BACK = "/login/openid", "/login/openid/back"
PERSON = {
    "ann": {"preferred_username": "ann", "groups": ["fraud"]},
    "bob": {"preferred_username": "bob", "groups": ["sales"]},
}


def settings_of(issuer: str, pages: str, **changed: object) -> OpenIdSettings:
    roles = {name: Role.parse(word) for name, word in ROLES.items()}
    settings = OpenIdSettings(issuer, CLIENT, SECRET, pages, roles, title="Acme")
    return replace(settings, **changed)  # type: ignore[arg-type]


@contextmanager
def pages_of(world: World, settings: OpenIdSettings, *, passwords: bool = True) -> Iterator[World]:
    """Serve the pages with a provider, at the address of its settings."""
    own = replace(world.site.settings, openid=settings, passwords=passwords)
    site = replace(world.site, settings=own, provider=Provider(settings))
    with served(replace(world, site=site), urlsplit(settings.url).port or 0) as world:
        yield world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    directory = tmp_path_factory.mktemp("openid")
    world = make_world(directory, plain=True)
    with writing(world.site.url) as connection:
        add_user(connection, "pia", Role.ANALYST, PASSWORD)
    with transaction(world.site.url) as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    template = directory / "template.db"
    template.write_bytes((directory / "review.db").read_bytes())
    return world, template


@pytest.fixture
def world(made: tuple[World, Path]) -> World:
    restore(*made)
    return made[0]


@dataclass(frozen=True)
class Begun:
    """A log-in on its way: the cookie of the browser, and what the provider was sent."""

    world: World
    cookie: str
    address: str

    @property
    def sent(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.address).query).items()}

    def back(self, cookie: str | None = None, **changed: str) -> requests.Response:
        """Come back from the provider."""
        fields = {"state": self.sent["state"], "code": "c"} | changed
        fields = {name: value for name, value in fields.items() if value}
        return requests.get(
            self.world.url + BACK,
            params=fields,
            headers={"cookie": self.cookie if cookie is None else cookie},
            allow_redirects=False,
            timeout=30,
        )


def begin(world: World, following: str = "/") -> Begun:
    query = {"next": following}
    answer = requests.get(world.url + BEGIN, query, allow_redirects=False, timeout=30)
    assert answer.status_code == 303, answer.text
    cookie = re.search(rf"{OPENID_COOKIE}=[^;]+", answer.headers["set-cookie"])
    assert cookie is not None
    return Begun(world, cookie[0], answer.headers["location"])


def at_provider(address: str, login: str) -> str:
    """Log in at the certified provider as a browser does; return where it leads back to."""
    with requests.Session() as browser_:
        for _ in range(12):
            answer = browser_.get(address, allow_redirects=False, timeout=30)
            if answer.is_redirect:
                address = urljoin(address, answer.headers["location"])
                if BACK in address:
                    return address
                continue
            form = dict(re.findall(r'name="(prompt)" value="(\w+)"', answer.text))
            action = re.search(r'action="([^"]+)"', answer.text)
            assert action is not None, answer.text
            fields = {**form, "login": login, "password": "any"}
            answer = browser_.post(
                urljoin(address, action[1]), fields, allow_redirects=False, timeout=30
            )
            address = urljoin(address, answer.headers["location"])
    raise AssertionError(f"no way back: {address}")


def session_of(answer: requests.Response) -> str | None:
    cookie = re.search(rf"{SESSION_COOKIE}=[^;]+", answer.headers.get("set-cookie", ""))
    return None if cookie is None else cookie[0]


def shown_to(world: World, session: str | None, path: str = "/") -> requests.Response:
    return requests.get(
        world.url + path, headers={"cookie": session or ""}, allow_redirects=False, timeout=30
    )


def people(world: World) -> dict[str, str]:
    with transaction(world.site.url) as connection:
        return {user.name: user.role.word for user in list_users(connection)}


@pytest.fixture(scope="module")
def certified() -> Iterator[OpenIdSettings]:
    """The certified provider, and pages that are free to be served."""
    pages = f"http://127.0.0.1:{free_port()}"
    with certified_provider(pages, PERSON) as issuer:
        yield settings_of(issuer, pages)


def logged_in(world: World, login: str, following: str = "/") -> requests.Response:
    begun = begin(world, following)
    address = at_provider(begun.address, login)
    return requests.get(
        address, headers={"cookie": begun.cookie}, allow_redirects=False, timeout=30
    )


def test_a_certified_provider_logs_people_in(world: World, certified: OpenIdSettings) -> None:
    with pages_of(world, certified) as pages:
        answer = logged_in(pages, "ann", "/figures")
        assert (answer.status_code, answer.headers["location"]) == (303, "/figures")
        session = session_of(answer)
        page = shown_to(pages, session)
        assert page.status_code == 200
        assert people(pages)["ann"] == "analyst"
        # The browser keeps nothing of the log-in.
        assert f'{OPENID_COOKIE}=""' in answer.headers["set-cookie"]
        token = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
        assert token is not None
        out = requests.post(
            f"{pages.url}/logout",
            {"form_token": token[1]},
            headers={"cookie": session or ""},
            timeout=30,
        )
        # Here, and with a link to do the same at the provider.
        link = re.search(rf'href="({re.escape(certified.issuer)}[^"]+)"', out.text)
        assert link is not None
        assert requests.get(link[1].replace("&amp;", "&"), timeout=30).status_code == 200
        assert shown_to(pages, session).status_code == 303
    with transaction(world.site.url) as connection:
        log = [
            (one.action, one.detail.get("by")) for one in audit_log.entries(connection, who="ann")
        ]
    assert log == [("logged_out", None), ("logged_in", "openid"), ("user_added", "openid")]


def test_a_certified_provider_refuses_what_is_not_of_this_client(
    world: World, certified: OpenIdSettings
) -> None:
    with pages_of(world, replace(certified, secret="another")) as pages:
        answer = logged_in(pages, "ann")
        assert (answer.status_code, session_of(answer)) == (422, None)
    with pages_of(world, certified) as pages:
        begun = begin(pages)
        kept = json.loads(base64.urlsafe_b64decode(begun.cookie.partition("=")[2] + "=="))
        other = base64.urlsafe_b64encode(json.dumps({**kept, "verifier": "v" * 43}).encode())
        address = at_provider(begun.address, "ann")
        cookie = f"{OPENID_COOKIE}={other.decode().rstrip('=')}"
        answer = requests.get(
            address, headers={"cookie": cookie}, allow_redirects=False, timeout=30
        )
        # PKCE: the code was asked for by somebody else.
        assert (answer.status_code, session_of(answer)) == (422, None)
        # Whom the provider knows, and who has no role here.
        answer = logged_in(pages, "bob")
        assert (answer.status_code, session_of(answer)) == (422, None)
        assert "no role here" in answer.text
    assert {"ann", "bob"}.isdisjoint(people(world))


@pytest.mark.soak
def test_a_browser_goes_to_the_provider_and_back(world: World, certified: OpenIdSettings) -> None:
    need("chromium")
    with pages_of(world, certified, passwords=False) as pages, browser.browser() as driver:
        driver.get(f"{pages.url}/figures")
        assert driver.find_elements(By.NAME, "password") == []
        assert browser.faults(driver) == []
        one(driver, "a.button.main").click()
        wait(driver, lambda driver: driver.find_elements(By.NAME, "login"))
        one(driver, "[name=login]").send_keys("ann", Keys.TAB, "any", Keys.ENTER)
        wait(driver, lambda driver: driver.find_elements(By.CSS_SELECTOR, "[value=consent]"))
        one(driver, "button[type=submit]").click()
        wait(driver, lambda driver: driver.title.startswith("Figures"))
        one(driver, ".who button").click()
        wait(driver, lambda driver: driver.title.startswith("Log in"))
        # The provider's own pages are not ours; that the cache is cleared is no complaint.
        said = [line for line in browser.complaints(driver) if line.startswith(pages.url)]
        assert [line for line in said if "Cleared data types" not in line] == []
        one(driver, ".panel a").click()
        wait(driver, lambda driver: driver.current_url.startswith(certified.issuer))


# What follows is of a provider that answers as a test wants.


def another(liar: Liar, **changed: object) -> OpenIdSettings:
    """Return settings of pages of their own."""
    return settings_of(liar.issuer, f"http://127.0.0.1:{free_port()}", **changed)


@pytest.fixture(scope="module")
def lying(made: tuple[World, Path]) -> Iterator[tuple[Liar, World]]:
    """A provider that lies, and pages with it."""
    with Liar() as liar, pages_of(made[0], another(liar)) as pages:
        yield liar, pages


@pytest.fixture
def liar(lying: tuple[Liar, World]) -> Liar:
    liar, _ = lying
    for name, value in vars(Liar(port=liar.port)).items():
        if name != "_server":
            setattr(liar, name, value)
    return liar


@pytest.fixture
def pages(world: World, lying: tuple[Liar, World]) -> World:
    return lying[1]


def comes(liar: Liar, pages: World, **changed: str) -> requests.Response:
    """Begin a log-in and come back."""
    begun = begin(pages)
    liar.nonce = begun.sent["nonce"]
    return begun.back(**changed)


def test_the_provider_gets_what_a_log_in_needs_and_no_secret(liar: Liar, pages: World) -> None:
    begun = begin(pages)
    sent = begun.sent
    assert sent["response_type"] == "code"
    assert sent["code_challenge_method"] == "S256"
    assert sent["redirect_uri"] == f"{pages.url}{BACK}"
    assert SECRET not in begun.address
    liar.nonce = sent["nonce"]
    answer = begun.back()
    assert answer.status_code == 303, answer.text
    # Without a list of its ways, the secret is in a header.
    assert set(liar.forms[0]) == {"grant_type", "code", "redirect_uri", "code_verifier"}
    assert people(pages)["ann"] == "analyst"
    assert begin(pages).sent["state"] != sent["state"]


def _claim(name: str, value: object) -> Callable[[dict[str, object]], None]:
    def change(claims: dict[str, object]) -> None:
        claims[name] = value

    return change


def _without(name: str) -> Callable[[dict[str, object]], None]:
    return lambda claims: claims.pop(name)


def _later(name: str, seconds: int) -> Callable[[dict[str, object]], None]:
    return lambda claims: claims.update({name: int(time.time()) + seconds})


def _by_other_key(claims: Mapping[str, object]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "1"}, dict(claims), key(1))


def _by_public_key(claims: Mapping[str, object]) -> str:
    """Sign by what everybody knows as if it were a secret."""
    return _by_secret(claims, key(0).as_pem(private=False))


def _by_listed_secret(claims: Mapping[str, object]) -> str:
    """Sign by a secret that the set of keys shows to everybody."""
    return _by_secret(claims, b"secret")


def _by_secret(claims: Mapping[str, object], secret: bytes) -> str:
    head, body, _ = unsigned(claims, "HS256").split(".")
    made = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(made).decode().rstrip('=')}"


def _damaged(claims: Mapping[str, object]) -> str:
    head, _, signature = signed(claims).split(".")
    _, body, _ = unsigned({**claims, "groups": ["fraud-leads"]}).split(".")
    return f"{head}.{body}.{signature}"


@pytest.mark.parametrize(
    "token",
    [
        unsigned,
        lambda claims: unsigned(claims, "None"),
        lambda claims: unsigned(claims, "RS256"),
        _by_other_key,
        _by_public_key,
        _by_listed_secret,
        _damaged,
        lambda claims: "a.b.c",
        lambda claims: "",
        lambda claims: signed(claims) + ".x.y",
    ],
    ids=["none", "None", "empty", "key", "public", "listed", "body", "noise", "missing", "five"],
)
def test_a_token_without_the_signature_of_the_provider_opens_nothing(
    liar: Liar, pages: World, token: Callable[[Mapping[str, object]], str]
) -> None:
    before, liar.token = people(pages), token
    answer = comes(liar, pages)
    assert answer.status_code == 422
    assert session_of(answer) is None
    assert people(pages) == before


@pytest.mark.parametrize(
    "change",
    [
        _claim("iss", "https://elsewhere.example"),
        _without("iss"),
        _claim("aud", "another"),
        _claim("aud", ["another"]),
        _claim("aud", [CLIENT, "another"]),
        _without("aud"),
        _claim("azp", "another"),
        _later("exp", -120),
        _claim("exp", "soon"),
        _without("exp"),
        _later("iat", -7200),
        _later("iat", 7200),
        _without("iat"),
        _later("nbf", 7200),
        _claim("nonce", "of another log-in"),
        _claim("nonce", ["a"]),
        _without("nonce"),
        _claim("sub", ""),
        _claim("sub", "s" * 300),
        _claim("sub", 7),
        _without("sub"),
        _claim("groups", ["sales"]),
        _claim("groups", []),
        _claim("groups", {"fraud": True}),
        _claim("groups", [["fraud"], None, 1]),
        _without("groups"),
        _claim("preferred_username", "<script>alert(1)</script>"),
        _claim("preferred_username", "two words"),
        _claim("preferred_username", ["ann"]),
        _without("preferred_username"),
        # Users who are somebody else, whatever their names are at the provider.
        _claim("preferred_username", "pia"),
        _claim("preferred_username", "ADAM"),
    ],
)
def test_a_token_of_somebody_else_or_for_something_else_opens_nothing(
    liar: Liar, pages: World, change: Callable[[dict[str, object]], None]
) -> None:
    before, liar.changed = people(pages), change
    # Where the token lacks a claim, the page of the person has it: of another person.
    liar.person = {"sub": "subject-2", "groups": ["fraud-leads"], "preferred_username": "ann"}
    answer = comes(liar, pages)
    assert answer.status_code == 422, answer.text
    assert session_of(answer) is None
    assert "<script>alert" not in answer.text
    assert people(pages) == before


def test_what_no_provider_answers_opens_nothing(liar: Liar, pages: World) -> None:
    assert comes(liar, pages, iss="https://elsewhere.example").status_code == 422
    assert comes(liar, pages, code="").status_code == 422
    refused = comes(liar, pages, code="", error="access_denied<script>")
    assert refused.status_code == 422
    assert "access_denied&lt;script&gt;" in refused.text
    liar.status = 400
    assert comes(liar, pages).status_code == 422
    liar.status = 500
    assert comes(liar, pages).status_code == 502
    assert "ann" not in people(pages)


def test_an_answer_is_of_the_browser_that_began_and_of_one_log_in(liar: Liar, pages: World) -> None:
    first, second = begin(pages), begin(pages)
    liar.nonce = first.sent["nonce"]
    # Somebody's answer in another browser would log it in as somebody else.
    for cookie in ("", second.cookie, f"{OPENID_COOKIE}=e30", f"{OPENID_COOKIE}=\x7f"):
        assert session_of(first.back(cookie)) is None
    assert first.back(state="").status_code == 422
    assert liar.forms == []
    answer = first.back()
    assert session_of(answer) is not None
    again = first.back()
    assert (again.status_code, session_of(again)) == (422, None)
    assert "used before" in again.text


def test_an_old_log_in_is_over(liar: Liar, pages: World) -> None:
    begun = begin(pages)
    liar.nonce = begun.sent["nonce"]
    kept = json.loads(base64.urlsafe_b64decode(begun.cookie.partition("=")[2] + "=="))
    old = json.dumps({**kept, "begun": kept["begun"] - 3600}).encode()
    cookie = f"{OPENID_COOKIE}={base64.urlsafe_b64encode(old).decode().rstrip('=')}"
    assert begun.back(cookie).status_code == 422
    assert begun.back().status_code == 303


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1"]
)
def test_a_log_in_leads_to_no_other_site(liar: Liar, pages: World, address: str) -> None:
    begun = begin(pages, address)
    liar.nonce = begun.sent["nonce"]
    assert begun.back().headers["location"] == "/"


def test_people_are_found_by_subject_and_have_the_role_of_today(liar: Liar, pages: World) -> None:
    session = session_of(comes(liar, pages))
    assert shown_to(pages, session, "/log").status_code == 403
    liar.changed = lambda claims: claims.update(
        preferred_username="ann.married", groups=["fraud-leads"]
    )
    session = session_of(comes(liar, pages))
    assert people(pages)["ann"] == "lead"
    assert "ann.married" not in people(pages)
    assert shown_to(pages, session, "/log").status_code == 200
    # Another person comes to the name.
    liar.changed = lambda claims: claims.update(sub="subject-9")
    assert session_of(comes(liar, pages)) is None
    liar.changed = lambda claims: None
    with writing(pages.site.url) as connection:
        disable_user(connection, "ann")
    assert shown_to(pages, session).status_code == 303
    answer = comes(liar, pages)
    assert (answer.status_code, session_of(answer)) == (422, None)
    assert "disabled" in answer.text


def test_claims_of_the_page_of_the_person_count_too(liar: Liar, pages: World) -> None:
    liar.changed = _without("groups")
    liar.person = {"sub": "subject-1", "groups": "fraud"}
    assert session_of(comes(liar, pages)) is not None
    assert people(pages)["ann"] == "analyst"


def test_users_of_before_are_linked_by_name_where_that_is_set(world: World, liar: Liar) -> None:
    liar.changed = _claim("preferred_username", "PIA")
    with pages_of(world, another(liar, link_by_name=True)) as pages:
        assert session_of(comes(liar, pages)) is not None
        # Once: no other person becomes that user.
        liar.changed = lambda claims: claims.update(preferred_username="pia", sub="subject-3")
        assert session_of(comes(liar, pages)) is None
        assert log_in_by_password(pages, "pia", PASSWORD).status_code == 303
    assert sorted(people(pages)) == sorted([*PEOPLE, "pia"])


def test_passwords_can_be_turned_off(world: World, liar: Liar) -> None:
    with pages_of(world, another(liar), passwords=False) as pages:
        form = requests.get(f"{pages.url}/login", timeout=30)
        assert 'name="password"' not in form.text
        cookie = form.headers["set-cookie"].partition(";")[0]
        assert cookie.startswith(LOGIN_COOKIE)
        fields = {"form_token": form_token(cookie.partition("=")[2])}
        answer = requests.post(
            f"{pages.url}/login",
            {**fields, "name": "pia", "password": PASSWORD},
            headers={"cookie": cookie},
            allow_redirects=False,
            timeout=30,
        )
        assert (answer.status_code, session_of(answer)) == (403, None)
        added = {"name": "nina", "role": "lead", "password": "quiet river 7"}
        assert pages.post("/users", "adam", added).status_code == 403
        reset = {"name": "rita", "role": "read-only", "password": "quiet river 7"}
        assert pages.post("/users/reset", "adam", reset).status_code == 403
        own = {"password": PASSWORD, "new": "a new password", "again": "a new password"}
        assert pages.post("/account", "adam", own).status_code == 403
        # Roles of people can be changed all the same.
        assert pages.post("/users/reset", "adam", {**reset, "password": ""}).status_code == 303
        for path in ("/login", "/users", "/account"):
            assert 'type="password"' not in pages.get(path, "adam").text


def test_a_provider_that_is_away_is_said_and_keeps_nobody_waiting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    settings = another(Liar())
    with caplog.at_level(logging.WARNING):
        Provider(settings).check()
    assert Code.PROVIDER_SILENT in caplog.text
    with pages_of(world, settings) as pages:
        answer = requests.get(pages.url + BEGIN, timeout=30)
        assert answer.status_code == 502
        assert "does not answer" in answer.text
        # Passwords still work.
        assert log_in_by_password(pages, "pia", PASSWORD).status_code == 303


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", "https://elsewhere.example"),
        ("authorization_endpoint", "http://elsewhere.example/auth"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", None),
    ],
)
def test_a_description_that_leads_elsewhere_is_refused(
    liar: Liar, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    description = {**liar.description(), name: value}
    monkeypatch.setattr(liar, "description", lambda: description)
    with fails(Code.PROVIDER_SILENT, name):
        Provider(another(liar)).begin("/")


def test_a_provider_may_change_its_key(
    world: World, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_fraud.review.people.openid._APART", 0.0)
    answer = liar.answer

    def renewed(path: str) -> tuple[int, object]:
        if path == "/jwks":
            return 200, {"keys": [key(1).as_dict(private=False)]}
        return answer(path)

    with pages_of(world, another(liar)) as pages:
        assert session_of(comes(liar, pages)) is not None
        monkeypatch.setattr(liar, "answer", renewed)
        liar.token = _by_other_key
        assert session_of(comes(liar, pages)) is not None


def test_no_log_has_a_code_a_token_or_a_secret(
    liar: Liar, pages: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        liar.token = _by_other_key
        comes(liar, pages, code="the-code-of-ann")
    # Those of the test's own requests are not ours.
    logged = [record.getMessage() for record in caplog.records if "beam_fraud" in record.name]
    assert any(Code.PROVIDER_REFUSED in line for line in logged)
    for secret in ("the-code-of-ann", "eyJ", SECRET, liar.nonce):
        assert secret not in "\n".join(logged)
    assert SECRET not in repr(pages.site)


def test_identities_are_kept_by_both_databases(database: str) -> None:
    settings = settings_of("https://login.example", "https://review.example")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    claims = {"preferred_username": "ann", "groups": ["fraud"]}

    def come(connection: Connection, nonce: str, subject: str = "s") -> str:
        return log_in(connection, settings, Identity(subject, claims, nonce, soon, "/"))[0].name

    with writing(database) as connection:
        assert come(connection, "1") == "ann"
    with writing(database) as connection:
        claims["preferred_username"] = "other"
        assert come(connection, "2") == "ann"
    with fails(Code.LOGIN_REFUSED, "somebody else"), writing(database) as connection:
        claims["preferred_username"] = "ann"
        come(connection, "3", "t")
    with fails(Code.LOGIN_REFUSED, "used before"), writing(database) as connection:
        come(connection, "2")
