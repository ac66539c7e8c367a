"""Simulated messages are the simulated rows, at the requested rate."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.records.parse import parse
from beam_fraud.records.validate import validate
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.simulate.messages import COLUMNS, Messages, Sender, handbook_messages
from beam_fraud.simulate.simulation import Simulation, simulate
from beam_fraud.sources.raw import PAYLOAD, POSITION, Origin, with_origin
from tests.reading import read


@pytest.fixture(scope="module")
def week() -> pa.Table:
    return simulate(Simulation(days=7, accounts=200, merchants=100, seed=3, fraud_rate=0.05))


class Taken:
    """Records messages and their times."""

    def __init__(self, patience: float = 0.0) -> None:
        self.values: list[bytes] = []
        self.keys: list[str] = []
        self.times: list[float] = []
        self.patience = patience

    def write(self, values: Sequence[bytes], keys: Sequence[str]) -> None:
        assert len(values) == len(keys) > 0
        self.values += values
        self.keys += keys
        self.times += [time.monotonic()] * len(values)
        time.sleep(self.patience)


def test_a_message_is_a_row_keyed_by_its_account(week: pa.Table) -> None:
    blocks = list(handbook_messages(week, block_rows=100))
    assert all(len(block.values) == len(block.keys) <= 100 for block in blocks)
    decoded = [json.loads(value) for block in blocks for value in block.values]
    assert [list(row) for row in decoded] == [list(COLUMNS)] * len(decoded)
    expected = week.select(COLUMNS).to_pylist()
    for row in expected:
        row["TX_DATETIME"] = row["TX_DATETIME"].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert decoded == expected
    assert [key for block in blocks for key in block.keys] == [
        str(row["CUSTOMER_ID"]) for row in expected
    ]


def test_messages_are_read_as_the_file_is_bit_for_bit(week: pa.Table, tmp_path: Path) -> None:
    pq.write_table(week, tmp_path / "week.parquet")
    of_file = read(tmp_path / "week.parquet", HANDBOOK).transactions
    values = [value for block in handbook_messages(week) for value in block.values]
    described = pa.schema([pa.field(POSITION, pa.int64()), pa.field(PAYLOAD, pa.binary())])
    raw = pa.RecordBatch.from_arrays(
        [pa.array(range(len(values))), pa.array(values)],
        schema=with_origin(described, Origin("transactions:0", "jsonl")),
    )
    parsed = parse(raw, HANDBOOK, labels="required")
    of_messages, dead = validate(parsed, HANDBOOK, labels="required")
    assert len(dead) == 0
    result = pa.Table.from_batches([of_messages]).replace_schema_metadata(None)
    assert result.equals(of_file.combine_chunks().replace_schema_metadata(None))


def test_no_rows_are_no_messages(week: pa.Table) -> None:
    assert list(handbook_messages(week.slice(0, 0))) == []


def blocks_of(*sizes: int) -> list[Messages]:
    return [Messages([b"%d" % row for row in range(size)], ["k"] * size) for size in sizes]


def test_without_a_rate_all_goes_at_once() -> None:
    accepted = Taken()
    sender = Sender(accepted)
    sender.send(blocks_of(3, 0, 2))
    assert accepted.values == [b"0", b"1", b"2", b"0", b"1"]
    assert sender.sent == 5


@pytest.mark.parametrize("rate", [40.0, 5_000.0])
def test_a_rate_is_kept_from_the_first_message_to_the_last(rate: float) -> None:
    accepted = Taken()
    sizes = (7, 1, 12) if rate == 40 else (900, 1, 1_599)
    began = time.monotonic()
    Sender(accepted, rate).send(blocks_of(*sizes))
    due = [began + (number + 1) / rate for number in range(sum(sizes))]
    late = [at - when for at, when in zip(accepted.times, due, strict=True)]
    assert min(late) >= -1e-3, "nothing goes before it is due"
    assert sorted(late)[len(late) // 2] < 0.1


def test_a_slow_writer_gets_the_missed_messages() -> None:
    accepted = Taken(patience=0.05)
    began = time.monotonic()
    Sender(accepted, 1_000).send(blocks_of(400))
    assert len(accepted.values) == 400
    assert 0.4 <= time.monotonic() - began < 0.4 * 3
