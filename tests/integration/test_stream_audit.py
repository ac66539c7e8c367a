"""Decisions of a topic are computed again bit for bit, also of a stream that was resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import audit
from beam_fraud.cli.commands.stream import run
from beam_fraud.cli.options import AuditOptions
from beam_fraud.simulate.messages import handbook_messages
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce
from tests.integration.test_stream_refusals import options_of

pytestmark = pytest.mark.slow


def test_decisions_of_a_topic_agree(
    broker: Broker, topic: Callable[..., str], month: pa.Table, bundle: Path, tmp_path: Path
) -> None:
    name, out = topic(), tmp_path / "out"
    (block,) = handbook_messages(month.slice(0, 60).combine_chunks(), 60)
    options = replace(options_of(broker, name, bundle, out), keep_features=True)
    for values in (block.values[:40], block.values[40:]):
        produce(broker, name, values)
        run(options)
    table = pq.read_table(out / "scores")
    assert len(table) == 60
    for row in table["transaction_id"].to_pylist()[::6]:
        found = audit.run(AuditOptions(transaction_id=row, out=str(out), model=str(bundle)))
        assert found["agrees"], found
