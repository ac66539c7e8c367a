"""A back-fill whose process is killed again and again leaves every row once after the repeat."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition

from beam_fraud.cli.commands import rescore
from beam_fraud.cli.options import RescoreOptions
from deploy.kafka.broker import Broker
from tests.integration.test_rescore_topic import committed_ids
from tests.pipeline.test_rescore import home as home
from tests.stream_process import wait_until

pytestmark = pytest.mark.slow
#: Kills while rows are written.
KILLS = 2
SLOWLY = ("--max-rows-per-second", "100")


@dataclass(frozen=True)
class Rescored:
    """A finished rescore, to which destinations are added."""

    options: RescoreOptions

    def rows(self, *, flagged: bool) -> list[str]:
        """Return the ids of the scored rows, in the order of partitions and rows."""
        files = sorted(Path(self.options.out).glob("partitions/*/scores/part-new.parquet"))
        tables = [pq.ParquetFile(file).read(["transaction_id", "flagged"]) for file in files]
        ids = []
        for table in tables:
            kept = table.filter(table["flagged"]) if flagged else table
            ids += kept["transaction_id"].to_pylist()
        return ids

    def call(self, *more: str) -> list[str]:
        options = self.options
        words = [sys.executable, "-m", "beam_fraud", "rescore", *options.files]
        words += ["--model", options.model, "--rules", str(options.rules), "--out", options.out]
        return [*words, "--json", *more]

    def kill(self, written: Callable[[], int], *more: str) -> None:
        """Start the command again and kill it once it has written, several times."""
        for _ in range(KILLS):
            before = written()
            with subprocess.Popen(self.call(*more), stdout=subprocess.DEVNULL) as running:
                went_on = wait_until(lambda: written() > before or running.poll() is not None)  # noqa: B023
                running.kill()
            assert went_on
            assert running.returncode == -9, "it ended by itself: lower the rate"

    def finish(self, *more: str) -> int:
        """Run the command to its end; return the rows that it has written."""
        done = subprocess.run(self.call(*more), check=True, stdout=subprocess.PIPE)
        (sent,) = json.loads(done.stdout)["backfill"].values()
        return int(sent)


@pytest.fixture
def rescored(home: Path, tmp_path: Path) -> Rescored:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "most"\nwhen = "amount > 5"\ndecision = "review"\n')
    options = RescoreOptions(
        files=(str(home / "days"),),
        model=str(home / "new"),
        rules=str(rules),
        out=str(tmp_path / "out"),
    )
    rescore.run(options)
    return Rescored(options)


@pytest.mark.soak
def test_a_database_has_each_flagged_row_once_after_kills(
    rescored: Rescored, tmp_path: Path
) -> None:
    database = tmp_path / "flagged.db"

    def ids() -> list[str]:
        if not database.exists():
            return []
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
            if ("flagged_transactions",) not in tables:
                return []
            rows = connection.execute("SELECT transaction_id FROM flagged_transactions")
            return [id for (id,) in rows]

    sink = ("--sink", f"sqlite:///{database}")
    rescored.kill(lambda: len(ids()), *sink, *SLOWLY)
    expected = rescored.rows(flagged=True)
    assert 0 < len(ids()) < len(expected)
    rescored.finish(*sink)
    assert sorted(ids()) == sorted(expected)
    assert rescored.finish(*sink) == 0
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM alerts").fetchone() == (0,)


@pytest.mark.soak
def test_a_topic_has_each_scored_row_once_after_kills(
    rescored: Rescored, broker: Broker, topic: Callable[..., str]
) -> None:
    name = topic()
    to = ("--kafka", broker.bootstrap, "--out-topic", name)
    reader = Consumer({**broker.client, "group.id": "ends"})
    with closing(reader):
        # The log grows with messages of open transactions, too.
        log = TopicPartition(name, 0)
        rescored.kill(lambda: reader.get_watermark_offsets(log)[1], *to, *SLOWLY)
    expected = rescored.rows(flagged=False)
    assert 0 < len(committed_ids(broker, name)) < len(expected)
    rescored.finish(*to)
    assert committed_ids(broker, name) == expected
    assert rescored.finish(*to) == 0
