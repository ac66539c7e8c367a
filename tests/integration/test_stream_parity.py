"""A day from Kafka gets the scores of the same day from a file, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import score, train
from beam_fraud.cli.options import ScoreOptions, TrainOptions
from beam_fraud.simulate.messages import COLUMNS, handbook_messages
from beam_fraud.simulate.simulation import TRANSACTIONS, Simulation, simulate
from benchmarks.hostile import hostile_messages
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce
from tests.stream_process import UNTIL_IDLE, Stream, stream_command

pytestmark = pytest.mark.slow

#: The handbook's own transactions, where they are.
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "handbook_transactions.parquet"
#: Days before the one that is scored: as far as any window and its delay reach, and two more.
HISTORY_DAYS = 39


@dataclass(frozen=True)
class Day:
    """A day's transactions, their history and a model."""

    #: The day.
    transactions: pa.Table
    #: The 39 days before it, Parquet.
    history: Path
    #: A model of those.
    bundle: Path
    #: What `score` makes of the day, by id.
    scored: pa.Table


@pytest.fixture(scope="module")
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """The last of 40 days of the simulation, or a day of the handbook's."""
    directory = tmp_path_factory.mktemp(request.param)
    first = datetime(2018, 7, 1)
    if request.param == "published":
        if not PUBLISHED.is_file():
            pytest.skip(f"no {PUBLISHED.name}")
        table = pq.read_table(PUBLISHED, columns=TRANSACTIONS.names).cast(TRANSACTIONS)
        table = between(table, first, first + timedelta(days=HISTORY_DAYS + 1))
    else:
        table = simulate(
            Simulation(HISTORY_DAYS + 1, 700, 800, seed=11, fraud_rate=0.03, start=first.date())
        )
    last = first + timedelta(days=HISTORY_DAYS)
    history, file = directory / "history.parquet", directory / "day.parquet"
    transactions = between(table, last, last + timedelta(days=1))
    pq.write_table(between(table, first, last), history)
    pq.write_table(transactions, file)
    bundle = directory / "bundle"
    train.run(
        TrainOptions(
            files=(str(history),),
            schema="handbook",
            model="hist_gradient_boosting",
            out=str(bundle),
        )
    )
    scored = directory / "scored"
    options = ScoreOptions(
        files=(str(file),), history=(str(history),), model=str(bundle), out=str(scored)
    )
    assert score.run(options)["rows_scored"] == transactions.num_rows > 1_000
    return Day(transactions, history, bundle, scores(scored))


def between(table: pa.Table, since: datetime, until: datetime) -> pa.Table:
    """Return transactions from one moment until another."""
    at = table["TX_DATETIME"]
    since, until = (pa.scalar(moment, at.type) for moment in (since, until))
    return table.filter(pc.and_(pc.greater_equal(at, since), pc.less(at, until)))


def messages(transactions: pa.Table) -> tuple[list[bytes], list[bytes]]:
    """Messages and their keys, amounts to the last bit: some of the handbook's have no whole cents.

    Those of `simulate --kafka` have.
    """
    rows = transactions.select(COLUMNS).to_pylist()
    values = [json.dumps(row | {"TX_DATETIME": row["TX_DATETIME"].isoformat()}) for row in rows]
    return [value.encode() for value in values], [str(r["CUSTOMER_ID"]).encode() for r in rows]


def scores(out: Path) -> pa.Table:
    return pq.read_table(out / "scores").sort_by("transaction_id")


def run_stream(broker: Broker, topic: str, bundle: Path, out: Path, *options: str) -> None:
    stream = Stream(stream_command(broker, topic, bundle, out, *options), out)
    try:
        stream.start(*UNTIL_IDLE)
        stream.wait_for_end()
        # Runners of Beam print what fails in a worker, and may go on as if it were nothing.
        assert "Traceback" not in stream.said()
    finally:
        stream.kill()


# The published day, whose amounts have no whole cents, is the full size of the simulated one.
@pytest.mark.parametrize(
    ("day", "partitions", "beam_args"),
    [
        ("simulated", 1, "here"),
        ("simulated", 4, "here"),
        ("simulated", 4, "prism"),
        pytest.param("published", 4, "here", marks=pytest.mark.soak),
        pytest.param("published", 1, "here", marks=pytest.mark.soak),
        pytest.param("published", 4, "prism", marks=pytest.mark.soak),
    ],
    indirect=["day", "beam_args"],
)
def test_a_day_through_kafka_gets_the_scores_of_the_file(
    day: Day,
    broker: Broker,
    topic: Callable[..., str],
    tmp_path: Path,
    partitions: int,
    beam_args: tuple[str, ...],
) -> None:
    name = topic(partitions)
    values, keys = messages(day.transactions)
    produce(broker, name, values, keys=keys)
    out = tmp_path / "out"
    # One partition may be read to its end before another is begun: they are a day apart then.
    options = ("--history", str(day.history), "--lateness", "1d")
    run_stream(broker, name, day.bundle, out, *options, *beam_args)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["history_rows"] == pq.read_metadata(day.history).num_rows
    streamed = scores(out)
    assert pc.count_distinct(streamed["score"]).as_py() > 100
    for column in day.scored.column_names:
        assert streamed[column].equals(day.scored[column]), column


def test_every_bad_message_costs_only_itself(
    bundle: Path,
    month: pa.Table,
    broker: Broker,
    topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    (good,) = handbook_messages(month.slice(0, 2_000).combine_chunks(), 2_000)
    bad = list(hostile_messages(2_000, seed=5))
    name = topic(1)
    payloads = [message.payload for message in bad]
    produce(broker, name, chain.from_iterable(zip(good.values, payloads, strict=True)))
    out = tmp_path / "out"
    run_stream(broker, name, bundle, out)
    sent_ids = [str(one) for one in month["TRANSACTION_ID"].to_pylist()[:2_000]]
    assert sorted(scores(out)["transaction_id"].to_pylist()) == sorted(sent_ids)
    letters = pq.read_table(out / "dead_letters").sort_by("position").to_pylist()
    assert {letter["source"] for letter in letters} == {f"{name}:0"}
    assert [letter["position"] for letter in letters] == list(range(1, 4_000, 2))
    for letter, sent in zip(letters, bad, strict=True):
        assert letter["reason"] in sent.reasons, sent.kind
        assert letter["detail"]
        assert letter["payload"] == sent.payload, sent.kind
