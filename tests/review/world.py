"""A database with cases and people, and the pages over it, for tests."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import requests

from beam_fraud.review.http.cookies import SESSION_COOKIE
from beam_fraud.review.http.server import ReviewServer
from beam_fraud.review.http.site import Site
from beam_fraud.review.list_requests import ListEntry, ask
from beam_fraud.review.opening import open_cases
from beam_fraud.review.people.roles import Role
from beam_fraud.review.people.sessions import begin_session, form_token
from beam_fraud.review.people.users import add_user, known_user
from beam_fraud.review.queue import Filters, counted_page
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.schema.stages import SCORED
from beam_fraud.serve.http.access_log import AccessLogSettings
from beam_fraud.serve.http.listen import Listen
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import sqlite_url, transaction, writing
from tests.connections import close_connections

#: Names that would do harm where a page does not escape them: HTML, script, templates, headers,
#: formulas of spreadsheets, marks of direction.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}${7*7}",
    "a\r\nSet-Cookie: evil=1",
    '=HYPERLINK("http://evil.example")',
    "+1+1",
    "@SUM(1)",
    "\u202eevil\u2066",
    "' OR '1'='1' --",
)
#: A person of each role, and one more who asks for changes of lists.
PEOPLE = {"rita": Role.READ_ONLY, "anna": Role.ANALYST, "lena": Role.LEAD, "adam": Role.ADMIN}


def rows(
    count: int, account: str, *, start: int = 0, merchants: Sequence[str | None] = ("m-1", "m-2")
) -> list[dict[str, object]]:
    """Return flagged rows of an account, an hour apart."""
    now = datetime.now(UTC).replace(microsecond=0)
    return [
        {
            "transaction_id": f"{account}-t{start + one}",
            "event_time": now - timedelta(days=2, hours=one),
            "account_id": account,
            "merchant_id": merchants[one % len(merchants)],
            "amount": 20.0 * (1 + one) + 7.5 * (start % 11),
            "score": 0.5 + 0.45 * ((start + one) % 10) / 10,
            "flagged": True,
            "decision": "decline" if one % 3 == 0 else "review",
            "rules": ["large_and_fast"] if one % 2 else [],
            "reasons": [
                {"feature": "account_count_1h", "value": 7.0, "contribution": 0.31},
                {"feature": "amount", "value": 420.0, "contribution": 0.12},
            ],
            "model_id": "shop@0123456789ab",
            "rules_id": None,
            "shadow_rules": [],
        }
        for one in range(count)
    ]


def write(url: str, flagged: Sequence[Mapping[str, object]], settings: ReviewSettings) -> None:
    """Store flagged rows, and open their cases."""
    sink = DatabaseSink(url)
    sink.begin("test")
    writer = sink.open("test")
    writer.write(pa.RecordBatch.from_pylist(list(flagged), schema=SCORED))
    writer.close()
    while open_cases(url, settings, datetime.now(UTC)).more:
        pass


@dataclass(frozen=True)
class World:
    """A site and what is in it."""

    site: Site
    #: Account to its open case, and the version of the case.
    cases: dict[str, tuple[str, int]]
    #: Person to the token of a session.
    tokens: dict[str, str]
    #: Change of a list that waits for a second person.
    request_id: str
    url: str = field(default="")

    def get(self, path: str, who: str | None = None, **headers: str) -> requests.Response:
        """Request a page as a person."""
        return requests.get(
            self.url + path, headers=self._headers(who) | headers, allow_redirects=False, timeout=30
        )

    def post(
        self,
        path: str,
        who: str | None = None,
        fields: Mapping[str, object] = {},
        *,
        form_of: str | None = None,
        **headers: str,
    ) -> requests.Response:
        """Send a form as a person.

        Args:
          path: its address.
          who: whose cookie it carries.
          fields: its fields, each of one value or a list.
          form_of: whose page the form is of; None for `who`.
          headers: further ones.
        """
        owner = form_of or who
        token = {} if owner is None else {"form_token": form_token(self.tokens[owner])}
        return requests.post(
            self.url + path,
            data={**token, **fields},
            headers=self._headers(who) | headers,
            allow_redirects=False,
            timeout=30,
        )

    def _headers(self, who: str | None) -> dict[str, str]:
        return {} if who is None else {"cookie": f"{SESSION_COOKIE}={self.tokens[who]}"}


def make_world(directory: Path, *, plain: bool = False, url: str | None = None) -> World:
    """Make a database with cases of plain and, unless `plain`, hostile names, and people.

    Args:
      directory: for the lists, and a file of SQLite without `url`.
      plain: whether all names are harmless.
      url: a database without rows.
    """
    settings = ReviewSettings(second_person=frozenset(("block",)))
    url = url or sqlite_url(directory / "review.db")
    site = Site(url, settings, lists=directory / "lists")
    flagged = [*rows(3, "acct-1"), *rows(2, "acct-2", start=10)]
    for number, name in enumerate(() if plain else HOSTILE):
        flagged += rows(1, name, start=20 + number, merchants=(name,))
    write(url, flagged, settings)
    now = datetime.now(UTC)
    with writing(url) as connection:
        for name, role in PEOPLE.items():
            add_user(connection, name, role, None)
        tokens = {name: begin_session(connection, known_user(connection, name)) for name in PEOPLE}
        entry = ListEntry("account", "acct-2", "block", "many")
        asked = ask(connection, settings, "adam", entry, now)
    with transaction(url) as connection:
        cases = counted_page(connection, Filters(), now, limit=100)[0].cases
    return World(
        site,
        {str(one.account_id): (one.case_id, one.version) for one in cases},
        tokens,
        asked.request_id,
    )


def restore(world: World, template: Path) -> None:
    """Put the database back as it was made."""
    # The server keeps connections; what they wrote would follow.
    close_connections(world.site.url)
    file = Path(world.site.url.removeprefix("sqlite:///"))
    for left in file.parent.glob(f"{file.name}-*"):
        left.unlink()
    shutil.copyfile(template, file)


@contextmanager
def serving_site(site: Site, port: int = 0) -> Iterator[str]:
    """Serve the pages of a site in a thread, at a port, 0 for a free one; yield their address."""
    server = ReviewServer(site, Listen(port=port), AccessLogSettings(on=False))
    started = threading.Event()
    thread = threading.Thread(target=server.run, args=(started.set,))
    thread.start()
    try:
        assert started.wait(20)
        yield server.url
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def served(world: World, port: int = 0) -> Iterator[World]:
    """Serve the pages of a world, at a port; 0 for a free one."""
    with serving_site(world.site, port) as url:
        yield replace(world, url=url)
