"""Fill a database with alerts, open their cases and let people use the pages; print JSON.

REVIEW_OF=URL python -m benchmarks.review_load --alerts N --users N --seconds N --think S
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import uvloop
from sqlalchemy import func, select

from beam_fraud.review.http.cookies import SESSION_COOKIE
from beam_fraud.review.opening import open_cases
from beam_fraud.review.people.roles import Role
from beam_fraud.review.people.sessions import begin_session, form_token
from beam_fraud.review.people.users import add_user, known_user, list_users
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import transaction, writing
from beam_fraud.storage.database.review_tables import CASES
from benchmarks.upserts_run import flagged_rows

#: Rows of a transaction, as `score` writes them; and rows that are made together.
_ROWS_AT_A_TIME, _PART = 10_000, 100_000
SETTINGS = ReviewSettings()


def fill(url: str, alerts: int, accounts: int) -> tuple[float, float]:
    """Write alerts and open their cases; return the seconds of both."""
    sink = DatabaseSink(url)
    sink.begin("benchmark")
    writer = sink.open("benchmark")
    part = flagged_rows(min(alerts, _PART))
    started = time.perf_counter()
    for first in range(0, alerts, _PART):
        rows = _varied(part.slice(0, alerts - first), first // _PART, accounts)
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            writer.write(rows.slice(start, _ROWS_AT_A_TIME))
    writer.close()
    written = time.perf_counter()
    while open_cases(url, SETTINGS, datetime.now(UTC), most=5_000).more:
        pass
    return written - started, time.perf_counter() - written


def _varied(rows: pa.RecordBatch, number: int, accounts: int) -> pa.RecordBatch:
    """Return rows as other transactions, of other accounts and rules."""
    rng = np.random.default_rng(number)
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    prefix = pa.repeat(pa.scalar(f"{number:04x}"), len(rows))
    columns["transaction_id"] = pc.binary_join_element_wise(prefix, columns["transaction_id"], "-")
    names = [f"account-{key:06d}" for key in rng.integers(0, accounts, len(rows))]
    columns["account_id"] = pa.array(names)
    rules = pa.array([f"rule_{key}" for key in rng.zipf(1.5, 2 * len(rows)) % 40])
    ends = pa.array(range(0, 2 * len(rows) + 1, 2), pa.int32())
    columns["rules"] = pa.ListArray.from_arrays(ends, rules)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=rows.schema)


def log_in(url: str, users: int) -> list[str]:
    """Return the tokens of sessions of so many leads, who are added if they are not there."""
    names = [f"user-{number}" for number in range(users)]
    with writing(url) as connection:
        there = {user.name for user in list_users(connection)}
        for name in names:
            if name not in there:
                add_user(connection, name, Role.LEAD, None)
        return [begin_session(connection, known_user(connection, name)) for name in names]


@dataclass(frozen=True)
class Answer:
    """An answer of the pages."""

    status: int
    #: Where a form leads to; "" for nowhere.
    location: str
    text: str


class Browser(asyncio.Protocol):
    """A logged-in person's connection to the pages.

    It reads no more of an answer than the load needs: it runs on the processors of the server.
    """

    def __init__(self, address: str, token: str) -> None:
        """Note where the pages are, and whose session it is."""
        at = urlsplit(address)
        self._host, self._port = at.hostname or "127.0.0.1", at.port or 80
        self._form_token = form_token(token)
        self._head = f"HTTP/1.1\r\nhost: pages\r\ncookie: {SESSION_COOKIE}={token}\r\n"
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        #: Bytes of the head and of the whole answer that is received; 0 before the head is there.
        self._head_bytes = self._whole = 0
        self._answer: asyncio.Future[Answer] | None = None

    async def get(self, path: str) -> Answer:
        """Request a page."""
        return await self._ask("GET", path, "", b"")

    async def post(self, path: str, **fields: object) -> Answer:
        """Send a form."""
        form = urlencode({"form_token": self._form_token, **fields}).encode()
        head = f"content-type: application/x-www-form-urlencoded\r\ncontent-length: {len(form)}\r\n"
        return await self._ask("POST", path, head, form)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    async def _ask(self, method: str, path: str, head: str, body: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._transport, _ = await loop.create_connection(lambda: self, self._host, self._port)
        self._answer = loop.create_future()
        self._transport.write(f"{method} {path} {self._head}{head}\r\n".encode() + body)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        received = self._received
        received += data
        if not self._whole:
            end = received.find(b"\r\n\r\n")
            length = _LENGTH.search(received, 0, end) if end >= 0 else None
            if length is None:
                return
            self._head_bytes = end + 4
            self._whole = self._head_bytes + int(length[1])
        if len(received) < self._whole or self._answer is None:
            return
        to = _LOCATION.search(received, 0, self._head_bytes)
        location = "" if to is None else to[1].decode()
        text = received[self._head_bytes : self._whole].decode()
        status = int(received[9:12])
        self._received, self._whole = received[self._whole :], 0
        self._answer.set_result(Answer(status, location, text))

    def connection_lost(self, exc: Exception | None) -> None:
        """Let an answer fail that has not come."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the connection has ended"))


_LENGTH = re.compile(rb"\ncontent-length: (\d+)", re.IGNORECASE)
_LOCATION = re.compile(rb"\nlocation: ([^\r]+)", re.IGNORECASE)
_CASE = re.compile(r'href="/case/([0-9a-z]{12})[?"]')
_NEXT = re.compile(r'rel="next" href="([^"]+)"')
_VERSION = re.compile(r'data-version="(\d+)"')


@dataclass
class Users:
    """People who read the queue, open cases and decide them, through the pages."""

    #: Addresses of the pages; the people spread over them.
    addresses: Sequence[str]
    #: A session's token for each person.
    tokens: Sequence[str]
    #: Accounts among which they search.
    accounts: int
    #: Mean seconds from an answer to the next click.
    think: float
    #: Milliseconds of each page of the queue, and of each case and decision.
    pages: list[float] = field(default_factory=list)
    cases: list[float] = field(default_factory=list)
    decisions: list[float] = field(default_factory=list)
    #: Milliseconds of pages by their filters.
    by_query: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    #: Decisions that somebody else was faster with.
    conflicts: int = 0
    #: Cases that somebody decided.
    decided: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Work for some seconds."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._all(time.perf_counter() + seconds))

    async def _all(self, until: float) -> None:
        async with asyncio.TaskGroup() as group:
            for number, token in enumerate(self.tokens):
                address = self.addresses[number % len(self.addresses)]
                group.create_task(self._work(number, Browser(address, token), until))

    async def _work(self, number: int, browser: Browser, until: float) -> None:
        rng = random.Random(number)
        await asyncio.sleep(rng.random() * self.think)
        while time.perf_counter() < until:
            try:
                await self._click(browser, f"user-{number}", rng)
            except (OSError, ValueError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                return
            await self._think(rng)
        browser.close()

    async def _think(self, rng: random.Random) -> None:
        if self.think:
            await asyncio.sleep(rng.expovariate(1 / self.think))

    async def _click(self, browser: Browser, who: str, rng: random.Random) -> None:
        query = self._query(who, rng)
        name = "&".join(sorted(query))
        if rng.random() < 0.3:
            query["sort"] = "age"
        page = await self._page(browser, f"/?{urlencode(query)}" if query else "/", name)
        following = _NEXT.search(page.text) if rng.random() < 0.2 else None
        if following is not None:
            await self._think(rng)
            page = await self._page(browser, following[1].replace("&amp;", "&"), "after")
        cases = _CASE.findall(page.text) if rng.random() < 0.4 else []
        if not cases:
            return
        await self._think(rng)
        await self._timed(self.cases, browser.get(f"/case/{rng.choice(cases)}"))
        if rng.random() < 0.5:
            await self._think(rng)
            await self._decide(browser, rng)

    async def _decide(self, browser: Browser, rng: random.Random) -> None:
        """Take the next case, and decide it."""
        taken = await self._timed(self.decisions, browser.post("/next", state="free"))
        match = re.match(r"/case/(\w+)", taken.location)
        if match is None:
            return
        case = await self._timed(self.cases, browser.get(taken.location))
        version = _VERSION.search(case.text)
        if version is None:
            return
        await self._think(rng)
        verdict = "fraud" if rng.random() < 0.5 else "genuine"
        done = await self._timed(
            self.decisions,
            browser.post(
                f"/case/{match[1]}/decide", version=version[1], verdict=verdict, then="next"
            ),
        )
        if done.status == 303:
            self.decided.append(match[1])

    async def _page(self, browser: Browser, path: str, name: str) -> Answer:
        started = len(self.pages)
        answer = await self._timed(self.pages, browser.get(path))
        self.by_query.setdefault(name, []).append(self.pages[started:][0])
        return answer

    async def _timed(self, into: list[float], asking: Coroutine[None, None, Answer]) -> Answer:
        started = time.perf_counter()
        answer = await asking
        into.append((time.perf_counter() - started) * 1000)
        if answer.status == 409:
            self.conflicts += 1
        elif answer.status not in (200, 303):
            self.errors.append(
                f"status {answer.status}: {re.sub('<[^>]+>', ' ', answer.text)[-200:]}"
            )
        return answer

    def _query(self, who: str, rng: random.Random) -> dict[str, object]:
        account = f"account-{rng.randrange(self.accounts):06d}"
        shown: list[dict[str, object]] = [
            *[{}] * 6,
            {"state": "free"},
            {"state": "overdue"},
            {"state": "closed"},
            {"state": "all"},
            {"claimed_by": who},
            {"account": account},
            {"search": account[:12]},
            {"search": account},
            {"merchant": f"merchant-{rng.randrange(5000)}"},
            {"rule": f"rule_{rng.randrange(40)}"},
            {"rule": "rule_1", "amount_from": 500},
            {"amount_from": 2_000},
            {"score_from": 0.999},
            {"score_to": 0.2},
            {"assigned_to": "-"},
        ]
        return dict(rng.choice(shown))


@contextmanager
def serving(url: str, workers: int) -> Iterator[str]:
    """Show the pages on a free port; yield their address."""
    # Not as an argument: others on the machine see those, and the URL has a password.
    environment = {**os.environ, "REVIEW_OF": url}
    command = [sys.executable, "-m", "beam_fraud", "review", "--database", "env:REVIEW_OF"]
    command += ["--port", "0", "--access-log", "none", "--workers", str(workers)]
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        with log.open("wb") as file:
            # Not to the output of this process, which is the result.
            server = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            yield _address(log, server)
        finally:
            server.terminate()
            server.wait(60)


def _address(log: Path, server: subprocess.Popen[bytes]) -> str:
    while True:
        text = log.read_text("utf-8")
        if (match := re.search(r"the pages are at (\S+)", text)) is not None:
            return match[1]
        if server.poll() is not None:
            raise RuntimeError(f"a server of the pages has ended: {text}")
        time.sleep(0.05)


def main() -> None:
    """Fill, work and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--alerts", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--think", type=float, action="append")
    options = parser.parse_args()
    url = os.environ["REVIEW_OF"]
    accounts = options.accounts or max(options.alerts // 4, 1)
    written, opened = 0.0, 0.0
    if options.alerts:
        written, opened = fill(url, options.alerts, accounts)
    result: dict[str, object] = {"write_seconds": written, "open_seconds": opened}
    tokens = log_in(url, options.users)
    with serving(url, options.workers) as address:
        result["first_page"] = asyncio.run(_first_page(address, tokens[0]))
        for think in options.think or [0.0]:
            users = Users([address], tokens, accounts, think)
            users.run(options.seconds)
            result[f"think {think:g}"] = _figures(users, options.seconds)
    with transaction(url) as connection:
        closed = select(func.count()).where(CASES.c.state == "closed")
        result["closed"] = connection.execute(closed).scalar_one()
    print(json.dumps(result))


async def _first_page(address: str, token: str) -> dict[str, float]:
    """Return the kilobytes of the queue with its files, and milliseconds of the first and next."""
    browser, took = Browser(address, token), list[float]()
    size = 0
    for _ in range(2):
        started, size = time.perf_counter(), 0
        page = await browser.get("/")
        files = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text))
        for text in [page.text, *[(await browser.get(path)).text for path in sorted(files)]]:
            size += len(text.encode())
        took.append((time.perf_counter() - started) * 1000)
    browser.close()
    return {"kilobytes": size / 1000, "first_ms": round(took[0], 1), "next_ms": round(took[1], 1)}


def _figures(users: Users, seconds: float) -> dict[str, object]:
    return {
        "pages": len(users.pages),
        "requests_per_second": round(
            (len(users.pages) + len(users.cases) + len(users.decisions)) / seconds, 1
        ),
        "page_ms": _quantiles(users.pages),
        "case_ms": _quantiles(users.cases),
        "decision_ms": _quantiles(users.decisions),
        "by_query": {name: _quantiles(times) for name, times in users.by_query.items()},
        "errors": users.errors[:5],
        "conflicts": users.conflicts,
        "decided": len(users.decided),
        "twice": len(users.decided) - len(set(users.decided)),
    }


def _quantiles(milliseconds: list[float]) -> dict[str, float]:
    if not milliseconds:
        return {}
    return {
        f"p{share}": round(float(np.percentile(milliseconds, share)), 1) for share in (50, 95, 99)
    }


if __name__ == "__main__":
    main()
