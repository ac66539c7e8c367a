"""Fill a database with alerts, open their cases and let people read the queue; print JSON.

REVIEW_OF=URL python -m benchmarks.review_load --alerts N --users N --seconds N
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from beam_fraud.review.case import read_case
from beam_fraud.review.decisions import Decision, decide
from beam_fraud.review.errors import ConflictError
from beam_fraud.review.opening import open_cases
from beam_fraud.review.queue import Filters, Page, Sort, count_cases, next_case, queue_page
from beam_fraud.review.settings import ReviewSettings
from beam_fraud.review.teamwork import claim
from beam_fraud.sinks.database import DatabaseSink
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.retry import persistently
from beam_fraud.storage.database.review_tables import CASES
from benchmarks.upserts_run import flagged_rows

#: Rows of a transaction, as `score` writes them; and rows that are made together.
_ROWS_AT_A_TIME, _PART = 10_000, 100_000
SETTINGS = ReviewSettings()
T = TypeVar("T")


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


@dataclass
class Users:
    """People who read the queue, open cases and decide them."""

    url: str
    #: Accounts among which they search.
    accounts: int
    #: Mean seconds from an answer to the next click.
    think: float
    #: Milliseconds of each page of the queue, and of each case and decision.
    pages: list[float] = field(default_factory=list)
    cases: list[float] = field(default_factory=list)
    decisions: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    #: Cases that somebody decided.
    decided: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, users: int, seconds: float) -> None:
        """Work for some seconds."""
        threads = [threading.Thread(target=self._work, args=(n,)) for n in range(users)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self._stop.set()
        for thread in threads:
            thread.join()

    def _work(self, number: int) -> None:
        rng = random.Random(number)
        self._stop.wait(rng.random() * self.think)
        while not self._stop.is_set():
            try:
                self._click(f"user-{number}", rng)
            except ConflictError:
                # Somebody else was faster.
                pass
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self._stop.wait(rng.expovariate(1 / self.think) if self.think else 0.0)

    def _click(self, who: str, rng: random.Random) -> None:
        now = datetime.now(UTC)
        filters = self._filters(who, rng)
        sort: Sort = "age" if rng.random() < 0.3 else "loss"
        page: Page = _timed(self.pages, lambda: self._page(filters, sort, now, rng))
        if not page.cases or rng.random() < 0.6:
            return
        chosen = rng.choice(page.cases)
        with transaction(self.url) as connection:
            _timed(self.cases, lambda: read_case(connection, chosen.case_id, now))
        if chosen.state == "open" and rng.random() < 0.5:
            _timed(self.decisions, lambda: self._decide(who, rng))

    def _page(self, filters: Filters, sort: Sort, now: datetime, rng: random.Random) -> Page:
        """Read a page with the number of its cases, as the pages show it."""
        with transaction(self.url) as connection:
            count_cases(connection, filters, now)
            page = queue_page(connection, filters, now, sort=sort)
            if page.next is not None and rng.random() < 0.2:
                page = queue_page(connection, filters, now, sort=sort, after=page.next)
        return page

    def _decide(self, who: str, rng: random.Random) -> None:
        now = datetime.now(UTC)
        with transaction(self.url) as connection:
            case = next_case(connection, Filters(state="free"), now, who)
        if case is None:
            return
        decision = Decision("fraud" if rng.random() < 0.5 else "genuine")
        persistently(self.url, lambda c: claim(c, SETTINGS, case.case_id, who, now))
        persistently(
            self.url,
            lambda c: decide(c, SETTINGS, case.case_id, case.version, who, decision, now),
        )
        self.decided.append(case.case_id)

    def _filters(self, who: str, rng: random.Random) -> Filters:
        account = f"account-{rng.randrange(self.accounts):06d}"
        return rng.choice(
            [
                *[Filters()] * 6,
                Filters(state="free"),
                Filters(state="overdue"),
                Filters(state="closed"),
                Filters(state="all"),
                Filters(claimed_by=who),
                Filters(account=account),
                Filters(search=account[:12]),
                Filters(search=account),
                Filters(merchant=f"merchant-{rng.randrange(5000)}"),
                Filters(rule=f"rule_{rng.randrange(40)}"),
                Filters(rule="rule_1", amount_from=500.0),
                Filters(amount_from=2_000.0),
                Filters(score_from=0.999),
                Filters(score_to=0.2),
                Filters(assigned_to=""),
            ]
        )


def _timed(into: list[float], work: Callable[[], T]) -> T:
    started = time.perf_counter()
    done = work()
    into.append((time.perf_counter() - started) * 1000)
    return done


def main() -> None:
    """Fill, work and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--alerts", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--think", type=float, default=1.0)
    options = parser.parse_args()
    url = os.environ["REVIEW_OF"]
    accounts = options.accounts or max(options.alerts // 4, 1)
    written, opened = 0.0, 0.0
    if options.alerts:
        written, opened = fill(url, options.alerts, accounts)
    users = Users(url, accounts, options.think)
    users.run(options.users, options.seconds)
    with transaction(url) as connection:
        closed = set(connection.scalars(select(CASES.c.case_id).where(CASES.c.state == "closed")))
    result = {
        "write_seconds": written,
        "open_seconds": opened,
        "pages": len(users.pages),
        "page_ms": _quantiles(users.pages),
        "case_ms": _quantiles(users.cases),
        "decision_ms": _quantiles(users.decisions),
        "errors": users.errors[:5],
        "decided": len(users.decided),
        "twice": len(users.decided) - len(set(users.decided)),
        "closed": len(closed),
    }
    print(json.dumps(result))


def _quantiles(milliseconds: list[float]) -> dict[str, float]:
    if not milliseconds:
        return {}
    return {
        f"p{share}": round(float(np.percentile(milliseconds, share)), 1) for share in (50, 95, 99)
    }


if __name__ == "__main__":
    main()
