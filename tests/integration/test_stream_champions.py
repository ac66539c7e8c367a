"""Promotions while a topic is scored: nothing is lost, repeated or mixed."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from beam_fraud.models.bundle import load_bundle
from beam_fraud.models.registry.registry import add_model, open_registry, promote
from beam_fraud.storage.urls import Place
from deploy.kafka.broker import Broker
from tests.integration.kafka import read_all
from tests.models.registering import ANN, other
from tests.stream_process import Stream

#: Messages a second, promotions, and seconds before each.
RATE, PROMOTIONS, PAUSE = 1_000, 20, 1.0


def rows_of(month: pa.Table, times: int) -> list[dict[str, object]]:
    """Return the rows of a month several times, one after another, with ids of their own."""
    rows = month.drop_columns(["TX_FRAUD"]).to_pylist()
    return [
        {
            **row,
            "TRANSACTION_ID": f"{number}-{row['TRANSACTION_ID']}",
            "TX_DATETIME": row["TX_DATETIME"] + timedelta(days=30 * number),
        }
        for number in range(times)
        for row in rows
    ]


def send(broker: Broker, topic: str, rows: list[dict[str, object]], end: threading.Event) -> None:
    """Send messages at an even rate until `end`, then no more."""
    producer = Producer({**broker.client, "linger.ms": 2})
    start = time.monotonic()
    for number, row in enumerate(rows):
        while number > (time.monotonic() - start) * RATE:
            if end.wait(0.005):
                break
        if end.is_set():
            break
        producer.produce(topic, json.dumps(row, default=str))
        producer.poll(0)
    assert producer.flush(60) == 0


def said(stream: Stream, words: str, times: int) -> None:
    """Wait until the stream has said something that often."""
    limit = time.monotonic() + 60
    while stream.log.read_text("utf-8", errors="replace").count(words) < times:
        assert time.monotonic() < limit, stream.said()
        time.sleep(0.05)


@pytest.mark.soak
def test_promotions_under_load_lose_and_mix_nothing(
    broker: Broker, topic: Callable[..., str], month: pa.Table, bundle: Path, tmp_path: Path
) -> None:
    place = Place.at(tmp_path / "registry")
    thresholds, ids = (0.2, 0.5, 0.8), []
    for number, threshold in enumerate(thresholds):
        model = load_bundle(other(bundle, tmp_path / f"m{number}", threshold))
        add_model(place, model, ANN)
        ids.append(model.model_id)
    promote(open_registry(place), ids[0], ANN)
    stamped = {"message.timestamp.type": "LogAppendTime"}
    into, out = topic(2, stamped), topic(1, stamped)
    command = [sys.executable, "-m", "beam_fraud", "stream"]
    command += ["--kafka", broker.bootstrap, "--topic", into, "--registry", str(place)]
    command += ["--out", str(tmp_path / "out"), "--start", "earliest", "--out-topic", out]
    stream = Stream([*command, "--until-idle", "4", "--lateness", "30d"], tmp_path / "out")
    rows, end = rows_of(month, 10), threading.Event()
    sender = threading.Thread(target=send, args=(broker, into, rows, end))
    sender.start()
    stream.start()
    try:
        said(stream, "reading topic", 1)
        for number in range(PROMOTIONS):
            time.sleep(PAUSE)
            promote(open_registry(place), ids[(number + 1) % 2], ANN)
            said(stream, "from here on", number + 1)
        # Damaged after its promotion: what decided before goes on.
        promote(open_registry(place), ids[2], ANN)
        (tmp_path / "registry" / "bundles" / ids[2] / "model.joblib").write_bytes(b"evil")
        said(stream, "cannot be taken up", 1)
        time.sleep(PAUSE)
    finally:
        end.set()
        sender.join()
        stream.wait_for_end()
    sent = read_all(broker, into)
    scored = pq.read_table(tmp_path / "out" / "scores")
    assert sorted(scored.column("transaction_id").to_pylist()) == sorted(
        str(json.loads(message.value())["TRANSACTION_ID"]) for message in sent
    )
    assert set(scored.column("model_id").to_pylist()) == {ids[0], ids[1]}
    for number in (0, 1):
        own = scored.filter(pc.equal(scored.column("model_id"), ids[number]))
        flagged = own.column("score").to_numpy() >= thresholds[number]
        assert (own.column("flagged").to_numpy() == flagged).all()
    arrived = {
        str(json.loads(message.value())["TRANSACTION_ID"]): message.timestamp()[1]
        for message in sent
    }
    answered = [
        (json.loads(m.value())["transaction_id"], m.timestamp()[1]) for m in read_all(broker, out)
    ]
    latencies = np.array([at - arrived[row] for row, at in answered])
    late = np.array([arrived[row] for row, _ in answered])
    # The first seconds are those of the start.
    warm = latencies[late > late.min() + 20_000]
    print(len(answered), "rows", np.percentile(warm, [50, 99, 100]), "ms")
    # The longest of every four seconds: one or two peaks for each promotion.
    periods = (late - late.min()) // 4_000
    print("peaks", [int(latencies[periods == one].max()) for one in np.unique(periods)])
    assert len(answered) == len(sent)
    assert warm.max() < 20_000
