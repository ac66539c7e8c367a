"""A server with `--keep-features` archives what the model and the rules saw beside each answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_fraud.cli.commands import audit
from beam_fraud.cli.options import AuditOptions
from beam_fraud.decisions.inputs import KEPT
from beam_fraud.serve.answered_rows import ANSWERED
from beam_fraud.serve.archive import find_answers
from beam_fraud.serve.engine import TIMEOUT
from tests.serve.conftest import Served
from tests.serve.running import Running


@pytest.fixture
def running(served: Served, tmp_path: Path) -> Running:
    return Running(served, tmp_path, keep_features=True)


def in_one_hour(records: tuple[bytes, ...]) -> list[bytes]:
    """Return the records at moments of an hour, in which a rule is muted."""
    moved = []
    for number, record in enumerate(records):
        at = f"2024-03-01T00:{number // 60:02}:{number % 60:02}"
        moved.append(json.dumps(json.loads(record) | {"TX_DATETIME": at}).encode())
    return moved


def assert_all_agree(running: Running, step: int = 1) -> pa.Table:
    table = pq.read_table(running.scores)
    for name in table["transaction_id"].to_pylist()[::step]:
        options = AuditOptions(
            transaction_id=name,
            out=str(running.directory),
            model=running.served.bundle,
            rules=running.served.rules,
        )
        assert audit.run(options)["agrees"], name
    return table


def test_single_rows_and_groups_agree_after_a_kill(running: Running, served: Served) -> None:
    records = in_one_hour(served.records[:240])
    engine = replace(running, rule_limit=0.05).engine()
    for record in records[:120]:
        engine.record([record])
        engine.state.commit()
    engine.record(records[120:200])
    engine.state.commit()
    # It is not closed: what is in the journal is restored, what is not committed is not.
    engine.record(records[200:])
    engine = replace(running, rule_limit=0.05).engine()
    engine.record(records[200:])
    engine.state.close(1.0)
    table = assert_all_agree(running, step=10)
    assert len(table) == len(records)
    muted = table["muted_rules"].combine_chunks()
    assert len(muted.slice(0, 120).flatten())
    assert len(muted.slice(120).flatten())
    for name in KEPT[2:]:
        assert table.schema.get_field_index(name) >= len(ANSWERED)


def test_a_restart_reads_kept_rows_that_are_in_no_finished_file(
    running: Running, served: Served
) -> None:
    engine = running.engine()
    first = engine.record(served.records[:20])
    engine.state.commit()
    # The rows go to the open part of the archive.
    engine.state.commit(fold=True)
    engine.state._checkpoint.close()
    engine = running.engine()
    again = engine.record(served.records[:40]).answered.rows
    assert again.slice(0, 20).equals(first.new)
    engine.state.close(1.0)
    assert len(assert_all_agree(running, step=5)) == 40


def test_an_answer_by_default_is_told_from_the_models(running: Running, served: Served) -> None:
    engine = running.engine()
    group = engine.record(served.records[:40])
    rows = group.new
    late = pa.array([True] * len(rows)).to_numpy(zero_copy_only=False)
    group.amend(engine.defaulted(rows, late, TIMEOUT))
    engine.state.answers.amend(group.new)
    engine.state.commit()
    engine.state.close(1.0)
    table = assert_all_agree(running, step=5)
    assert set(table["degraded"].to_pylist()) == {TIMEOUT}


def test_the_option_may_change_between_two_servers(running: Running, served: Served) -> None:
    for start, keep in enumerate((True, False, True)):
        engine = replace(running, keep_features=keep).engine()
        engine.record(served.records[30 * start : 30 * (start + 1)])
        engine.state.commit(fold=True)
        if start == 1:
            engine.state.close(1.0)
    engine.state.close(1.0)
    kept = {
        "features" in pq.read_schema(part).names: pq.read_metadata(part).num_rows
        for part in running.scores.glob("*.parquet")
    }
    assert sum(pq.read_metadata(part).num_rows for part in running.scores.glob("*.parquet")) == 90
    assert kept.keys() == {True, False}
    first = json.loads(served.records[0])["TRANSACTION_ID"]
    assert find_answers(running.scores, {str(first)}).schema.equals(ANSWERED)
