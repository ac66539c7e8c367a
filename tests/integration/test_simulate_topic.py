"""`simulate --kafka`: the rows of the file as messages, at a rate, until it is stopped."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
from confluent_kafka import Consumer, TopicPartition

from beam_fraud.cli import main
from beam_fraud.cli.commands.simulate import render, run
from beam_fraud.cli.options import SimulateOptions
from beam_fraud.cli.terminal import command as wrapper
from beam_fraud.cli.terminal.progress import activities_shown
from beam_fraud.errors import FraudError
from beam_fraud.simulate.messages import COLUMNS
from beam_fraud.simulate.simulation import Simulation, simulate
from deploy.kafka.broker import Broker
from tests.integration.kafka import read_all

pytestmark = pytest.mark.slow

Topic = Callable[..., str]


def test_the_rows_of_the_file_come_in_order_of_time_by_account(
    broker: Broker, topic: Topic
) -> None:
    name = topic(partitions=3)
    size = {"days": 10, "accounts": 100, "merchants": 50, "seed": 5}
    result = run(SimulateOptions(out=None, kafka=broker.bootstrap, topic=name, **size))
    table = simulate(Simulation(**size))
    actual = read_all(broker, name)
    rows = [json.loads(message.value()) for message in actual]
    assert sorted(row["TRANSACTION_ID"] for row in rows) == table["TRANSACTION_ID"].to_pylist()
    amounts = dict(
        zip(*(table[c].to_pylist() for c in ("TRANSACTION_ID", "TX_AMOUNT")), strict=True)
    )
    assert {row["TRANSACTION_ID"]: row["TX_AMOUNT"] for row in rows} == amounts
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert [message.key() for message in actual] == [b"%d" % row["CUSTOMER_ID"] for row in rows]
    for partition in range(3):
        times = [
            row["TX_DATETIME"]
            for row, message in zip(rows, actual, strict=True)
            if message.partition() == partition
        ]
        assert times == sorted(times)
        assert times
    assert (result["messages"], result["topic"]) == (table.num_rows, name)
    assert f"{table.num_rows:,} messages sent to {name} in " in render(result)


def test_sending_says_how_far_it_is(
    broker: Broker,
    topic: Topic,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wrapper, "activities_shown", partial(activities_shown, line_every=0.05))
    name = topic(partitions=1)
    call = ["simulate", "--kafka", broker.bootstrap, "--topic", name, "--rate", "1000"]
    assert main([*call, "--days", "1", "--accounts", "700", "--merchants", "50"]) == 0
    told = capsys.readouterr().err
    assert re.search(rf"sending to {name}: [\d,]+ of [\d,]+ messages, 0:00:\d\d so far", told), told


def test_a_rate_is_kept_within_a_tenth(broker: Broker, topic: Topic) -> None:
    name = topic(partitions=2)
    result = run(
        SimulateOptions(
            out=None,
            days=1,
            accounts=700,
            merchants=50,
            kafka=broker.bootstrap,
            topic=name,
            rate=500,
        )
    )
    assert result["messages_per_second"] == pytest.approx(500, rel=0.1)
    stamps = sorted(message.timestamp()[1] for message in read_all(broker, name))
    assert len(stamps) == result["messages"]
    seconds = (stamps[-1] - stamps[0]) / 1000
    assert len(stamps) / seconds == pytest.approx(500, rel=0.1)


def test_a_missing_topic_is_one_line_with_the_command_that_creates_it(
    broker: Broker,
) -> None:
    with pytest.raises(FraudError, match=r"there is no topic 'nowhere' .*; to create it: ") as no:
        run(SimulateOptions(out=None, kafka=broker.bootstrap, topic="nowhere"))
    command = f"kafka-topics.sh --create --bootstrap-server {broker.bootstrap} --topic nowhere"
    assert str(no.value).endswith(command)
    assert "nowhere" not in broker.topics()


def count(broker: Broker, name: str) -> int:
    consumer = Consumer({**broker.client, "group.id": "count", "log_level": 0})
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30)
        return high - low
    finally:
        consumer.close()


def test_ctrl_c_stops_it_after_all_sent_messages_are_written(broker: Broker, topic: Topic) -> None:
    name = topic()
    command = [sys.executable, "-m", "beam_fraud", "simulate", "--rate", "200"]
    command += ["--kafka", broker.bootstrap, "--topic", name]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            deadline = time.monotonic() + 60
            while not count(broker, name) and time.monotonic() < deadline:
                assert running.poll() is None
            running.send_signal(signal.SIGINT)
            _, message = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    (report,) = map(int, re.findall(r"stopped after (\d+) messages, all of them written", message))
    # The signal may come when messages are handed over and not yet counted.
    assert 0 < report <= count(broker, name) <= report + 10
    assert message.splitlines()[-1] == "beam-fraud: interrupted"
