"""Commands warn of windows that earlier rows do not fill: their length, and until when."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.dummy import DummyClassifier

from beam_fraud.cli.commands import check_rules, evaluate, features, score, stream
from beam_fraud.cli.options import (
    CheckRulesOptions,
    EvaluateOptions,
    FeaturesOptions,
    ScoreOptions,
    StreamOptions,
)
from beam_fraud.features.velocity.reach import WindowReach
from beam_fraud.models.bundle import write_bundle
from beam_fraud.models.manifest import Manifest, Thresholds
from beam_fraud.models.reference import Reference
from beam_fraud.records.event_span import event_span
from beam_fraud.schema.duration import DAY, HOUR
from beam_fraud.schema.notation import TimeNotation
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.source import find_inputs
from beam_fraud.storage.urls import Place
from tests.cli.test_commands_score import bundle

START = datetime(2024, 3, 1, tzinfo=UTC)
#: Looks back 37 days.
RISK = Velocity(("merchant_id",), ("30d",), ("risk",), delay="7d")
ROLES = {
    "transaction_id": "id",
    "event_time": "t",
    "account_id": "c",
    "merchant_id": "m",
    "amount": "a",
    "label": "y",
}
SCHEMA = Schema(name="shop", roles=ROLES, velocity=(RISK,), calendar=False)
NO_ROWS = (
    "velocity features look back 37 days, and there are no earlier rows: windows are full only for "
    "rows from 2024-04-07T00:00:00+00:00 on; give earlier transactions as --history"
)
SHORT = (
    "velocity features look back 37 days, and the rows before the first one begin 10 days earlier, "
    "at 2024-02-20T00:00:00+00:00: windows are full only for rows from 2024-03-28T00:00:00+00:00 "
    "on; give earlier transactions as --history"
)


def rows(first_day: int, days: int) -> pa.Table:
    """Return two transactions a day from a day on, counted from `START`."""
    times = [START + timedelta(days=first_day, hours=12 * i) for i in range(2 * days)]
    count = len(times)
    return pa.table(
        {
            "id": [f"{time:%m%d%H}" for time in times],
            "t": pa.array(times, pa.timestamp("us", "UTC")),
            "c": [f"c{i % 3}" for i in range(count)],
            "m": ["m"] * count,
            "a": [float(i) for i in range(count)],
            "y": [i % 2 for i in range(count)],
        }
    )


@pytest.fixture(params=["parquet", "csv"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Write rows to a file with times in its metadata, or to a file without."""

    def write(name: str, table: pa.Table) -> str:
        path = tmp_path / f"{name}.{request.param}"
        if request.param == "parquet":
            pq.write_table(table, path, row_group_size=7)
        else:
            pyarrow.csv.write_csv(table, path)
        return str(path)

    return write


@pytest.fixture
def model(tmp_path: Path) -> str:
    names = ("amount", *RISK.names)
    classifier = DummyClassifier(strategy="prior").fit(np.zeros((2, 2)), [0, 1])
    manifest = Manifest(
        name="shop",
        kind="imported",
        created="2024-01-01T00:00:00+00:00",
        features=names,
        schema=SCHEMA.to_dict(),
        velocity=tuple(spec.to_dict() for spec in SCHEMA.velocity),
        thresholds=Thresholds(0.9),
    )
    write_bundle(str(tmp_path / "model"), classifier, manifest, Reference(), "# card")
    return str(tmp_path / "model")


@pytest.fixture
def schema(tmp_path: Path) -> str:
    lines = "".join(f'{role} = "{column}"\n' for role, column in ROLES.items())
    velocity = 'key = "merchant_id"\nwindows = ["30d"]\naggregates = ["risk"]\ndelay = "7d"\n'
    path = tmp_path / "schema.toml"
    path.write_text(f'name = "shop"\ncalendar = false\n[roles]\n{lines}[[velocity]]\n{velocity}')
    return str(path)


def run(command: str, file: str, history: tuple[str, ...], tmp_path: Path) -> dict[str, Any]:
    """Call a command on a file."""
    model, schema, out = (str(tmp_path / name) for name in ("model", "schema.toml", "out"))
    if command == "score":
        return score.run(ScoreOptions(files=(file,), model=model, out=out, history=history))
    if command == "features":
        return features.run(FeaturesOptions(files=(file,), schema=schema, out=out, history=history))
    if command == "evaluate":
        return evaluate.run(
            EvaluateOptions(files=(file,), models=(model,), history=history, resamples=20)
        )
    rules = tmp_path / "rules.toml"
    rules.write_text(
        f'[[rule]]\nname = "r"\nwhen = "{RISK.names[0]} > 0.1"\ndecision = "review"\npriority = 1\n'
    )
    return check_rules.run(
        CheckRulesOptions(file=str(rules), on=(file,), schema=schema, history=history)
    )


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    caplog.clear()
    return [line for line in lines if "windows" in line]


@pytest.mark.parametrize("command", ["score", "features", "evaluate", "check"])
def test_one_warning_names_the_reach_of_windows(
    command: str,
    written: Callable[..., str],
    model: str,
    schema: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = written("new", rows(0, 20))
    short, whole = written("short", rows(-10, 10)), written("whole", rows(-37, 37))
    result = run(command, file, (), tmp_path)
    (line,) = told(caplog)
    # Where the first row is not known before the run, the line need not wait for it.
    early = command in ("score", "features") and file.endswith(".csv")
    assert line == NO_ROWS or (early and "windows of the first 37 days are not full" in line)
    assert result["windows"] == {
        "look_back_seconds": 37 * 86_400,
        "history_from": None,
        "first_row": "2024-03-01T00:00:00+00:00",
        "full_from": "2024-04-07T00:00:00+00:00",
    }
    result = run(command, file, (short,), tmp_path)
    assert told(caplog) == [SHORT]
    assert result["windows"]["history_from"] == "2024-02-20T00:00:00+00:00"
    result = run(command, file, (whole,), tmp_path)
    assert told(caplog) == []
    assert result["windows"]["full_from"] == "2024-03-01T00:00:00+00:00"
    if command == "score":
        assert (
            json.loads((tmp_path / "out/summary.json").read_text())["windows"] == result["windows"]
        )


def test_a_dry_run_warns_as_far_as_known(
    written: Callable[..., str], model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, short = written("new", rows(0, 20)), written("short", rows(-10, 10))
    options = ScoreOptions(files=(file,), model=model, out=str(tmp_path / "out"), dry_run=True)
    assert score.run(options)["windows"]["look_back_seconds"] == 37 * 86_400
    assert len(told(caplog)) == 1
    score.run(replace(options, history=(short,)))
    assert told(caplog) == ([SHORT] if file.endswith(".parquet") else [])


def test_rows_before_the_first_scored_row_fill_windows(
    written: Callable[..., str], model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written("all", rows(-37, 57))
    options = EvaluateOptions(files=(file,), models=(model,), since=START.isoformat(), resamples=20)
    evaluate.run(options)
    assert told(caplog) == []
    result = evaluate.run(replace(options, since=(START - timedelta(days=20)).isoformat()))
    (line,) = told(caplog)
    assert "begin 17 days earlier, at 2024-01-24T00:00:00+00:00" in line
    assert line in result["warnings"]


def test_a_new_stream_warns_and_a_resumed_one_does_not(
    written: Callable[..., str],
    model: str,
    tmp_path: Path,
    inbox: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = StreamOptions(
        watch=str(inbox), model=model, out=str(tmp_path / "out"), until_idle=0.1
    )
    pq.write_table(rows(0, 2), inbox / "new.parquet")
    stream.run(options)
    (line,) = told(caplog)
    assert "no earlier rows: windows of the first 37 days are not full" in line
    stream.run(options)
    assert told(caplog) == []
    short = written("short", rows(-10, 10))
    stream.run(replace(options, out=str(tmp_path / "second"), history=(short,)))
    assert len(told(caplog)) == short.endswith(".parquet")


def test_a_model_without_windows_does_not_warn(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("id,t,a\nx1,2024-01-01,1\n")
    options = ScoreOptions(
        files=(str(tmp_path / "day.csv"),),
        model=bundle(tmp_path / "model"),
        out=str(tmp_path / "o"),
    )
    assert "windows" not in score.run(options)


@pytest.mark.parametrize(
    ("reach", "warns"),
    [
        (WindowReach(10 * DAY, True, 0, 10 * DAY), False),
        # Nobody bought at the moment of the cut.
        (WindowReach(10 * DAY, True, 0, 10 * DAY - 12 * HOUR), False),
        (WindowReach(10 * DAY, True, 0, 9 * DAY), True),
        (WindowReach(10 * DAY, True, 9 * DAY, 0), True),
        (WindowReach(10 * DAY, True), False),
        (WindowReach(10 * DAY, False), True),
    ],
)
def test_nearly_full_windows_count_as_full(reach: WindowReach, warns: bool) -> None:
    assert (reach.warning() is not None) == warns


@pytest.mark.parametrize(
    ("times", "origin", "known"),
    [
        (pa.array([1_709_251_200, 1_709_337_600]), None, True),
        (pa.array([0.0, 86_400.0]), "2024-03-01T00:00:00Z", True),
        (pa.array([START, START + timedelta(days=1)], pa.timestamp("ns")), None, True),
        (pa.array([START.date(), START.date() + timedelta(days=1)]), None, True),
        (pa.array(["2024-03-01", "2024-03-02"]), None, False),
        (pa.array([None, None], pa.timestamp("us")), None, False),
        (pa.array([-5, 1_709_251_200]), None, False),
    ],
)
def test_times_of_files_are_those_of_their_rows(
    tmp_path: Path, times: pa.Array, origin: str | None, known: bool
) -> None:
    table = pa.table({"id": ["1", "2"], "t": times, "a": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "t.parquet")
    roles = {name: ROLES[name] for name in ("transaction_id", "event_time", "amount")}
    read = Schema(name="s", roles=roles, time=TimeNotation(origin=origin))
    files = find_inputs([Place.of(tmp_path / "t.parquet")], read, labels="ignored")
    begin = int(START.timestamp()) * 1_000_000
    assert event_span(files, read) == ((begin, begin + DAY) if known else None)
    assert event_span([], read) is None
