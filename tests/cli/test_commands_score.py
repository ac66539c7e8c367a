"""`score` around its graph: refusals, messages, and outputs if alerts fail."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.dummy import DummyClassifier

from beam_fraud.cli.commands import features, score
from beam_fraud.cli.commands.inputs import refuse_own_outputs
from beam_fraud.cli.options import FeaturesOptions, ScoreOptions
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.models.bundle import write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.reference import Reference
from beam_fraud.schema.schema import Schema
from beam_fraud.storage.batch_outputs import RunOutputs
from beam_fraud.storage.urls import Place
from tests.failing import fails

#: What became of alerts where there are none.
NONE = dict.fromkeys(("sent", "already_sent", "failed", "snoozed", "digested"), 0)
ROLES = {"transaction_id": "id", "event_time": "t", "amount": "a"}


def bundle(directory: Path, roles: dict[str, str] = ROLES) -> str:
    """A model that flags everything."""
    model = DummyClassifier(strategy="prior").fit(np.zeros((2, 1)), [0, 1])
    schema = Schema(name="plain", roles=roles, calendar=False)
    manifest = Manifest(
        name="all",
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=("amount",),
        schema=schema.to_dict(),
        thresholds=Thresholds(0.0),
    )
    write_bundle(str(directory), model, manifest, Reference(), "# card")
    return str(directory)


@pytest.fixture
def options(tmp_path: Path) -> ScoreOptions:
    file = tmp_path / "day.csv"
    file.write_text("id,t,a\n" + "".join(f"x{i},2024-01-0{i}T00:00:00Z,{i}\n" for i in range(1, 6)))
    return ScoreOptions(
        files=(str(file),), model=bundle(tmp_path / "model"), out=str(tmp_path / "out")
    )


def test_alerts_that_cannot_be_sent_fail_a_run_whose_outputs_stay(
    options: ScoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = tmp_path / "alerts.jsonl"
    given = replace(options, alerts=(f"file:{sent}",), alert_patience="0s")
    # Something takes the file's place after it was checked.
    send_pending = score.send_pending

    def send(*given: Any) -> Any:
        sent.mkdir()
        return send_pending(*given)

    monkeypatch.setattr(score, "send_pending", send)
    with fails(Code.ALERTS_UNSENT, r"^5 alerts .* repeat the call"):
        score.run(given)
    monkeypatch.undo()
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["alerts"] == {**NONE, "failed": 5}
    assert pq.read_table(tmp_path / "out/scores").num_rows == 5
    sent.rmdir()
    assert score.run(given)["alerts"] == {**NONE, "sent": 5}
    assert len(sent.read_text().splitlines()) == 5


def test_the_summary_is_written_before_alerts_are_sent(
    options: ScoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def send(*args: object) -> None:
        seen.update(json.loads((tmp_path / "out/summary.json").read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr(score, "send_pending", send)
    with pytest.raises(KeyboardInterrupt):
        score.run(replace(options, alerts=("console:",)))
    assert (seen["rows_flagged"], seen["alerts"]) == (5, {})


def test_a_run_without_any_transaction_reports_the_reason(
    options: ScoreOptions, tmp_path: Path
) -> None:
    good, out = tmp_path / "good.csv", Path(options.out)
    good.write_text("id,t,a\nx1,2024-01-01,1\n")
    Path(options.files[0]).write_text("id,t,a\nx1,2024-01-01,ten\nx2,2024-01-01,twenty\n")
    score.run(replace(options, files=(str(good),)))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    why = r"^none of 2 records is a transaction \(2 wrong_type\); first: day\.csv line 2: a: not"
    with pytest.raises(FraudError, match=why):
        score.run(options)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_features_of_no_transaction_fail_as_well(tmp_path: Path) -> None:
    file, schema = tmp_path / "day.csv", tmp_path / "schema.toml"
    file.write_text("id,t,a\nx1,2024-01-01,ten\n")
    schema.write_text(
        'name = "s"\n[roles]\ntransaction_id = "id"\nevent_time = "t"\namount = "a"\n'
    )
    arguments = FeaturesOptions(files=(str(file),), schema=str(schema), out=str(tmp_path / "out"))
    with fails(Code.ROWS_INVALID, r"of 1 records .*1 wrong_type"):
        features.run(arguments)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_input_without_rows_or_with_repeated_ones_alone_is_no_failure(
    options: ScoreOptions, caplog: pytest.LogCaptureFixture
) -> None:
    file = Path(options.files[0])
    file.write_text("id,t,a\n")
    assert score.run(options)["rows_in"] == 0
    assert "the input has no records, so the outputs have none, either" in caplog.messages
    caplog.clear()
    file.write_text("id,t,a\n" + "x1,2024-01-01,1\n" * 3)
    summary = score.run(replace(options, max_dead=0.0))
    assert (summary["rows_scored"], summary["rows_duplicate"]) == (1, 2)
    assert "no records" not in caplog.text


@pytest.mark.parametrize(("good", "warned"), [(19, True), (20, False)])
def test_many_dead_letters_are_warned_of(
    options: ScoreOptions, caplog: pytest.LogCaptureFixture, good: int, warned: bool
) -> None:
    rows = "".join(f"x{i},2024-01-01,1\n" for i in range(good))
    Path(options.files[0]).write_text(f"id,t,a\n{rows}bad,2024-01-01,ten\n")
    with caplog.at_level(logging.WARNING):
        assert score.run(options)["rows_dead"] == 1
    message = [r.getMessage() for r in caplog.records if r.name.startswith("beam_fraud")]
    line = (
        "1 of 20 records (5.0%) are dead letters (1 wrong_type); first: day.csv line 21: a: not of"
    )
    assert [text[: len(line)] for text in message] == [line] * warned


@pytest.mark.parametrize("sink", ["sqlite:///cases.db", "parquet:flagged", None])
def test_too_many_dead_letters_fail_a_run_without_outputs(
    options: ScoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    file, alerts = Path(options.files[0]), tmp_path / "alerts.jsonl"
    file.write_text(file.read_text() + "bad,2024-01-01,ten\n")
    arguments = replace(options, sink=sink, alerts=(f"file:{alerts}",), max_dead=0.1)
    why = r"1 of 6 records are dead letters, more than --max-dead 0\.1 \(1 wrong_type\); first: day"
    with pytest.raises(FraudError, match=why) as failed:
        score.run(arguments)
    assert failed.value.exit_code == 1
    assert not (tmp_path / "out/scores").exists()
    assert not list((tmp_path / "flagged").glob("*.parquet"))
    database = tmp_path / ("cases.db" if sink == "sqlite:///cases.db" else "out/outbox.db")
    with closing(sqlite3.connect(database)) as connection:
        for table in ("alerts", "flagged_transactions", "dead_letters"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    # Nothing of it waits to be sent by a run that succeeds.
    file.write_text("id,t,a\n")
    score.run(arguments)
    assert not alerts.exists() or alerts.read_text() == ""
    file.write_text("id,t,a\ny1,2024-01-01,1\nbad,2024-01-01,ten\n")
    assert score.run(replace(arguments, max_dead=0.5))["alerts"] == {**NONE, "sent": 1}


def test_a_second_run_into_one_place_is_refused_at_its_start(
    options: ScoreOptions, tmp_path: Path
) -> None:
    working = RunOutputs(tmp_path / "out", "r1")
    working.begin()
    with fails(Code.OUTPUT_IN_USE, r"--out .*/out: "):
        score.run(options)
    working.abandon()
    score.run(options)


def test_a_run_whose_rows_another_has_replaced_fails(
    options: ScoreOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_pending = score.send_pending

    def send(*given: Any) -> Any:
        score.run(options)
        return send_pending(*given)

    monkeypatch.setattr(score, "send_pending", send)
    alerts = (f"file:{tmp_path}/alerts.jsonl",)
    with fails(Code.OUTPUT_IN_USE, r"of run 2"):
        score.run(replace(options, alerts=alerts))
    assert json.loads((tmp_path / "out/summary.json").read_text())["alerts"] == {}


@pytest.mark.parametrize(
    ("place", "warned"),
    [
        ({"sink": "sqlite:///f.db"}, True),
        ({"alerts": ("console:",)}, True),
        ({"sink": "parquet:flagged"}, False),
        ({}, False),
    ],
)
def test_rows_without_ids_of_their_own_are_warned_of(
    options: ScoreOptions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    place: dict[str, Any],
    warned: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = bundle(tmp_path / "without", {"event_time": "t", "amount": "a"})
    with caplog.at_level(logging.WARNING):
        score.run(replace(options, dry_run=True, **place))
        assert not caplog.records
        score.run(replace(options, model=model, dry_run=True, **place))
    message = [r.getMessage() for r in caplog.records]
    assert [line.startswith("schema plain has no transaction_id: ") for line in message] == (
        [True] * warned
    )


def test_outputs_among_the_files_to_read_are_refused(options: ScoreOptions, tmp_path: Path) -> None:
    with fails(Code.PLACE_SHARED, r"--out .*/out: ", kind=UsageError):
        score.run(replace(options, files=(str(tmp_path),)))
    file = replace(options, out=options.files[0])
    with fails(Code.OUTPUT_NAME, r"--out .*day\.csv: is a file, give a directory$", UsageError):
        score.run(file)
    assert not (tmp_path / "out").exists()


def test_globs_and_links_are_followed_and_unread_files_do_not_count(
    tmp_path: Path,
) -> None:
    days = tmp_path / "days"
    scores = days / "scored" / "scores"
    scores.mkdir(parents=True)
    (scores / "part-1.parquet").touch()
    (days / "1.csv").touch()
    (tmp_path / "link").symlink_to(days)
    for value in ("days", "days/scored", "link", "days/**/*.parquet", "days/*/*/*"):
        with fails(Code.PLACE_SHARED, kind=UsageError):
            refuse_own_outputs([Place.of(tmp_path / value)], days / "scored")
    for value in ("days/1.csv", "days/*.csv", "absent", "absent/*.csv", "gs://bucket/x"):
        refuse_own_outputs([Place.of(tmp_path / value)], days / "scored")
    for out in (tmp_path / "days2", days / "_scored", days / ".scored"):
        refuse_own_outputs([Place.of(days)], out)


def test_the_next_run_clears_the_progress_of_a_killed_run(
    options: ScoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    publish = RunOutputs.publish

    def see(outputs: RunOutputs) -> None:
        seen.extend(outputs.staging.glob("progress"))
        publish(outputs)

    monkeypatch.setattr(RunOutputs, "publish", see)
    score.run(options)
    assert len(seen) == 1
    assert not seen[0].exists()
