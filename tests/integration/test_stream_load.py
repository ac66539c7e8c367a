"""The load of the benchmarks has an even rate, and the broker's clock is read correctly."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import commands
from benchmarks.measure import printed
from benchmarks.stream_load import Sent
from benchmarks.topic_moments import moments, of_transaction
from deploy.kafka.broker import Broker
from tests.integration.kafka import read_all
from tests.requirements import need_kafka


@pytest.mark.slow
def test_messages_arrive_evenly_in_order_and_keyed_by_account(
    broker: Broker, topic: Callable[..., str], month: pa.Table, tmp_path: Path
) -> None:
    name = topic(4, {"message.timestamp.type": "LogAppendTime"})
    file = tmp_path / "rows.parquet"
    pq.write_table(month, file)
    began = time.time() * 1000
    options = ("--rate", "2000", "--seconds", "3")
    report = printed(
        commands.stream_load(broker.bootstrap, name, tmp_path / "rows.parquet", *options)
    )
    sent = Sent(**report)
    assert sent.messages == 6_000
    assert sent.rate == pytest.approx(2_000, rel=0.1)
    messages = read_all(broker, name)
    result = [json.loads(message.value()) for message in messages]
    sent_ids = month["TRANSACTION_ID"].to_numpy()[:6_000]
    assert sorted(one["TRANSACTION_ID"] for one in result) == sorted(sent_ids.tolist())
    accounts: dict[str, set[int]] = {}
    last: dict[int, str] = {}
    for message, one in zip(messages, result, strict=True):
        assert message.key() == str(one["CUSTOMER_ID"]).encode()
        accounts.setdefault(one["CUSTOMER_ID"], set()).add(message.partition())
        assert last.get(message.partition(), "") <= one["TX_DATETIME"]
        last[message.partition()] = one["TX_DATETIME"]
    assert {len(partitions) for partitions in accounts.values()} == {1}
    read = moments(broker.bootstrap, name, of_transaction).first()
    assert (read.ids == sent_ids).all()
    assert began <= read.at.min() <= read.at.max() <= time.time() * 1000 + 1
    # A busy broker takes messages late, hundreds at once; none comes before its time.
    assert read.at.max() - read.at.min() > 2_700
    assert np.median(read.at[100:] - read.at[:-100]) > 40


@pytest.mark.soak
def test_every_measurement_of_a_stream_runs(tmp_path: Path) -> None:
    need_kafka()
    command = [sys.executable, "-m", "benchmarks", "--json", "--repeat", "1", "--rows", "3000"]
    command += ["--only", "stream,stream-latency,stream-hostile,stream-memory", "--full"]
    measured = printed([*command, "--seconds", "2", "--work", str(tmp_path)])
    rows = {figure["name"]: figure["rows"] for figure in measured["figures"]}
    assert rows["stream, catching up"] == 3_000
    assert rows["stream at 10,000/s"] == 20_000
    assert rows["stream, hostile ones among them"] == 6_000
    assert rows["stream, memory"] == 15_000
    latencies = {latency["name"]: latency for latency in measured["latencies"]}
    assert len(latencies) == 9
    scored = latencies["stream at 1,000/s, score in the out-topic"]
    # The part that is not warm-up; less where the broker was late to take the last ones.
    assert scored["rows"] == pytest.approx(1_500, rel=0.4)
    assert scored["missing"] == 0
    assert 0 < scored["p50"] <= scored["p99"] <= scored["longest"]
    bounds = {ratio["name"] for ratio in measured["ratios"] if ratio["bound"] is not None}
    assert all("at 10,000/s" in name for name in bounds), "too few rows for the others"
    assert not (tmp_path / "out").exists()
