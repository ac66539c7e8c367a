"""Scores of an archive reach a database or a topic once, evenly, and alert only if asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.alerts.alert import AlertContext
from beam_fraud.cli.commands.backfill import BackfillPlan, backfill_plan
from beam_fraud.cli.options.decisions import BackfillOptions
from beam_fraud.errors import Code
from beam_fraud.pipeline.rescore.backfill import Pace, PartitionScores
from beam_fraud.storage.rescore_outputs import RescoreDirectory
from beam_fraud.storage.urls import Place
from tests.earlier import make_earlier
from tests.failing import fails
from tests.flagged import flagged_batch


class Archive:
    """Scored partitions, and the file of the state."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.partitions: dict[str, PartitionScores] = {}

    def score(self, name: str, ids: Sequence[str], *, flagged: bool = True) -> None:
        """Score rows of these ids in a partition, of which the last may not be flagged."""
        rows = flagged_batch(ids).to_pylist()
        rows[-1]["flagged"] = flagged
        path = self.directory / name / "part-new.parquet"
        path.parent.mkdir(exist_ok=True)
        beside = {"shadow": False, "rule_set": ""}
        pq.write_table(pa.Table.from_pylist([row | beside for row in rows]), path, row_group_size=2)
        self.partitions[name] = PartitionScores(name, (Place.at(path),))

    def backfill(self, plan: BackfillPlan) -> dict[str, object]:
        plan.check()
        return plan.run(list(self.partitions.values()), self)

    def read(self, name: str) -> bytes | None:
        path = self.directory / name
        return path.read_bytes() if path.exists() else None

    def write(self, name: str, data: bytes) -> None:
        (self.directory / name).write_bytes(data)

    def plan(self, **options: object) -> BackfillPlan:
        context = AlertContext("UTC", 0.5, None, ())
        outputs = RescoreDirectory(self.directory, "run")
        plan = backfill_plan(BackfillOptions(**options), outputs, context)  # type: ignore[arg-type]
        assert plan is not None
        return plan


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made = Archive(tmp_path)
    made.score("2024-05-01", ["a", "b", "c", "d"], flagged=False)
    made.score("2024-05-02", ["e", "f"])
    return made


def ids(database: Path, table: str = "flagged_transactions") -> list[str]:
    with sqlite3.connect(database) as connection:
        query = f"SELECT transaction_id FROM {table} ORDER BY transaction_id"
        return [row[0] for row in connection.execute(query)]


def test_a_database_has_flagged_rows_once_and_no_alerts(archive: Archive) -> None:
    database = archive.directory / "flagged.db"
    plan = archive.plan(sink=f"sqlite:///{database}")
    assert sum(archive.backfill(plan)["backfill"].values()) == 5  # type: ignore[attr-defined]
    assert ids(database) == ["a", "b", "c", "e", "f"]
    assert ids(database, "alerts") == []
    # Only what has changed is written again, and changes nothing that is there.
    archive.score("2024-05-02", ["e", "f", "g"])
    assert sum(archive.backfill(plan)["backfill"].values()) == 3  # type: ignore[attr-defined]
    assert sum(archive.backfill(plan)["backfill"].values()) == 0  # type: ignore[attr-defined]
    assert ids(database) == ["a", "b", "c", "e", "f", "g"]


def test_partitions_of_an_earlier_version_are_written_elsewhere_too(archive: Archive) -> None:
    assert make_earlier(archive.directory / "2024-05-01") == 1
    database = archive.directory / "flagged.db"
    archive.backfill(archive.plan(sink=f"sqlite:///{database}"))
    assert ids(database) == ["a", "b", "c", "e", "f"]


def test_alerts_are_sent_if_they_are_asked_for(archive: Archive) -> None:
    sent = archive.directory / "alerts.jsonl"
    plan = archive.plan(alerts=(f"file:{sent}",))
    assert archive.backfill(plan)["alerts"] == {"sent": 5, "already_sent": 0}
    assert archive.backfill(plan)["alerts"] == {"sent": 0, "already_sent": 5}
    assert len(sent.read_text().splitlines()) == 5
    assert ids(archive.directory / "outbox.db", "alerts") == ["a", "b", "c", "e", "f"]


def test_a_database_that_fails_in_between_has_the_rest_later(archive: Archive) -> None:
    database = archive.directory / "flagged.db"
    plan = archive.plan(sink=f"sqlite:///{database}")
    good = archive.partitions["2024-05-02"]
    archive.partitions["2024-05-02"] = PartitionScores(good.name, (Place.at(Path("nowhere")),))
    with pytest.raises(OSError, match="nowhere"):
        archive.backfill(plan)
    assert ids(database) == ["a", "b", "c"]
    archive.partitions["2024-05-02"] = good
    assert sum(archive.backfill(plan)["backfill"].values()) == 2  # type: ignore[attr-defined]


def test_rows_pass_evenly() -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    pace = Pace(1_000, lambda: clock[0], sleep)
    assert pace.rows == 100
    passed = []
    for _ in range(21):
        pace.wait(pace.rows)
        passed.append(round(clock[0], 6))
    assert passed == [round(n / 10, 6) for n in range(21)]
    # What a slow place takes is not made up for.
    clock[0] += 60
    pace.wait(100)
    pace.wait(100)
    assert clock[0] == pytest.approx(62.1)


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"max_rows_per_second": 5.0}, Code.OPTION_CONFLICT, "--max-rows-per-second"),
        ({"sink": "sqlite:///x.db", "max_rows_per_second": 0.0}, Code.OPTION_VALUE, "second 0"),
        ({"out_topic": "t"}, Code.OPTION_MISSING, "--out-topic"),
        ({"kafka": "h:1"}, Code.OPTION_MISSING, "--kafka"),
        ({"sink": "parquet:flagged"}, Code.SINK_UNSUITED, "flagged"),
    ],
)
def test_options_without_effect_are_refused(
    archive: Archive, options: dict[str, object], code: Code, named: str
) -> None:
    with fails(code, named):
        archive.plan(**options)
