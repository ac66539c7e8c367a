"""A row that is dated far ahead is scored or refused, and changes no other row."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands.stream import run
from beam_fraud.cli.options import StreamOptions
from beam_fraud.simulate.messages import handbook_messages
from deploy.kafka.broker import Broker
from tests.integration.kafka import produce

pytestmark = pytest.mark.slow

ROWS = 4_000
YEARS = timedelta(days=20 * 365)


def dated(message: bytes, name: str, moment: datetime) -> bytes:
    """Return a transaction of the same account and terminal with another id and time."""
    row = json.loads(message)
    row |= {"TRANSACTION_ID": name, "TX_DATETIME": f"{moment:%Y-%m-%d %H:%M:%S}"}
    return json.dumps(row).encode()


def scores(out: Path) -> pa.Table:
    # The position is another one: there are more messages before it.
    table = pq.read_table(out / "scores").sort_by("transaction_id")
    return table.select([name for name in table.column_names if name != "position"])


def test_rows_of_wrong_clocks_change_no_other_row_and_are_reported(
    broker: Broker,
    topic: Callable[..., str],
    bundle: Path,
    month: pa.Table,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (block,) = handbook_messages(month.slice(0, ROWS).combine_chunks(), ROWS)
    now = datetime.now(UTC)
    wrong = {
        # Of a terminal that sends local time; allowed by `--max-ahead`.
        "local": dated(block.values[0], "local", now + timedelta(hours=9)),
        # Before the clock of the producer was set; it stamps its messages with that, too.
        "stamped": dated(block.values[1], "stamped", now + YEARS),
        # Not ahead of this machine, but years ahead of all that is replayed.
        "recent": dated(block.values[2], "recent", now - timedelta(hours=1)),
    }
    stamp = {"stamped": int((time.time() + YEARS.total_seconds()) * 1_000)}
    out = {name: tmp_path / name for name in ("wrong", "right")}
    # Brokers of before 3.6 take such stamps by default.
    any_stamp = {"message.timestamp.after.max.ms": str((1 << 63) - 1)}
    names, summaries = {name: topic(1, any_stamp) for name in out}, []
    # Each is stopped and goes on once.
    for part in (block.values[: ROWS // 2], block.values[ROWS // 2 :]):
        for name in out:
            produce(broker, names[name], part[:100])
            if name == "wrong":
                for each in list(wrong)[: 3 if part[0] == block.values[0] else 0]:
                    stamps = [stamp[each]] if each in stamp else None
                    produce(broker, names[name], [wrong[each]], timestamps=stamps)
            produce(broker, names[name], part[100:])
            options = StreamOptions(
                kafka=broker.bootstrap,
                topic=names[name],
                model=str(bundle),
                out=str(out[name]),
                start="earliest",
                until_idle=0.5,
                max_ahead="1d",
            )
            with caplog.at_level(logging.WARNING, "beam_fraud"):
                summaries.append(run(options))
    disturbed, others = scores(out["wrong"]), scores(out["right"])
    extra = pc.is_in(disturbed["transaction_id"], value_set=pa.array(["local", "recent"]))
    assert disturbed.filter(extra).num_rows == 2
    assert disturbed.filter(pc.invert(extra)).equals(others)
    assert others.num_rows == ROWS
    first = summaries[0]
    assert (first["rows_ahead"], first["dead_reasons"]) == (1, {"future_time": 1})
    assert [summary["rows_ahead"] for summary in summaries[1:]] == [0, 0, 0]
    message = [r.getMessage() for r in caplog.records if "after its arrival" in r.getMessage()]
    assert len(message) == 1
    assert message[0].startswith(f"{names['wrong']}:0:100 is dated ")
