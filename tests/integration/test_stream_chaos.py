"""A stream with kills and a broker outage leaves the output of an undisturbed stream."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from deploy.kafka.broker import Broker
from deploy.postgres.server import Server
from tests.chaos import Disturbance, disturb
from tests.outcome import assert_each_once, assert_same, outcome
from tests.requirements import need_kafka
from tests.stream_process import UNTIL_IDLE, Stream, stream_command
from tests.traffic import Feed, make_traffic

PARTITIONS = 4


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may stop."""
    need_kafka()
    with Broker(tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def seed() -> int:
    """A random seed; a failing test prints it, and CHAOS_SEED repeats it."""
    chosen = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CHAOS_SEED={chosen}")
    return chosen


# Others in the soak only: `test_operations_chaos.py` kills a stream that writes to PostgreSQL.
@pytest.fixture(
    params=["sqlite", *(pytest.param(s, marks=pytest.mark.soak) for s in ("parquet", "postgresql"))]
)
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return the URL of a new sink of one kind for a name."""
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        return lambda name: server.create_database(f"{name}_{uuid4().hex}")
    form = "sqlite:///{}.db" if request.param == "sqlite" else "parquet:{}-flagged"
    return lambda name: form.format(tmp_path / name)


def survive(
    broker: Broker,
    bundle: Path,
    directory: Path,
    sink: Callable[[str], str],
    *,
    accounts: int,
    bad: int,
    what: Disturbance,
    seed: int,
) -> None:
    """Disturb a stream and compare its output with that of an undisturbed one."""
    traffic = make_traffic(seed, accounts, bad)
    history = directory / "history.parquet"
    pq.write_table(traffic.history, history)
    broker.create_topic("transactions", PARTITIONS)
    result = []
    for name in ("disturbed", "reference"):
        out, url = directory / name, sink(name)
        # One partition may be read to its end before another is begun: they are a day apart then.
        options = ["--lateness", "1d", "--history", str(history), "--sink", url]
        # Of one channel: its name is in every alert.
        options += ["--alert", f"file:{directory / 'alerts.jsonl'}"]
        command = stream_command(broker, "transactions", bundle, out, *options)
        stream = Stream(command, out)
        try:
            if name == "disturbed":
                feed = Feed(broker, "transactions", traffic)
                disturb(stream, broker, feed, len(traffic.keys), what, seed)
            else:
                stream.start(*UNTIL_IDLE)
                stream.wait_for_end()
        finally:
            stream.kill()
        result.append(outcome(out, url))
    disturbed, reference = result
    assert len(reference.flagged) > 10, "the comparison must be about something"
    assert_each_once(reference, traffic)
    assert_each_once(disturbed, traffic)
    assert_same(disturbed, reference)


@pytest.mark.slow
def test_two_kills_and_a_broker_away_for_seconds_change_nothing(
    own_broker: Broker, bundle: Path, tmp_path: Path, sink: Callable[[str], str], seed: int
) -> None:
    what = Disturbance(kills=2, outage=3.0)
    survive(own_broker, bundle, tmp_path, sink, accounts=2_000, bad=300, what=what, seed=seed)


@pytest.mark.soak
def test_ten_kills_and_a_broker_away_for_long_change_nothing(
    own_broker: Broker, bundle: Path, tmp_path: Path, sink: Callable[[str], str], seed: int
) -> None:
    what = Disturbance(kills=10, outage=20.0, at_work=4.0)
    survive(own_broker, bundle, tmp_path, sink, accounts=30_000, bad=20_000, what=what, seed=seed)
