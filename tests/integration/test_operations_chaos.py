"""A database restarts, a mail server is down: no alert is lost or repeated."""

from __future__ import annotations

import os
import random
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme

from beam_fraud.errors import FraudError
from beam_fraud.simulate.simulation import Simulation, simulate
from deploy.postgres.server import Server
from tests.http_receiver import HttpReceiver
from tests.smtp_server import SmtpServer
from tests.stream_process import Stream

#: Everything is flagged, so that there is much to lose.
_RULES = """
[[rule]]
name = "everything"
when = "amount >= 0"
decision = "review"
"""
_PARTS = 10
#: Messages that may be taken but not yet marked when a process is killed.
_UNMARKED = 20


@dataclass(frozen=True)
class Trouble:
    """The faults of a stream and its outputs."""

    #: Flagged rows.
    rows: int
    #: Seconds for which the mail server is down.
    outage: float
    #: Parts of the rows at which the database restarts, and at which the stream is killed.
    restarts: tuple[int, ...]
    kills: tuple[int, ...]
    #: Seconds that anything may take.
    patience: float


@pytest.mark.soak
def test_a_little_trouble_loses_nothing(own_postgres: Server, bundle: Path, tmp_path: Path) -> None:
    trouble = Trouble(rows=2_000, outage=2.0, restarts=(3,), kills=(6,), patience=120.0)
    survive(trouble, own_postgres, bundle, tmp_path)


@pytest.mark.soak
def test_much_trouble_loses_nothing(own_postgres: Server, bundle: Path, tmp_path: Path) -> None:
    trouble = Trouble(rows=50_000, outage=30.0, restarts=(2, 7), kills=(4, 8), patience=900.0)
    survive(trouble, own_postgres, bundle, tmp_path)


def survive(trouble: Trouble, postgres: Server, bundle: Path, directory: Path) -> None:
    """Cause faults, wait for their end, and check all outputs."""
    authority = trustme.CA()
    certificate = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    mail = SmtpServer(context=context, login=("fraud", "secret-of-the-test"))
    with mail, HttpReceiver(fails=0.05) as receiver:
        url = postgres.create_database("chaos")
        rules = directory / "rules.toml"
        rules.write_text(_RULES)
        inbox, out = directory / "inbox", directory / "out"
        inbox.mkdir()
        options = ["--watch", str(inbox), "--model", str(bundle), "--out", str(out)]
        options += ["--sink", url, "--rules", str(rules), "--rule-limit", "1"]
        letters = (
            f"smtp://fraud@127.0.0.1:{mail.port}/?from=fraud@bank.example&to=team@bank.example"
        )
        options += ["--alert", f"{letters}&group=none&rate=none&most=10&cafile={certificate}"]
        options += ["--alert", f"{receiver.url}/hook#most=20"]
        stream = Stream(["stream", *options], out)
        os.environ["BEAM_FRAUD_SMTP_PASSWORD"] = "secret-of-the-test"
        try:
            _disturb(trouble, stream, postgres, mail, inbox)
            _wait(lambda: _settled(postgres, trouble.rows), trouble.patience, stream)
            stream.stop()
            stream.wait_for_end()
        finally:
            del os.environ["BEAM_FRAUD_SMTP_PASSWORD"]
            stream.kill()
    message = stream.log.read_text()
    assert "secret-of-the-test" not in message
    alerts = _alerts(postgres)
    _assert_stored_once(postgres, trouble.rows)
    _assert_mailed(mail, alerts, repeats=_UNMARKED * len(trouble.kills) + 1)
    _assert_posted(receiver, trouble.rows)


def _disturb(
    trouble: Trouble, stream: Stream, postgres: Server, mail: SmtpServer, inbox: Path
) -> None:
    draw = random.Random(1)
    transactions = simulate(Simulation(days=60, accounts=600, merchants=300, seed=3))
    while transactions.num_rows < trouble.rows:
        transactions = simulate(Simulation(days=60, accounts=1_200, merchants=300, seed=3))
    transactions = transactions.slice(0, trouble.rows)
    stream.start()
    back: float | None = None
    for number in range(_PARTS):
        _drop(_part(transactions, number), inbox, number)
        expected = trouble.rows * number // _PARTS
        _wait(lambda: _stored(postgres) >= expected, trouble.patience, stream)  # noqa: B023
        if number == 1:
            mail.stop()
            back = time.monotonic() + trouble.outage
        if number in trouble.restarts:
            postgres.restart()
        if number in trouble.kills:
            time.sleep(draw.uniform(0.0, 1.0))
            stream.kill()
            stream.start()
    assert back is not None
    # What is waited for is the time itself.
    time.sleep(max(back - time.monotonic(), 0.0))
    mail.start()


def _part(transactions: pa.Table, number: int) -> pa.Table:
    start, end = (transactions.num_rows * n // _PARTS for n in (number, number + 1))
    return transactions.slice(start, end - start)


def _drop(part: pa.Table, inbox: Path, number: int) -> None:
    hidden = inbox.with_name("coming.parquet")
    pq.write_table(part, hidden)
    hidden.rename(inbox / f"{number:02}.parquet")


def _wait(condition: Callable[[], bool], patience: float, stream: Stream) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert stream.runs, stream.said()
        assert time.monotonic() < deadline, stream.said()
        time.sleep(0.1)


def _stored(postgres: Server) -> int:
    return _count(postgres, "SELECT count(*) FROM flagged_transactions")


def _settled(postgres: Server, rows: int) -> bool:
    waiting = _count(postgres, "SELECT count(*) FROM alerts WHERE sent_at IS NULL")
    return waiting == 0 and _stored(postgres) == rows


def _count(postgres: Server, query: str) -> int:
    try:
        [(number,)] = postgres.execute(query, "chaos")
    except FraudError:
        # It restarts, or has no tables yet.
        return -1
    assert isinstance(number, int)
    return number


def _alerts(postgres: Server) -> dict[str, set[str]]:
    """Return the transactions of each delivery in the e-mails."""
    result = defaultdict(set)
    query = "SELECT delivery_id, transaction_id FROM alerts WHERE channel LIKE 'smtp%'"
    for delivery, transaction in postgres.execute(query, "chaos"):
        result[str(delivery)].add(str(transaction))
    return result


def _assert_stored_once(postgres: Server, rows: int) -> None:
    query = "SELECT count(*), count(DISTINCT transaction_id) FROM flagged_transactions"
    assert postgres.execute(query, "chaos") == [(rows, rows)]
    query = "SELECT count(*), count(sent_at), count(DISTINCT delivery_id) FROM alerts"
    [(alerts, sent, deliveries)] = postgres.execute(query, "chaos")
    assert (alerts, sent) == (2 * rows, 2 * rows)
    query = "SELECT count(*) FROM deliveries WHERE state = 'sent'"
    assert postgres.execute(query, "chaos") == [(deliveries,)]


def _assert_mailed(mail: SmtpServer, alerts: dict[str, set[str]], repeats: int) -> None:
    contents = defaultdict(list)
    for letter in mail.letters:
        contents[str(letter.mail["Message-ID"])].append(letter.content)
    assert set(contents) == {f"<{delivery}@bank.example>" for delivery in alerts}
    # A letter that comes again is the same to the letter, under its one Message-ID.
    assert all(len(set(copies)) == 1 for copies in contents.values())
    assert sum(map(len, contents.values())) - len(contents) <= repeats
    for letter in mail.letters:
        delivery = str(letter.mail["Message-ID"])[1:].partition("@")[0]
        part = letter.mail.get_body(("plain",))
        assert part is not None
        words = set(part.get_content().split())
        assert alerts[delivery] <= words


def _assert_posted(receiver: HttpReceiver, rows: int) -> None:
    keys = defaultdict(set)
    for post in receiver.taken:
        for alert in post.json["alerts"]:
            keys[alert["transaction_id"]].add(post.headers["Idempotency-Key"])
    assert len(keys) == rows
    assert all(len(messages) == 1 for messages in keys.values()), "told twice"
