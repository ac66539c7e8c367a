"""A server answers in time and loses nothing while places are away or the load is too high."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from beam_fraud.errors import FraudError
from deploy.kafka.broker import Broker
from deploy.postgres.server import Server
from tests.integration.kafka import produce
from tests.requirements import need_kafka
from tests.serving import Client, Load, Payment, Serve, body_of, payments, same
from tests.smtp_server import SmtpServer
from tests.stream_process import wait_until

pytestmark = pytest.mark.slow

#: Flags one transaction in four.
_RULES = """
[[rule]]
name = "large"
when = "amount > 150"
decision = "review"
"""
#: Seconds within which everything is answered, and what a busy machine may add.
_DEADLINE, _NOISE = 1.0, 1.0


@pytest.fixture
def rules(tmp_path: Path) -> tuple[str, ...]:
    """Options of the rules."""
    file = tmp_path / "rules.toml"
    file.write_text(_RULES)
    return ("--rules", str(file), "--rule-limit", "1")


def answer_of(load: Load, payment: Payment) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(load.answers[payment.id])
    return answer


@pytest.mark.parametrize(
    ("transactions", "followed"), [(800, False), pytest.param(20_000, True, marks=pytest.mark.soak)]
)
def test_places_that_are_away_delay_no_answer_and_lose_nothing(
    own_postgres: Server,
    bundle: Path,
    tmp_path: Path,
    rules: tuple[str, ...],
    transactions: int,
    followed: bool,
) -> None:
    sent = payments(transactions, accounts=50, seed=4)
    # Each needs a fault that is found before its commit, and none an id.
    bad = [b'{"TRANSACTION_ID": "bad%d", "TX_AMOUNT": 1}' % number for number in range(12)]
    with ExitStack() as stack:
        mail = stack.enter_context(SmtpServer())
        database = own_postgres.create_database("serve")
        letters = f"smtp://127.0.0.1:{mail.port}/?from=a@bank.example&to=b@bank.example"
        options = ["--sink", database, "--alert", f"{letters}&starttls=no&group=none&rate=none"]
        options += ["--deadline", f"{_DEADLINE:.0f}s", "--lateness", "1d", *rules]
        broker = None
        if followed:
            need_kafka()
            broker = stack.enter_context(Broker(tmp_path / "kafka"))
            broker.create_topic("seen", 2)
            options += ["--kafka", broker.bootstrap, "--topic", "seen", "--start", "earliest"]
        server = stack.enter_context(Serve(bundle, tmp_path / "state", *options))
        load = Load(server.port, sent, clients=4, rate=25, seed=4)
        with load.running():
            wait_until(load.acknowledged(transactions // 8))
            own_postgres.kill()
            mail.stop()
            if broker is not None:
                broker.kill()
            with Client(server.port) as client:
                assert {client.post(record)[0] for record in bad} == {422}
            wait_until(load.acknowledged(len(load.answers) + transactions // 3))
            own_postgres.start()
            mail.start()
            if broker is not None:
                broker.start()
                others = payments(1_000, accounts=50, seed=5, name="topic")
                produce(broker, "seen", [one.record for one in others])
        print(f"the slowest answer took {max(load.seconds):.3f} s")
        assert max(load.seconds) < _DEADLINE + _NOISE
        assert not load.broken
        assert not load.shed
        flagged = sorted(p.id for p in sent if answer_of(load, p)["flagged"])
        assert len(flagged) > transactions / 8
        if broker is not None:
            wait_until(lambda: len(stored(own_postgres)) > len(flagged))
            flagged += [row for row in stored(own_postgres) if row.startswith("topic")]
        wait_until(lambda: stored(own_postgres) == sorted(flagged))
        # Sent is marked after the letter has gone.
        wait_until(lambda: sent_alerts(own_postgres) == len(flagged))
        server.stop()
    dead = rows_in(own_postgres, "SELECT source, position FROM dead_letters")
    assert len(dead) == len(bad)
    deliveries = rows_in(own_postgres, "SELECT DISTINCT delivery_id FROM alerts")
    assert mail.ids == {f"<{delivery}@bank.example>": 1 for (delivery,) in deliveries}


def rows_in(postgres: Server, query: str) -> list[tuple[Any, ...]]:
    """Return rows, none while it starts or has no tables yet."""
    try:
        return postgres.execute(query, "serve")
    except FraudError:
        return []


def stored(postgres: Server) -> list[str]:
    """Return the transactions in the sink."""
    rows = rows_in(postgres, "SELECT transaction_id FROM flagged_transactions")
    return sorted(str(row[0]) for row in rows)


def sent_alerts(postgres: Server) -> int:
    """Return the number of alerts that are marked as sent."""
    rows = rows_in(postgres, "SELECT count(*) FROM alerts WHERE sent_at IS NOT NULL")
    return int(rows[0][0]) if rows else -1


def test_a_missed_deadline_decides_by_amount_and_so_do_repeats(
    bundle: Path, tmp_path: Path, rules: tuple[str, ...]
) -> None:
    sent = payments(400, accounts=20, seed=6)
    options = ("--deadline", "1ms", "--on-timeout", "approve<100,else=review", *rules)
    with Serve(bundle, tmp_path / "state", *options) as server:
        load = Load(server.port, sent, clients=6, most=40, seed=6)
        with load.running():
            pass
        late = [payment for payment in sent if "degraded" in answer_of(load, payment)]
        assert late
        for payment in late:
            answer = answer_of(load, payment)
            assert answer["degraded"] == "timeout"
            assert answer["score"] is None
            assert answer["decision"] == ("approve" if payment.amount < 100 else "review")
            assert answer["flagged"] == (payment.amount >= 100)
        figure = server.figure('beam_fraud_serve_degraded_total{reason="timeout"}')
        assert figure >= len(late)
        server.stop()
    with Serve(bundle, server.state, *rules) as again, Client(again.port) as client:
        for payment in sent[::7]:
            status, body, _ = client.post(payment.record)
            assert status == 200
            assert same(load.answers[payment.id], body)
        again.stop()
    archived = pq.read_table(server.state / "scores").to_pylist()
    assert sorted(row["transaction_id"] for row in archived) == sorted(load.answers)
    for row in archived:
        answer = msgspec.json.decode(load.answers[row["transaction_id"]])
        assert (row["decision"], row["degraded"]) == (answer["decision"], answer.get("degraded"))


def test_old_windows_are_not_used(bundle: Path, tmp_path: Path) -> None:
    sent = payments(3, accounts=1, seed=7)
    state = tmp_path / "state"
    with Serve(bundle, state) as server, Client(server.port) as client:
        assert "degraded" not in msgspec.json.decode(client.post(sent[0].record)[1])
        server.stop()
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + 1)
    with Serve(bundle, state, "--max-staleness", "1s") as server, Client(server.port) as client:
        status, body, _ = client.post(sent[1].record, "?features=true")
        answer = msgspec.json.decode(body)
        assert (status, answer["degraded"]) == (200, "stale_windows")
        assert answer["features"]["account_count_7d"] is None
        assert answer["features"]["amount"] == sent[1].amount
        server.stop()
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + 1)
    refusing = Serve(bundle, state, "--max-staleness", "1s", "--on-stale", "refuse")
    try:
        super(Serve, refusing).start()
        wait_until(lambda: refusing.listens)
        with Client(refusing.port) as client:
            assert client.get("/readyz")[0] == 503
            status, _, headers = client.post(sent[2].record)
            assert status == 503
            assert "retry-after" in {name.lower() for name in headers}
        refusing.stop()
    finally:
        refusing.kill()


def test_overload_is_shed_and_counted_and_a_stop_answers_what_was_accepted(
    bundle: Path, tmp_path: Path
) -> None:
    sent = payments(3_000, accounts=30, seed=8)
    with Serve(bundle, tmp_path / "state", "--max-waiting", "5") as server:
        shed: list[dict[str, str]] = []
        answered: list[int] = []
        together = threading.Barrier(20)

        def ask(number: int) -> None:
            with Client(server.port) as client:
                for round_ in range(5):
                    first = (number * 5 + round_) * 5
                    together.wait()
                    body = body_of(sent[first : first + 5], array=True)
                    status, _, headers = client.post(body)
                    (shed.append(headers) if status == 503 else answered.append(status))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answered) == {200}
        assert len(shed) + len(answered) == 100
        assert shed
        assert all(int(headers["retry-after"]) >= 1 for headers in shed)
        assert server.figure('beam_fraud_serve_shed_total{limit="queue"}') == len(shed)

        begun = len(sent) // 6
        load = Load(server.port, sent[begun:], clients=6, seed=8, once=True)
        with load.running():
            wait_until(load.acknowledged(100))
            server.stop()
    assert 100 <= len(load.answers) < len(sent) - begun
    archived = set(pq.read_table(server.state / "scores")["transaction_id"].to_pylist())
    late = {payment.id for payment in sent[begun:]} & archived
    assert late == load.answers.keys()
