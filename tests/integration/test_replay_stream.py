"""Dead letters of a stream are repaired, sent to its topic and scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_fraud.cli import main
from beam_fraud.cli.commands import erase, stream
from beam_fraud.cli.options import EraseOptions, StreamOptions
from deploy.kafka.broker import Broker
from tests.cli.test_commands_replay import export
from tests.cli.test_commands_score import bundle
from tests.integration.kafka import produce

pytestmark = pytest.mark.slow

ROLES = {"transaction_id": "id", "event_time": "t", "account_id": "acc", "amount": "a"}


def message(number: int, amount: object, account: str = "some") -> bytes:
    row = {"id": f"x{number}", "t": "2024-01-01T00:00:00Z", "acc": account, "a": amount}
    return json.dumps(row).encode()


def test_a_stream_scores_repaired_records(
    broker: Broker,
    topic: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, out = topic(2), tmp_path / "out"
    model = bundle(tmp_path / "model", ROLES)
    produce(broker, name, [message(0, 1.5), message(1, "ten"), b"\xffnot json", message(2, "two")])
    options = StreamOptions(
        kafka=broker.bootstrap,
        topic=name,
        start="earliest",
        model=model,
        out=str(out),
        until_idle=1.0,
    )
    stream.run(options)
    file = export_text(tmp_path)
    call = ["dead-letters", "replay", str(out), "--from", str(file), "--to-topic", name]
    call += ["--kafka", broker.bootstrap, "--json"]
    capsys.readouterr()
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out)["offered"] == 2
    # The same again sends nothing.
    assert main(call) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["offered"], output["already_replayed"]) == (0, 2)
    stream.run(options)
    ids = pq.read_table(out / "scores")["transaction_id"].to_pylist()
    assert sorted(ids) == ["x0", "x1", "x2"]
    assert main(["dead-letters", "list", str(out), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["reason"] == "malformed"


def export_text(tmp_path: Path) -> Path:
    """Export dead letters of text with repaired amounts."""
    file = export(tmp_path)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    stored = [row for row in rows if "payload" in row]
    for row in stored:
        row["payload"] = row["payload"].replace('"ten"', "10").replace('"two"', "2")
    file.write_text("".join(json.dumps(row) + "\n" for row in stored))
    return file


def test_a_stream_resumes_after_an_erasure_in_its_archive(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    name, out = topic(), tmp_path / "out"
    model = bundle(tmp_path / "model", ROLES)
    flagged = f"parquet:{tmp_path / 'flagged'}"
    options = StreamOptions(
        kafka=broker.bootstrap,
        topic=name,
        start="earliest",
        model=model,
        out=str(out),
        sink=flagged,
        until_idle=1.0,
    )
    accounts = ("gone-1", "stays")
    produce(broker, name, [message(i, i, accounts[i % 2]) for i in range(20)])
    stream.run(options)
    result = erase.run(EraseOptions(accounts=("gone-1",), outs=(str(out),), sinks=(flagged,)))
    assert result["rows"][str(out)]["scores"] == 10
    produce(broker, name, [message(i, i, accounts[i % 2]) for i in range(20, 30)])
    stream.run(options)
    left = pq.read_table(out / "scores")["account_id"].to_pylist()
    assert (left.count("gone-1"), left.count("stays")) == (5, 15)
    assert pq.read_table(tmp_path / "flagged").num_rows == 20
