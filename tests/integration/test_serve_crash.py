"""A server that is killed under load has each acknowledged transaction once, with its answer."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.simulate.simulation import Simulation, simulate
from tests.serving import Client, Load, Payment, Serve, body_of, payments, rows_of
from tests.stream_process import wait_until

#: Flags one transaction in four.
_RULES = """
[[rule]]
name = "large"
when = "amount > 150"
decision = "review"
"""


@pytest.fixture
def seed() -> int:
    """A random seed; a failing test prints it, and CHAOS_SEED repeats it."""
    chosen = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CHAOS_SEED={chosen}")
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "transactions"), [(3, 1_200), pytest.param(20, 60_000, marks=pytest.mark.soak)]
)
def test_kills_under_load_lose_and_repeat_nothing(
    bundle: Path, tmp_path: Path, seed: int, kills: int, transactions: int
) -> None:
    draw = random.Random(seed)
    rules, database = tmp_path / "rules.toml", tmp_path / "flagged.db"
    rules.write_text(_RULES)
    # Small files: answers to repeats come from memory, from a part and from finished files.
    options = ("--rules", str(rules), "--rule-limit", "1", "--sink", f"sqlite:///{database}")
    options += ("--audit-share", "5%", "--roll-rows", str(transactions // 12), "--lateness", "1d")
    sent = payments(transactions, accounts=20, seed=seed)
    server = Serve(bundle, tmp_path / "state", *options)
    load = Load(server.port, sent, clients=6, seed=seed)
    with server:
        with load.running():
            for number in range(1, kills + 1):
                wait_until(load.acknowledged(number * transactions // (kills + 1)))
                time.sleep(draw.uniform(0, 0.05))
                server.kill()
                server.start()
        assert load.broken, "no kill hit a request"
        assert load.answers.keys() == {payment.id for payment in sent}
        assert_answered_again(server, sent, load.answers)
        assert_in_windows_once(server, sent)
        server.stop()
    flagged = {key for key, row in load.answers.items() if msgspec.json.decode(row)["flagged"]}
    assert len(flagged) > transactions / 8
    archived = pq.read_table(server.state / "scores")["transaction_id"].to_pylist()
    assert sorted(archived) == sorted(load.answers)
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT transaction_id FROM flagged_transactions").fetchall()
        unflagged = connection.execute("SELECT transaction_id FROM audited_transactions").fetchall()
    assert sorted(row[0] for row in rows) == sorted(flagged)
    lane = AuditLane.parse("5%")
    audited = [one for one in load.answers if lane.chosen_one(one) and one not in flagged]
    assert sorted(row[0] for row in unflagged) == sorted(audited)


def assert_answered_again(
    server: Serve, sent: Sequence[Payment], answers: dict[str, bytes]
) -> None:
    """Assert that repeats get the answers that were given, also alone, and change no figure."""
    with Client(server.port) as client:
        for start in range(0, len(sent), 500):
            group = sent[start : start + 500]
            status, body, _ = client.post(body_of(group, array=True))
            assert status == 200, body
            for payment, row in zip(group, rows_of(body, array=True), strict=True):
                assert row == answers[payment.id]
        for payment in sent[:: max(len(sent) // 20, 1)]:
            status, body, _ = client.post(payment.record, "?record=false")
            assert (status, body) == (200, answers[payment.id])


def assert_in_windows_once(server: Serve, sent: Sequence[Payment]) -> None:
    """Assert that each account's window has its transactions once, by a probe that is not kept."""
    counts = Counter(payment.account for payment in sent)
    latest = msgspec.json.decode(sent[-1].record)
    with Client(server.port) as client:
        for account, count in counts.items():
            probe = latest | {"TRANSACTION_ID": f"probe of {account}", "CUSTOMER_ID": account}
            query = "?record=false&features=true"
            status, body, _ = client.post(msgspec.json.encode(probe), query)
            assert status == 200, body
            # Itself is one of them.
            assert msgspec.json.decode(body)["features"]["account_count_1d"] == count + 1, account


@pytest.mark.soak
def test_a_state_of_five_million_rows_is_back_in_ten_seconds(bundle: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.parquet"
    table = simulate(Simulation(days=40, accounts=67_000, merchants=20_000, seed=3))
    assert table.num_rows >= 5_000_000
    pq.write_table(table, history)
    server = Serve(bundle, tmp_path / "state", "--history", str(history))
    with server:
        server.kill()
        begun = time.monotonic()
        server.start()
        seconds = time.monotonic() - begun
        cpu = sum(map(int, Path(f"/proc/{server.pid}/stat").read_text().split()[13:15])) / 100
        print(f"{table.num_rows:,} rows are back after {seconds:.1f} s, {cpu:.1f} s of processor")
        assert seconds < 10
        server.stop()
