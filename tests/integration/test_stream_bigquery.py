"""A stream into BigQuery by runner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from tests.cli.test_commands_score import bundle
from tests.requirements import need_module
from tests.stream_process import Stream

ROWS = 40


@pytest.fixture
def command(inbox: Path, tmp_path: Path) -> list[str]:
    """Return a call that scores a directory into a table."""
    lines = "".join(f"x{i},2024-01-01T00:{i:02}:00Z,{i}\n" for i in range(ROWS))
    (inbox / "day.csv").write_text("id,t,a\n" + lines)
    command = ["stream", "--watch", str(inbox)]
    command += ["--model", bundle(tmp_path / "model"), "--out", str(tmp_path / "out")]
    return [*command, "--sink", "bigquery:my-project.fraud", "--until-idle", "3"]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    need_module("google.cloud.bigquery", "gcp")
    need_module("duckdb", "bench")
    from tests.bigquery_stand_in import running

    with running(tmp_path) as (stand_in, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield stand_in


def test_the_local_runner_is_refused_before_anything_is_done(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    (message,) = capfd.readouterr().err.splitlines()
    assert "a stream on this machine cannot write to BigQuery; give --runner" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
def test_a_runner_that_groups_while_it_reads_inserts_every_flagged_row(
    command: list[str], stand_in: Any, prism: tuple[str, ...], tmp_path: Path
) -> None:
    runner = [*prism, "--shards=2"]
    stream = Stream([*command, *runner], tmp_path / "out")
    stream.start()
    try:
        stream.wait_for_end()
    finally:
        stream.kill()
    flagged = pq.read_table(tmp_path / "out/scores", columns=["transaction_id"])
    result = [row["transaction_id"] for row in stand_in.rows("latest_flagged_transactions")]
    assert sorted(result) == sorted(flagged.column(0).to_pylist())
    assert len(result) == ROWS
