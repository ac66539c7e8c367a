"""A topic that was created again is another topic: no message is skipped."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient

from beam_fraud.cli.commands.stream import run
from beam_fraud.errors import FraudError
from beam_fraud.simulate.messages import handbook_messages
from beam_fraud.sources.kafka.check import topic_ids
from beam_fraud.sources.kafka.settings import KafkaSettings
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce
from tests.integration.test_stream_refusals import options_of

pytestmark = pytest.mark.slow


def create_again(broker: Broker, topic: str) -> None:
    admin = AdminClient(broker.client)
    admin.delete_topics([topic])[topic].result(30)
    broker.create_topic(topic)


def kept(out: Path, table: str) -> dict[str, str]:
    with closing(sqlite3.connect(out / "stream/state.db")) as state:
        return dict(state.execute(f"SELECT * FROM {table}").fetchall())


def test_a_topic_that_was_created_again_is_refused_and_not_skipped(
    broker: Broker, topic: Callable[..., str], month: pa.Table, bundle: Path, tmp_path: Path
) -> None:
    name, labels, out = topic(), topic(), tmp_path / "out"
    (block,) = handbook_messages(month.slice(0, 60).combine_chunks(), 60)
    produce(broker, name, block.values[:20])
    options = replace(options_of(broker, name, bundle, out, labels_topic=labels), start="committed")
    assert run(options)["rows_scored"] == 20
    ids = topic_ids(KafkaSettings.of(broker.bootstrap), [name, labels])
    expected = {f"id of topic {name}": ids[name], f"id of topic {labels}": ids[labels]}
    assert expected.items() <= kept(out, "about").items()
    with closing(sqlite3.connect(out / "stream/state.db")) as state, state:
        state.execute("DELETE FROM about WHERE name LIKE 'id of topic %'")
    # A stream that began before ids were kept goes on, and keeps them from then on.
    assert run(options)["rows_in"] == 0
    assert expected.items() <= kept(out, "about").items()
    positions = kept(out, "positions")
    create_again(broker, labels)
    with pytest.raises(FraudError, match=f"topic '{labels}' was deleted and created again"):
        run(options)
    create_again(broker, name)
    produce(broker, name, block.values)
    with pytest.raises(FraudError, match=f"topic '{name}' was deleted .* give another --out"):
        run(options)
    assert kept(out, "positions") == positions
    # The broker has forgotten what the group had committed in the old topic.
    assert run(replace(options, out=str(tmp_path / "new")))["rows_scored"] == 60
