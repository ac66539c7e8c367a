"""A role that sees pseudonyms reads no id: on no page, in no file, by no search."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote_plus

import pytest
import requests
from sqlalchemy import Connection

from beam_fraud.alerts.pseudonym import Pseudonyms
from beam_fraud.review.case import read_case
from beam_fraud.review.decisions import Decision, decide, reopen
from beam_fraud.review.http.routes import ROUTES
from beam_fraud.review.list_requests import ListEntry, ask, refuse
from beam_fraud.review.people.roles import Role
from beam_fraud.review.queue import Filters, counted_page
from beam_fraud.review.saved_views import SavedView, save_view
from beam_fraud.review.teamwork import add_note
from beam_fraud.storage.database.connection import transaction, writing
from tests.review.test_case import link
from tests.review.test_routes import ENTRIES
from tests.review.world import World, make_world, rows, served, write

HIDDEN = ("rita", "anna")
NAMES = Pseudonyms(b"a key of sixteen bytes or more")
ACCOUNT, OTHER, SHOP = "Kunde-4711.a", "Kunde-0815.b", "Kiosk am Eck"
DEVICE, ELSEWHERE = "Tablet-7", "Pixel-9"
#: Values that no person of these roles may read. Ids of transactions as well: banks make them of
#: cards and times.
CLEAR = (
    *("Kunde-4711", "Kunde-0815", "Kiosk", "acct-1", "acct-2", "m-1", "m-2"),
    *("erika@example.org", "4929 1234", "8111222", "+49 30", "Tablet", "Pixel"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Cases with ids wherever people can put them."""
    world = make_world(tmp_path_factory.mktemp("hidden"), plain=True)
    hidden = frozenset((Role.READ_ONLY, Role.ANALYST))
    settings = replace(world.site.settings, pseudonymised=hidden, links=("device_id",))
    url, now = world.site.url, datetime.now(UTC)
    flagged = rows(4, ACCOUNT, start=40, merchants=(SHOP, "m-1"))
    write(url, [*flagged, *rows(2, OTHER, start=60, merchants=(SHOP,))], settings)
    devices = {f"{ACCOUNT}-t40": DEVICE, f"{OTHER}-t60": DEVICE, "acct-1-t0": ELSEWHERE}
    link(url, "device_id", devices)
    with writing(url) as connection:
        cases = counted_page(connection, Filters(), now, limit=100)[0].cases
        found = {one.account_id: one for one in cases}
        case, other = found[ACCOUNT], found[OTHER]
        text = (
            f"Called the owner of {ACCOUNT}, who also has {OTHER}. Mail erika@example.org, phone "
            f"+49 30 8111222 33, card 4929 1234 1234 1234; {ACCOUNT.upper()} at {SHOP}, "
            f"{flagged[1]['transaction_id']}. Twice on 2026-11-02. From {DEVICE}, not {ELSEWHERE}."
        )
        add_note(connection, settings, case.case_id, "lena", text, now)
        version = found_version(connection, case.case_id)
        decision = Decision("fraud", comment=f"as {OTHER}")
        decide(connection, settings, case.case_id, version, "lena", decision, now)
        version = found_version(connection, case.case_id)
        why = f"{ACCOUNT} says it was erika@example.org"
        reopen(connection, settings, case.case_id, version, "lena", now, comment=why)
        for entry in (
            ListEntry("account", ACCOUNT, "watch", f"{ACCOUNT} and {OTHER}, erika@example.org"),
            ListEntry("merchant", SHOP, "block", f"{SHOP} again"),
        ):
            ask(connection, settings, "lena", entry, now, case_id=case.case_id)
        asked = ask(connection, settings, "lena", ListEntry("account", OTHER, "block", "x"), now)
        refuse(connection, settings, asked.request_id, "adam", now)
        for owner in ("", *HIDDEN):
            for number, filters in enumerate(
                (Filters(account=ACCOUNT), Filters(merchant=SHOP), Filters(search="Kunde"))
            ):
                save_view(connection, SavedView(owner, f"view {number}", filters, "loss"))
        save_view(connection, SavedView("", "large ones", Filters(amount_from=10.0), "loss"))
        assert other.case_id != case.case_id
    site = replace(world.site, settings=settings, pseudonyms=NAMES)
    known = {**world.cases, ACCOUNT: (case.case_id, 0), OTHER: (other.case_id, 0)}
    with served(replace(world, site=site, cases=known)) as world:
        yield world


def found_version(connection: Connection, case_id: str) -> int:
    return read_case(connection, case_id, datetime.now(UTC)).queued.version


def leaks(answer: requests.Response) -> list[str]:
    """Return the clear names that an answer has, in whatever form."""
    text = "\n".join([answer.text, *map(str, answer.headers.items())])
    readable = f"{text}\n{html.unescape(text)}\n{unquote_plus(text)}".casefold()
    return [clear for clear in CLEAR if clear.casefold() in readable]


def addresses(world: World) -> list[str]:
    """Return an address of every page, and of every case."""
    pages = [ENTRIES[page.name].path(world) for page in ROUTES if page.method == "GET"]
    pages += [f"/case/{case_id}" for case_id, _ in world.cases.values()]
    pages += [f"/case/{case_id}/state" for case_id, _ in world.cases.values()]
    pages += [f"/?state={state}" for state in ("all", "closed", "free", "overdue", "snoozed")]
    pages += ["/?sort=age", "/?verdict=fraud&state=all", "/lists?state=refused", "/lists"]
    tables = ("backlog", "time", "models", "rules", "reviewers", "saved", "workload")
    return [*pages, *(f"/figures/{table}.csv" for table in tables)]


@pytest.mark.parametrize("who", HIDDEN)
def test_no_page_and_no_file_has_a_clear_id(world: World, who: str) -> None:
    for path in addresses(world):
        answer = world.get(path, who)
        assert leaks(answer) == [], path
    # What others see, so that there was something to find.
    seen = {leak for path in addresses(world) for leak in leaks(world.get(path, "adam"))}
    assert seen == set(CLEAR)


@pytest.mark.parametrize("who", HIDDEN)
def test_pseudonyms_are_the_same_on_every_page(world: World, who: str) -> None:
    account, shop = NAMES.of("account", ACCOUNT), NAMES.of("merchant", SHOP)
    assert account in world.get("/?state=all", who).text
    case = world.get(f"/case/{world.cases[ACCOUNT][0]}", who).text
    assert case.count(account) >= 3
    assert shop in case
    assert NAMES.of("account", OTHER) in case
    # In the note, and what links the two cases.
    assert case.count(NAMES.of("link", DEVICE)) == 2
    assert case.count(NAMES.of("link", ELSEWHERE)) == 1
    note = re.search(r"Called the owner[^<]+", case)
    assert note is not None
    # Times and words stay.
    assert "[e-mail]" in note[0]
    assert note[0].count("[number]") == 2
    assert "2026-11-02" in note[0]
    assert account in world.get("/lists?state=all", who).text


@pytest.mark.parametrize("who", HIDDEN)
@pytest.mark.parametrize(
    "query", [f"search={ACCOUNT}", "search=Kunde", f"account={ACCOUNT}", f"merchant={SHOP}"]
)
def test_no_search_tells_whose_case_it_is(world: World, who: str, query: str) -> None:
    absent = re.sub("Kunde|Kiosk", "Nobody", query)
    answers = [world.get(f"/?{one}", who) for one in (query, absent)]
    assert [answer.status_code for answer in answers] == [422, 422]
    # The same answer whether there is such a name or not: the queue as it was.
    problems = {tuple(re.findall(r'class="problem"[^>]*>[^<]*', one.text)) for one in answers}
    assert len(problems) == 1
    assert len({one.text.count("data-row") for one in answers}) == 1
    assert leaks(answers[0]) == []
    assert world.get(f"/?{query}", "adam").status_code == 200


def test_saved_views_that_name_somebody_are_of_those_who_see_names(world: World) -> None:
    for who in HIDDEN:
        page = world.get("/", who).text
        assert "large ones" in page
        assert "view 0" not in page
    assert "view 0" in world.get("/", "lena").text


def test_an_analyst_works_by_pseudonyms_and_learns_nothing_by_a_form(world: World) -> None:
    case_id = world.cases[OTHER][0]
    page = world.get(f"/case/{case_id}", "anna").text
    version = re.search(r'name="version" value="(\d+)"', page)
    assert version is not None
    fields: dict[str, object] = {"version": version[1], "action": "watch", "reason": "odd"}
    # A guess is refused, whether it is right or wrong.
    guesses = [
        world.post(f"/case/{case_id}/list", "anna", {**fields, "value": f"account:{value}"})
        for value in (OTHER, "Nobody")
    ]
    assert [answer.status_code for answer in guesses] == [404, 404]
    assert guesses[0].text == guesses[1].text
    own = NAMES.of("account", OTHER)
    answer = world.post(f"/case/{case_id}/list", "anna", {**fields, "value": f"account:{own}"})
    assert (answer.status_code, leaks(answer)) == (303, [])
    chosen = NAMES.of("transaction", f"{OTHER}-t60")
    answer = world.post(
        f"/case/{case_id}/decide",
        "anna",
        {**fields, "verdict": "genuine", "transaction": chosen, "reason": ""},
    )
    assert (answer.status_code, leaks(answer)) == (303, [])
    with transaction(world.site.url) as connection:
        assert found_version(connection, case_id) > int(version[1])
