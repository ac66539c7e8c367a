"""A server's answers equal those of a stream and of `score`, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from beam_fraud.cli.commands import features, score
from beam_fraud.cli.options import FeaturesOptions, ScoreOptions
from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.simulate.simulation import Simulation, simulate
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce
from tests.serving import Client, Command, Serve, rows_of
from tests.stream_process import UNTIL_IDLE, stream_command, wait_until

pytestmark = pytest.mark.slow

_RULES = """
[[rule]]
name = "busy"
when = "account_count_1d >= 4"
decision = "review"
"""
#: A transaction may come this late: as far apart as partitions are read.
_LATENESS = ("--lateness", "7d")


@dataclass(frozen=True)
class Rows:
    """Transactions in the order of their times, which differ, and what `score` makes of them."""

    #: Directory of the files below.
    home: Path
    bundle: Path
    #: The records as JSON, and their accounts.
    records: list[bytes]
    accounts: list[str]
    #: Rows of `stages.SCORED`, and the features, both by id.
    scored: pa.Table
    features: dict[str, dict[str, float]]

    @property
    def options(self) -> tuple[str, ...]:
        """Options of a server or a stream."""
        rules = ("--rules", str(self.home / "rules.toml"), "--rule-limit", "1")
        return ("--history", str(self.home / "history.parquet"), *rules, *_LATENESS)


@pytest.fixture(scope="module", params=[300, pytest.param(100_000, marks=pytest.mark.soak)])
def rows(
    request: pytest.FixtureRequest,
    bundle: Path,
    month: pa.Table,
    tmp_path_factory: pytest.TempPathFactory,
) -> Rows:
    """The last transactions of a month, or of 44 days, after the others as their history."""
    number: int = request.param
    if number > month.num_rows:
        # Less than a week of transactions: the delay of a merchant's windows.
        month = simulate(Simulation(days=44, accounts=13_000, merchants=2_000, seed=5))
    times = month["TX_DATETIME"].cast(pa.int64()).to_numpy()
    distinct = np.flatnonzero(np.diff(times, append=times[-1] + 1))[-number:]
    last = month.take(distinct).combine_chunks()
    home = tmp_path_factory.mktemp("rows")
    history, file, rules = (
        home / name for name in ("history.parquet", "last.parquet", "rules.toml")
    )
    pq.write_table(month.slice(0, int(distinct[0])), history)
    pq.write_table(last, file)
    rules.write_text(_RULES)
    given = {"files": (str(file),), "history": (str(history),)}
    options = ScoreOptions(**given, model=str(bundle), out=str(home / "scored"), rules=str(rules))
    assert score.run(options)["rows_scored"] == len(last)
    features.run(FeaturesOptions(**given, schema="handbook", out=str(home / "features")))
    (messages,) = handbook_messages(last, len(last))
    computed = pq.read_table(home / "features" / "features").to_pylist()
    by_id = {row.pop("transaction_id"): row for row in computed}
    return Rows(home, bundle, messages.values, messages.keys, scores(home / "scored"), by_id)


def scores(out: Path) -> pa.Table:
    """Return rows of `stages.SCORED` by id."""
    table = pq.read_table(out / "scores").sort_by("transaction_id")
    return table.drop_columns(
        [n for n in ("features_as_of", "degraded") if n in table.schema.names]
    )


def differing(found: pa.Table, reference: pa.Table) -> list[str]:
    """Return the columns that differ in a bit; all if other transactions are there."""
    assert found.schema.names == reference.schema.names
    if not found["transaction_id"].equals(reference["transaction_id"]):
        return found.schema.names
    return [n for n in found.schema.names if not found[n].equals(reference[n])]


#: Type: sends records to a server.
Send = Callable[[Serve], None]


@pytest.fixture(scope="module")
def serve(rows: Rows) -> Callable[[Send], pa.Table]:
    """Return a function that serves from the same history and returns what is archived then."""
    numbers = count()
    prepared = Serve(rows.bundle, rows.home / "prepared", *rows.options)
    with prepared:
        prepared.stop()

    def served(send: Send) -> pa.Table:
        state = rows.home / f"state-{next(numbers)}"
        shutil.copytree(prepared.state, state)
        with Serve(rows.bundle, state, *rows.options) as server:
            send(server)
            server.stop()
        return scores(state)

    return served


def one_by_one(records: Sequence[bytes], answers: list[dict[str, Any]], query: str = "") -> Send:
    """Return what sends each record in a request of its own, and appends the answer."""

    def send(server: Serve) -> None:
        with Client(server.port) as client:
            for record in records:
                status, body, _ = client.post(record, query)
                assert status == 200, body
                answers.append(msgspec.json.decode(body))

    return send


def in_arrays(records: Sequence[bytes], sizes: Iterable[int]) -> Send:
    """Return what sends arrays of these sizes, then the others together."""

    def send(server: Serve) -> None:
        at = 0
        with Client(server.port) as client:
            for size in (*sizes, 1_000, *(10_000 for _ in records[1_000::10_000])):
                part = records[at : at + size]
                status, body, _ = client.post(b"[" + b",".join(part) + b"]")
                assert status == 200, body
                assert len(rows_of(body, array=True)) == len(part)
                at += size

    return send


def test_requests_one_by_one_get_what_score_gives(
    rows: Rows, serve: Callable[[Send], pa.Table]
) -> None:
    answers: list[dict[str, Any]] = []
    archived = serve(one_by_one(rows.records, answers, "?features=true"))
    assert differing(archived, rows.scored) == []
    # A forest of few trees has some thousand different scores.
    assert pc.count_distinct(archived["score"]).as_py() > min(len(rows.records) / 10, 1_000)
    assert 10 < pc.sum(archived["flagged"]).as_py() < len(rows.records)
    scored = {row["transaction_id"]: row for row in rows.scored.to_pylist()}
    for answer in answers:
        row = scored[answer["transaction_id"]]
        assert answer["score"] == row["score"]
        assert answer["decision"] == row["decision"]
        assert answer["rules"] == (row["rules"] or [])
        assert answer["reasons"] == (row["reasons"] or [])
        computed = rows.features[answer["transaction_id"]].items()
        assert answer["features"] == {n: None if np.isnan(v) else v for n, v in computed}


def test_a_withheld_row_is_noticed(rows: Rows, serve: Callable[[Send], pa.Table]) -> None:
    # Of an account that comes again, whose later rows lack it.
    place = next(
        place
        for place, account in enumerate(rows.accounts)
        if account in rows.accounts[place + 1 :]
    )
    left = [*rows.records[:place], *rows.records[place + 1 :]]
    archived = serve(in_arrays(left, [50] * 4))
    assert differing(archived, rows.scored)
    name = str(json.loads(rows.records[place])["TRANSACTION_ID"])
    others = rows.scored.filter(pc.not_equal(rows.scored["transaction_id"], name))
    assert "score" in differing(archived, others)


@settings(
    max_examples=3,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sizes=st.lists(st.integers(0, 80), max_size=8))
def test_arrays_of_any_size_get_what_score_gives(
    rows: Rows, serve: Callable[[Send], pa.Table], sizes: list[int]
) -> None:
    assert differing(serve(in_arrays(rows.records, sizes)), rows.scored) == []


def test_concurrent_requests_of_accounts_get_what_score_gives(
    rows: Rows, serve: Callable[[Send], pa.Table]
) -> None:
    accounts = sorted(set(rows.accounts))
    random.Random(1).shuffle(accounts)
    clients = 8
    client_of = {account: number % clients for number, account in enumerate(accounts)}
    failed: list[BaseException] = []

    def send(server: Serve) -> None:
        def run(own: Sequence[bytes]) -> None:
            try:
                one_by_one(own, [])(server)
            except BaseException as error:
                failed.append(error)

        shares: list[list[bytes]] = [[] for _ in range(clients)]
        for account, record in zip(rows.accounts, rows.records, strict=True):
            shares[client_of[account]].append(record)
        threads = [threading.Thread(target=run, args=(share,)) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    archived = serve(send)
    assert not failed
    assert differing(archived, rows.scored) == []


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_stream_gets_what_score_and_requests_get(
    rows: Rows, broker: Broker, topic: Callable[..., str], tmp_path: Path, partitions: int
) -> None:
    name, out = topic(partitions), tmp_path / "out"
    produce(broker, name, rows.records, keys=[key.encode() for key in rows.accounts])
    command = stream_command(broker, name, rows.bundle, out, *rows.options, *UNTIL_IDLE)
    stream = Command(command, tmp_path / "stream.log")
    try:
        stream.start()
        assert stream.wait() == 0, stream.said()
    finally:
        stream.kill()
    assert differing(scores(out), rows.scored) == []


def test_requests_and_a_topic_count_a_transaction_once(
    bundle: Path,
    month: pa.Table,
    broker: Broker,
    topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    start = datetime(2024, 3, 1)
    records = [
        {
            "TRANSACTION_ID": f"both{number}",
            "TX_DATETIME": (start + timedelta(minutes=number)).isoformat(),
            "CUSTOMER_ID": "one",
            "TERMINAL_ID": "risky",
            "TX_AMOUNT": 10.0 + number,
        }
        for number in range(40)
    ]
    sent = [json.dumps(record).encode() for record in records]
    transactions, labels = topic(), topic()
    produce(broker, transactions, sent[:20], keys=[b"one"] * 20)
    options = ("--kafka", broker.bootstrap, "--topic", transactions, "--labels-topic", labels)
    options += ("--start", "earliest", "--lateness", "10d")
    later = records[-1] | {"TX_DATETIME": (start + timedelta(days=9)).isoformat()}

    with Serve(bundle, tmp_path / "state", *options) as server, Client(server.port) as client:

        def probe(when: dict[str, Any]) -> dict[str, float]:
            body = json.dumps(when | {"TRANSACTION_ID": "probe"}).encode()
            status, answer, _ = client.post(body, "?record=false&features=true")
            assert status == 200, answer
            values: dict[str, float] = msgspec.json.decode(answer)["features"]
            return values

        wait_until(lambda: probe(records[-1])["account_count_1d"] == 21)
        # The first half was seen in the topic before, the second half comes there after.
        answers = [client.post(record) for record in sent]
        assert {status for status, _, _ in answers} == {200}
        produce(broker, transactions, [*sent[20:], *sent], keys=[b"one"] * 60)
        last = records[-1] | {"TRANSACTION_ID": "last", "CUSTOMER_ID": "two"}
        produce(broker, transactions, [json.dumps(last).encode()], keys=[b"one"])
        wait_until(lambda: probe(last)["account_count_1d"] == 2)
        assert probe(records[-1])["account_count_1d"] == 41
        assert [client.post(record)[1] for record in sent] == [body for _, body, _ in answers]

        before = probe(later)
        assert before["merchant_count_7d_delay_7d"] == 41
        assert before["merchant_risk_7d_delay_7d"] == 0
        frauds = [
            {
                "transaction_id": record["TRANSACTION_ID"],
                "account_id": record["CUSTOMER_ID"],
                "merchant_id": record["TERMINAL_ID"],
                "event_time": record["TX_DATETIME"],
                "label": 1,
                "labelled_at": record["TX_DATETIME"],
            }
            for record in records[:10]
        ]
        produce(broker, labels, [json.dumps(fraud).encode() for fraud in frauds])
        wait_until(lambda: probe(later)["merchant_risk_7d_delay_7d"] == 10 / 41)
        summary = server.stop()
    assert summary["rows_scored"] >= 41
    archived = scores(server.state)["transaction_id"].to_pylist()
    assert sorted(archived) == sorted([*(record["TRANSACTION_ID"] for record in records), "last"])
