"""Limits: slow, silent, huge and many connections cost only themselves."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from beam_fraud.errors import Code, UsageError
from beam_fraud.serve.http.limits import Limits
from beam_fraud.serve.http.listen import Listen, within_open_files
from tests.failing import fails
from tests.serve.stand_in import AUTH, GOOD, TOKEN, Served, StandIn, served

BODY = json.dumps(GOOD).encode()
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\nContent-Length: %d\r\n" % len(BODY)
)
REQUEST = HEAD + b"\r\n" + BODY
SHORT = Limits(
    body_bytes=1_000,
    head_bytes=2_000,
    head_seconds=0.6,
    body_seconds=0.6,
    idle_seconds=0.6,
    write_seconds=1.0,
    connections=50,
)


@pytest.fixture(scope="module")
def api() -> Iterator[Served]:
    with served(limits=SHORT) as running:
        yield running


def connect(api: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=10)


def rest(client: socket.socket) -> bytes:
    """Read to the end of the connection."""
    parts = []
    try:
        while part := client.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def exchange(api: Served, *parts: bytes) -> bytes:
    with connect(api) as client:
        for part in parts:
            client.sendall(part)
        return rest(client)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def code(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["code"])


def ask(api: Served) -> int:
    return requests.post(f"{api.url}/predict", json=GOOD, headers=AUTH, timeout=10).status_code


def test_a_client_that_falls_silent_is_disconnected(api: Served) -> None:
    begins = {
        (): None,
        (b"\r\n",): 408,
        (b"GET /hea",): 408,
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nX-",): 408,
        (HEAD + b"\r\n", BODY[:20]): 408,
        (HEAD + b"\r\n",): 408,
    }
    began = time.monotonic()
    with ExitStack() as clients:
        opened = [(clients.enter_context(connect(api)), parts) for parts in begins]
        for client, parts in opened:
            client.sendall(b"".join(parts))
        for client, parts in opened:
            answer = rest(client)
            assert (status(answer) if answer else None) == begins[parts]
            assert not answer or code(answer) == "timeout"
    assert time.monotonic() - began < 5


def test_head_and_body_of_an_answer_come_together(api: Served) -> None:
    with connect(api) as client:
        client.sendall(REQUEST)
        head, _, body = client.recv(65_536).partition(b"\r\n\r\n")
        assert status(head) == 200
        assert json.loads(body)["transaction_id"] == GOOD["TRANSACTION_ID"]
        # An answer without a body, and one that is asked for before the body is sent.
        client.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(client.recv(65_536)) == 200
        client.sendall(HEAD + b"Expect: 100-continue\r\n\r\n")
        assert status(client.recv(65_536)) == 100
        client.sendall(BODY)
        assert status(client.recv(65_536)) == 200


def test_a_connection_between_requests_is_closed(api: Served) -> None:
    for after in (b"", b"\r\n"):
        with connect(api) as client:
            client.sendall(REQUEST)
            assert status(client.recv(65_536)) == 200
            client.sendall(after)
            answer = rest(client)
        assert (status(answer) if answer else None) == (408 if after else None)


def test_a_head_or_body_byte_by_byte_ends_at_the_limit(api: Served) -> None:
    for whole, sent in ((REQUEST, 0), (REQUEST, len(HEAD) + 2)):
        with connect(api) as client:
            client.sendall(whole[:sent])
            began = time.monotonic()
            client.settimeout(0.02)
            answer = b""
            for byte in whole[sent:]:
                try:
                    client.sendall(bytes([byte]))
                    answer += client.recv(4_096)
                except TimeoutError:
                    continue
                except OSError:
                    break
                if answer:
                    break
            assert time.monotonic() - began < 5
            assert status(answer) == 408


@pytest.mark.parametrize(
    ("parts", "answers", "name"),
    [
        ((b"GET /" + b"x" * 5_000 + b" HTTP/1.1\r\n\r\n",), 431, "head_too_large"),
        ((HEAD + b"X-A: " + b"x" * 5_000 + b"\r\n\r\n" + BODY,), 431, "head_too_large"),
        ((HEAD, b"".join(b"X-%d: yyyyyyyyyyy\r\n" % i for i in range(500))), 431, "head_too_large"),
        ((HEAD, b"X-A: ", b"x" * 5_000), 431, "head_too_large"),
        ((b"\x16\x03\x01\x02\x00\x01\x00",), 400, "malformed_request"),
        ((b"GET / HTTP/9.9\r\n\r\n",), 400, "malformed_request"),
        ((b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",), 400, "malformed_request"),
        ((HEAD + b"Content-Length: 3\r\n\r\nabc",), 400, "malformed_request"),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",), 400, "malformed_request"),
    ],
)
def test_heads_that_cannot_be_read(
    api: Served, parts: tuple[bytes, ...], answers: int, name: str
) -> None:
    answer = exchange(api, *parts)
    assert (status(answer), code(answer)) == (answers, name)


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"
    head = HEAD.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    return head + b"Connection: close\r\n\r\n" + body


def test_chunks_are_a_body_up_to_its_limit(api: Served) -> None:
    assert status(exchange(api, chunked(BODY[:20], BODY[20:]))) == 200
    large = exchange(api, chunked(b"[", *[b" " * 400] * 3, b"]"))
    assert (status(large), code(large)) == (413, "body_too_large")
    endless = exchange(api, chunked(*[b" " * 400] * 100))
    assert status(endless) == 413
    no_length = HEAD.replace(b"Content-Length: %d\r\n" % len(BODY), b"Connection: close\r\n")
    assert status(exchange(api, no_length + b"\r\n")) == 411


def test_a_body_in_parts_is_read_whole(api: Served) -> None:
    parts = (HEAD + b"\r\n" + BODY[:9], BODY[9:20], BODY[20:] + REQUEST[:-5], REQUEST[-5:])
    with connect(api) as client:
        for _ in range(2):
            for part in parts:
                client.sendall(part)
                time.sleep(0.02)
            read = b""
            while read.count(b'"transaction_id"') < 2:
                read += client.recv(65_536)
            assert read.count(b"HTTP/1.1 200 OK") == 2


def test_large_parts_of_a_body_are_read_whole() -> None:
    rows = [GOOD | {"TRANSACTION_ID": f"t{row}"} for row in range(1_000)]
    body = json.dumps(rows).encode()
    head = HEAD.replace(b"%d" % len(BODY), b"%d" % len(body)) + b"\r\n"
    with served(limits=Limits()) as api, connect(api) as client:
        for parts in ((9,), (9, 40_000, 40_001), (60_000,), (60_000, len(body) - 1), ()):
            client.sendall(head)
            for begin, end in pairwise((0, *parts, len(body))):
                client.sendall(body[begin:end])
                time.sleep(0.05)
            read = client.recv(65_536)
            while read.count(b'"transaction_id"') < len(rows):
                read += client.recv(65_536)
            answers = json.loads(read.partition(b"\r\n\r\n")[2])
            assert [one["transaction_id"] for one in answers] == [f"t{n}" for n in range(1_000)]


def test_a_large_body_is_refused_before_it_is_sent(api: Served) -> None:
    head = HEAD.replace(b"%d" % len(BODY), b"5000") + b"Expect: 100-continue\r\n\r\n"
    answer = exchange(api, head)
    assert b"100 Continue" not in answer
    assert (status(answer), code(answer)) == (413, "body_too_large")
    with connect(api) as client:
        client.sendall(HEAD + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert client.recv(1_000).startswith(b"HTTP/1.1 100 Continue")
        client.sendall(BODY)
        assert status(rest(client)) == 200


def test_pipelined_requests_are_answered_in_order_and_not_without_end(api: Served) -> None:
    last = REQUEST.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost")
    answers = exchange(api, REQUEST * 3 + last)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert exchange(api, REQUEST * 500).count(b"HTTP/1.1 200 OK") < 100


def test_a_client_that_does_not_read_is_disconnected(api: Served) -> None:
    with connect(api) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        get = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n%b\r\n" % HEAD[HEAD.index(b"Auth") :]
        get = get.replace(b"Content-Length: %d\r\n" % len(BODY), b"")
        end = time.monotonic() + 15
        with pytest.raises(OSError):  # noqa: PT012
            while time.monotonic() < end:
                client.sendall(get)
    assert ask(api) == 200


def test_beyond_the_connections_allowed_the_oldest_silent_one_goes(api: Served) -> None:
    with ExitStack() as clients:
        busy = clients.enter_context(connect(api))
        busy.sendall(REQUEST)
        assert status(busy.recv(65_536)) == 200
        silent = [clients.enter_context(connect(api)) for _ in range(80)]
        assert ask(api) == 200
        busy.sendall(REQUEST)
        assert status(busy.recv(65_536)) == 200
        assert rest(silent[0]) == b""


def test_good_requests_do_not_notice_200_bad_connections() -> None:
    with served(limits=Limits(head_seconds=30, body_seconds=30)) as api, ExitStack() as clients:
        begins = (b"", b"GET /", HEAD + b"\r\n", HEAD + b"X: ", b"\x00", HEAD + b"\r\n" + BODY[:9])
        for number in range(200):
            client = clients.enter_context(connect(api))
            client.sendall(begins[number % len(begins)])
        with requests.Session() as session:
            times = []
            for _ in range(200):
                began = time.perf_counter()
                session.post(f"{api.url}/predict", json=GOOD, headers=AUTH, timeout=10)
                times.append(time.perf_counter() - began)
    assert sorted(times)[150] < 0.1


@pytest.mark.soak
def test_200_misbehaving_clients_do_not_move_the_p99_beyond_20_ms() -> None:
    with served(limits=Limits(head_seconds=3, body_seconds=3, write_seconds=3)) as api:
        before = len(list(Path("/proc/self/fd").iterdir()))
        call = (sys.executable, "-m", "tests.serve.misbehaving", str(api.port), "200", "35", TOKEN)
        with subprocess.Popen(call) as bad:
            assert quantile_of_open_loop(api, 0.99, rate=200, seconds=30) < 0.02
            bad.wait()
        assert ask(api) == 200
        assert api.metrics.requests["/predict", 408] > 0
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 5


def quantile_of_open_loop(api: Served, quantile: float, *, rate: int, seconds: int) -> float:
    """Send requests at a fixed rate; return a quantile of the times since they were due."""
    times = []
    headers = {**AUTH, "Content-Type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        due = time.perf_counter()
        for _ in range(rate * seconds):
            due += 1 / rate
            time.sleep(max(due - time.perf_counter(), 0))
            connection.request("POST", "/predict", BODY, headers)
            connection.getresponse().read()
            times.append(time.perf_counter() - due)
    return sorted(times)[int(len(times) * quantile)]


def test_predictions_beyond_the_limit_are_shed_at_once() -> None:
    predictions = StandIn()
    with served(predictions, limits=Limits(concurrency=2)) as api:
        predictions.gate = asyncio.Event()
        results: list[int] = []
        waiting = [threading.Thread(target=lambda: results.append(ask(api))) for _ in range(2)]
        for thread in waiting:
            thread.start()
        while len(predictions.calls) < 2:
            time.sleep(0.001)
        answer = requests.post(f"{api.url}/predict", json=GOOD, headers=AUTH, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert answer.headers["Retry-After"] == "1"
        assert requests.get(f"{api.url}/healthz", timeout=10).status_code == 200
        assert api.metrics.shed == {"concurrency": 1}
        open_gate(predictions)
        for thread in waiting:
            thread.join(10)
        assert results == [200, 200]


def open_gate(predictions: StandIn) -> None:
    gate, predictions.gate = predictions.gate, None
    assert gate is not None
    assert predictions.loop is not None
    predictions.loop.call_soon_threadsafe(gate.set)


def test_stopping_finishes_what_is_in_flight_and_drains() -> None:
    predictions = StandIn()
    with served(predictions) as api:
        predictions.gate = asyncio.Event()
        results: list[int] = []
        waiting = threading.Thread(target=lambda: results.append(ask(api)))
        waiting.start()
        while not predictions.calls:
            time.sleep(0.001)
        idle = connect(api)
        api.server.stop()
        assert rest(idle) == b""
        assert predictions.ended == []
        open_gate(predictions)
        waiting.join(10)
    assert results == [200]
    assert predictions.ended == ["drain", "close"]


def test_what_does_not_end_in_time_is_given_up() -> None:
    predictions = StandIn()
    with served(predictions, limits=Limits(drain_seconds=0.2)) as api:
        predictions.gate = asyncio.Event()
        results: list[int] = []
        waiting = threading.Thread(target=lambda: results.append(ask(api)))
        waiting.start()
        while not predictions.calls:
            time.sleep(0.001)
    waiting.join(10)
    assert results == [503]
    assert predictions.ended == ["drain", "close"]


@pytest.mark.parametrize(
    ("soft", "hard", "files", "connections"),
    [
        (1_024, 4_096, 2_256, 2_000),
        (1_024, 1_500, 1_500, 1_244),
        (4_096, 4_096, 4_096, 2_000),
        (1_024, resource.RLIM_INFINITY, 2_256, 2_000),
    ],
)
def test_connections_fit_the_open_files_that_the_system_allows(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, files: int, connections: int
) -> None:
    allowed = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: allowed[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: allowed.append(pair))
    assert within_open_files(Limits(connections=2_000)).connections == connections
    assert allowed[-1] == (files, hard)


def test_a_port_in_use_is_refused(api: Served) -> None:
    with fails(Code.PORT_UNUSABLE, str(api.port)), served(listen=Listen(port=api.port)):
        pass
    for limit in ("rows", "head_seconds"):
        with fails(Code.OPTION_VALUE, limit, UsageError):
            Limits(**{limit: 0})
