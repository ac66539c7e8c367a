"""`--audit-share` puts a share of the unflagged rows into the database; they raise no alerts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from beam_fraud.cli.commands import score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.decisions.audit_lane import AuditLane
from beam_fraud.errors import Code, UsageError
from beam_fraud.sinks.database import DatabaseSink, keep_undelivered, replay_undelivered
from beam_fraud.storage.database.connection import prepare_database, transaction, writing
from beam_fraud.storage.database.tables import ALERTS, AUDITED, FLAGGED
from tests.cli.test_commands_score import bundle
from tests.decisions.test_audit_lane import unflagged
from tests.failing import fails
from tests.flagged import flagged_batch

#: The model flags everything; rules approve what is small.
RULES = """
[[rule]]
name = "small"
when = "amount < 80"
decision = "approve"
"""
ROWS = 1_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/flagged.db"


@pytest.fixture
def options(tmp_path: Path, url: str) -> ScoreOptions:
    file, rules = tmp_path / "day.csv", tmp_path / "rules.toml"
    rows = (f"x{i},2024-01-01T00:00:00Z,{i % 100}\n" for i in range(ROWS))
    file.write_text("id,t,a\n" + "".join(rows))
    rules.write_text(RULES)
    return ScoreOptions(
        files=(str(file),),
        model=bundle(tmp_path / "model"),
        rules=str(rules),
        out=str(tmp_path / "out"),
        sink=url,
        alerts=(f"file:{tmp_path}/alerts.jsonl",),
        audit_share="10%",
    )


def audited(url: str) -> dict[str, Any]:
    """Return the audited rows by id."""
    with transaction(url) as connection:
        return {row.transaction_id: row for row in connection.execute(select(AUDITED)).all()}


def test_a_share_of_the_unflagged_rows_waits_with_its_probability(
    options: ScoreOptions, url: str, tmp_path: Path
) -> None:
    summary = score.run(options)
    rows = audited(url)
    archived = pq.read_table(tmp_path / "out/scores")
    chosen = AuditLane.parse("10%").chosen(archived["transaction_id"].combine_chunks())
    small = np.asarray(archived["amount"]) < 80
    expected = archived.filter(chosen & small)
    assert rows.keys() == set(expected["transaction_id"].to_pylist())
    assert {(row.decision, row.probability, row.case_id) for row in rows.values()} == {
        ("approve", 0.1, None)
    }
    assert summary["rows_audited"] == len(rows) > 50
    with transaction(url) as connection:
        alerts = connection.execute(select(ALERTS.c.transaction_id)).scalars().all()
        flagged = connection.execute(select(FLAGGED.c.transaction_id)).scalars().all()
    assert set(alerts) == set(flagged) == set(archived.filter(~small)["transaction_id"].to_pylist())


def test_a_replay_chooses_the_same_and_keeps_the_case(options: ScoreOptions, url: str) -> None:
    score.run(options)
    with writing(url) as connection:
        connection.execute(AUDITED.update().values(case_id="c1"))
    before = audited(url)
    score.run(options)
    assert audited(url) == before


def test_of_two_shares_the_larger_counts(options: ScoreOptions, url: str) -> None:
    for share in ("2%", "10%", "5%"):
        score.run(replace(options, audit_share=share))
        rows = audited(url)
    assert {row.probability for row in rows.values()} == {0.1}
    archived = pq.read_table(Path(options.out) / "scores")
    chosen = AuditLane.parse("10%").chosen(archived["transaction_id"].combine_chunks())
    assert len(rows) == (chosen & (np.asarray(archived["amount"]) < 80)).sum()


def test_without_the_option_nothing_is_audited(options: ScoreOptions, url: str) -> None:
    summary = score.run(replace(options, audit_share=None))
    assert "rows_audited" not in summary
    assert audited(url) == {}


@pytest.mark.parametrize("sink", [None, "parquet:flagged"])
def test_without_a_database_it_is_refused(options: ScoreOptions, sink: str | None) -> None:
    with fails(Code.SINK_UNSUITED, "--audit-share: .* give --sink", UsageError):
        score.run(replace(options, sink=sink, alerts=()))
    assert not Path(options.out).exists()


def test_rows_that_waited_on_disk_stay_audited(url: str, tmp_path: Path) -> None:
    prepare_database(url)
    lane = AuditLane.parse("50%")
    flagged = lane.with_probability(flagged_batch(["a"]))
    random = lane.with_probability(unflagged(flagged_batch(["b"])))
    for batch in (flagged, random):
        keep_undelivered(tmp_path / "undelivered", batch, ["console:"], url)
    assert replay_undelivered(tmp_path / "undelivered", DatabaseSink(url)) == 2
    assert [(row.transaction_id, row.probability) for row in audited(url).values()] == [("b", 0.5)]
    with transaction(url) as connection:
        assert connection.execute(select(FLAGGED.c.transaction_id)).scalars().all() == ["a"]
        assert connection.execute(select(ALERTS.c.transaction_id)).scalars().all() == ["a"]
