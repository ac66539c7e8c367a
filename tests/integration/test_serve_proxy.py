"""HAProxy spreads accounts over servers by the configuration of deploy/serve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beam_fraud as bf
from deploy.kafka.broker import Broker
from deploy.ports import free_port, listens
from tests.integration.kafka import produce
from tests.requirements import need
from tests.serve.conftest import Served
from tests.serve.test_workers import accounts, server_at  # noqa: F401  # a fixture
from tests.serving import Client, Serve
from tests.stream_process import wait_until

CONFIGURATION = Path(__file__).parents[2] / "deploy/serve/haproxy.cfg"

pytestmark = pytest.mark.soak


@contextmanager
def proxy(port: int, first: int, directory: Path) -> Iterator[None]:
    """Run HAProxy in front of two servers."""
    text = CONFIGURATION.read_text("utf-8")
    for old, new in ((8080, port), (8000, first), (8001, first + 1)):
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    file = directory / "haproxy.cfg"
    file.write_text(text)
    haproxy = subprocess.Popen([need("haproxy"), "-db", "-f", file])
    try:
        wait_until(lambda: listens(f"127.0.0.1:{port}") or haproxy.poll() is not None)
        yield
    finally:
        haproxy.terminate()
        haproxy.wait()


@contextmanager
def servers(served: Served, state: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run two servers as a user does."""
    command = [sys.executable, "-m", "beam_fraud", "serve", "--model", served.bundle]
    command += ["--history", served.history, "--state", str(state), "--workers", "2"]
    command += ["--port", str(port), "--access-log", "none"]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: listens(f"127.0.0.1:{port + 1}") or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.wait()


def post(port: int, record: bytes, account: str | None) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"}
    if account is not None:
        headers["X-Account-Id"] = account
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/predict", record, headers)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def test_an_account_has_one_server(accounts: Served, tmp_path: Path) -> None:  # noqa: F811
    expected = bf.score(pq.read_table(accounts.later), accounts.bundle, history=accounts.history)
    assert isinstance(expected, pa.Table)
    port, first = free_port(), free_port()
    state = tmp_path / "state"
    account_of = [str(json.loads(record)["CUSTOMER_ID"]) for record in accounts.records]
    with servers(accounts, state, first) as parent, proxy(port, first, tmp_path):
        scores = []
        for record, account in zip(accounts.records, account_of, strict=True):
            status, answer = post(port, record, account)
            assert status == 200, answer
            scores.append(json.loads(answer)["score"])
        assert scores == expected.column("score").to_pylist()
        assert post(port, accounts.records[0], None)[0] == 400
        assert post(port, accounts.records[0], "")[0] == 400
        # While a server is away, its accounts get 503 and the others their answers.
        os.kill(parent.pid, signal.SIGSTOP)
        os.kill(server_at(state / "1"), signal.SIGKILL)
        wait_until(lambda: not listens(f"127.0.0.1:{first + 1}"))
        statuses: dict[str, set[int]] = {}
        for record, account in list(zip(accounts.records, account_of, strict=True))[:12]:
            statuses.setdefault(account, set()).add(post(port, record, account)[0])
        assert {frozenset(seen) for seen in statuses.values()} == {
            frozenset({200}),
            frozenset({503}),
        }
        os.kill(parent.pid, signal.SIGCONT)
        wait_until(lambda: listens(f"127.0.0.1:{first + 1}"))
        for record, account, score in zip(accounts.records, account_of, scores, strict=True):
            # Each repeat is answered as before, by the server that has it.
            status, answer = post(port, record, account)
            assert (status, json.loads(answer)["score"]) == (200, score)
        # A parent that is killed leaves no server behind.
        parent.kill()
        wait_until(lambda: not listens(f"127.0.0.1:{first}"))
        wait_until(lambda: not listens(f"127.0.0.1:{first + 1}"))
        parts = [state / number / "scores" for number in ("0", "1")]
        wait_until(lambda: all(any(part.glob("part-*.parquet")) for part in parts))
    archived = [pq.read_table(part).column("account_id") for part in parts]
    both = [set(accounts.to_pylist()) for accounts in archived]
    assert not both[0] & both[1]
    assert both[0] | both[1] == set(account_of)


def test_a_server_that_cannot_start_ends_all(
    accounts: Served,  # noqa: F811
    tmp_path: Path,
) -> None:
    port = free_port()
    with servers(accounts, tmp_path / "one", port):
        command = [sys.executable, "-m", "beam_fraud", "serve", "--model", accounts.bundle]
        command += ["--state", str(tmp_path / "two"), "--workers", "2", "--port", str(port - 1)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "[BF109]" in done.stderr
    assert done.stderr.rstrip().endswith("[BF116]")
    assert "Traceback" not in done.stderr
    begun = time.monotonic()
    wait_until(lambda: not listens(f"127.0.0.1:{port - 1}"))
    assert time.monotonic() - begun < 5


def test_windows_of_merchants_have_what_another_server_answered(
    bundle: Path,
    broker: Broker,
    topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    transactions, start = topic(partitions=2), datetime(2024, 3, 1)
    records = [
        {
            "TRANSACTION_ID": f"t{number}",
            "TX_DATETIME": (start + timedelta(minutes=number)).isoformat(),
            "CUSTOMER_ID": "ab"[number % 2],
            "TERMINAL_ID": "shop",
            "TX_AMOUNT": 10.0 + number,
        }
        for number in range(20)
    ]
    sent = [json.dumps(record).encode() for record in records]
    options = ("--workers", "2", "--kafka", broker.bootstrap, "--topic", transactions)
    options += ("--start", "earliest", "--lateness", "10d")
    state = tmp_path / "state"
    with Serve(bundle, state, *options) as server:
        wait_until(lambda: "2 servers answer" in server.said() or not server.runs)
        clients = [Client(server.port), Client(server.port + 1)]

        def probe(client: Client, account: str, when: datetime) -> dict[str, float]:
            probing = records[0] | {"TRANSACTION_ID": "probe", "CUSTOMER_ID": account}
            body = json.dumps(probing | {"TX_DATETIME": when.isoformat()}).encode()
            features: dict[str, float] = json.loads(
                client.post(body, "?record=false&features=true")[1]
            )["features"]
            return features

        answers = [clients[number % 2].post(record) for number, record in enumerate(sent)]
        assert {status for status, _, _ in answers} == {200}
        hour, later = start + timedelta(hours=1), start + timedelta(days=9)
        # Each knows its own account, and half of the merchant's transactions.
        for client, account in zip(clients, "ab", strict=True):
            assert probe(client, account, hour)["account_count_1d"] == 11
            assert probe(client, account, later)["merchant_count_7d_delay_7d"] == 10
        produce(broker, transactions, sent, keys=[record[-1:] for record in sent])
        for client in clients:
            merchant = partial(probe, client, "c", later)
            wait_until(lambda of=merchant: of()["merchant_count_7d_delay_7d"] == 20)
            counts = [probe(client, account, hour)["account_count_1d"] for account in "ab"]
            assert counts == [11, 11]
        # The server of an account repeats what it answered.
        again = [clients[number % 2].post(record)[1] for number, record in enumerate(sent)]
        assert again == [body for _, body, _ in answers]
        for client in clients:
            client.close()
        server.stop()
    for number in ("0", "1"):
        assert pq.read_table(state / number / "scores").num_rows == 20
