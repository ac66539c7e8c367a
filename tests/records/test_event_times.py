"""Implausible event times: refused with the settings, or read as the schema says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.cli.commands import features
from beam_fraud.cli.options import FeaturesOptions
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.dataset import load_dataset
from beam_fraud.records.doubts import Doubt
from beam_fraud.records.event_times import EventTimes
from beam_fraud.schema.schema import Schema
from beam_fraud.schema.toml import load_schema, schema_from_toml
from beam_fraud.storage.urls import Place

START = datetime(2024, 2, 8, 6, tzinfo=UTC)


def schema_of(time: str = "") -> Schema:
    return schema_from_toml(f'[roles]\nevent_time = "at"\namount = "value"\n[time]\n{time}\n')


def load(times: list, time: str = "") -> pa.Table:
    rows = pa.table({"at": pa.array(times), "value": pa.array([1.0] * len(times))})
    return load_dataset(rows, schema_of(time), labels="ignored").transactions


def hours(count: int) -> list[datetime]:
    return [START + timedelta(hours=hour) for hour in range(count)]


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ([int(t.strftime("%Y%m%d%H%M")) for t in hours(30)], 'format = "%Y%m%d%H%M"'),
        ([int(t.strftime("%Y%m%d")) for t in hours(30)], 'format = "%Y%m%d"'),
        ([int(t.strftime("%y%j")) for t in hours(30)], 'format = "%y%j"'),
        (
            [(t - datetime(1899, 12, 30, tzinfo=UTC)) / timedelta(days=1) for t in hours(30)],
            'format = "excel"',
        ),
        (list(range(1, 744)), 'unit = "hour"\norigin = "2015-01-01"'),
        (list(range(1, 744)), "plausible = false"),
    ],
)
def test_numbers_that_are_no_seconds_are_refused_until_the_schema_says_what_they_are(
    written: list, time: str
) -> None:
    for times in (written, list(map(str, written))):
        with pytest.raises(FraudError, match=r"before 1990 \(19.*write format = .* or unit") as e:
            load(times)
        assert e.value.code == Code.TIMES_IMPLAUSIBLE
        assert len(load(times, time)) == len(written)


def test_times_still_to_come_are_refused() -> None:
    coming = datetime.now(UTC) + timedelta(days=30)
    with pytest.raises(FraudError, match="2 of 3 times of column 'at' are still to come"):
        load([coming, coming, START])
    assert len(load([coming, START])) == 2


@pytest.mark.parametrize(("rows", "seconds"), [(100, 59), (10_000, 3_600)])
def test_many_numbers_in_a_short_time_are_refused_and_clock_times_are_not(
    rows: int, seconds: int
) -> None:
    times = [START + timedelta(seconds=seconds * row // rows) for row in range(rows)]
    epoch = [int(time.timestamp()) for time in times]
    with pytest.raises(FraudError, match=r"lie within a (minute|day)"):
        load(epoch)
    assert len(load(epoch[:-1])) == rows - 1
    assert len(load(epoch, 'unit = "s"')) == len(load(times)) == rows


def test_some_implausible_times_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    load([datetime(1971, 1, 1, tzinfo=UTC), *hours(3)])
    assert "1 times of column at are before 1990: write format" in caplog.text


def test_the_span_and_the_accounts_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    text = '[roles]\nevent_time = "at"\namount = "value"\naccount_id = "card"\n'
    rows = pa.table({"at": hours(3), "value": [1.0, 2.0, 3.0], "card": ["a", "b", "a"]})
    load_dataset(rows, schema_from_toml(text), labels="ignored")
    said = "3 transactions from 2024-02-08T06:00:00+00:00 to 2024-02-08T08:00:00+00:00"
    assert f"{said} of 2 accounts" in caplog.text


def test_a_run_says_the_span_and_leaves_its_outputs_when_times_are_implausible(
    tmp_path: Path,
) -> None:
    schema = tmp_path / "mine.toml"
    schema.write_text('[roles]\nevent_time = "at"\namount = "value"\n', "utf-8")
    file, out = tmp_path / "rows.csv", tmp_path / "out"
    options = FeaturesOptions(files=(str(file),), schema=str(schema), out=str(out))
    file.write_text("at,value\n2024-02-08T06:00:16Z,1\n2024-02-09T07:00:00Z,2\n", "utf-8")
    span = {"first": "2024-02-08T06:00:16+00:00", "last": "2024-02-09T07:00:00+00:00"}
    assert features.run(options)["event_times"] == span
    file.write_text("at,value\n1,1\n2,2\n", "utf-8")
    with pytest.raises(FraudError, match="nothing was written, and --out is unchanged") as e:
        features.run(options)
    assert e.value.code == Code.TIMES_IMPLAUSIBLE
    assert json.loads((out / "summary.json").read_text("utf-8"))["event_times"] == span


def test_a_history_of_other_accounts_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schema = tmp_path / "mine.toml"
    schema.write_text(
        '[roles]\nevent_time = "at"\namount = "value"\naccount_id = "card"\n[[velocity]]\n'
        'key = "account_id"\nwindows = ["1d"]\naggregates = ["count"]\n',
        "utf-8",
    )
    lines = [f"2024-02-09T07:00:{n:02}Z,1,{n}" for n in range(30)]
    (tmp_path / "rows.csv").write_text("\n".join(["at,value,card", *lines]), "utf-8")
    padded = [line.replace("02-09", "02-08").replace("Z,1,", "Z,1,000") for line in lines]
    (tmp_path / "before.csv").write_text("\n".join(["at,value,card", *padded]), "utf-8")
    options = FeaturesOptions(
        files=(str(tmp_path / "rows.csv"),),
        history=(str(tmp_path / "before.csv"),),
        schema=str(schema),
        out=str(tmp_path / "out"),
    )
    warning = "0 of 30 accounts are in the history"
    assert features.run(options)["accounts"] == 30
    assert warning in caplog.text
    caplog.clear()
    places = [Place.at(tmp_path / name) for name in ("rows.csv", "before.csv")]
    load_dataset(places[:1], load_schema(schema), history=places[1:], labels="ignored")
    assert warning in caplog.text
    caplog.clear()
    with schema.open("a", encoding="utf-8") as file:
        file.write('[ids]\nstrip = "0"\n')
    assert features.run(options)["accounts"] == 30
    load_dataset(places[:1], load_schema(schema), history=places[1:], labels="ignored")
    assert warning not in caplog.text


@given(
    rows=st.integers(0, 30_000),
    span=st.integers(0, 200_000_000_000),
    shares=st.tuples(*[st.floats(0, 1)] * 3),
)
def test_what_is_refused_is_mostly_implausible(
    rows: int, span: int, shares: tuple[float, float, float]
) -> None:
    doubts = {
        doubt: int(share * rows)
        for doubt, share in zip((Doubt.EARLY, Doubt.LATE, Doubt.UNIT), shares, strict=True)
    }
    refusal = EventTimes(rows, 0, span, doubts).refusal("at")
    if refusal is not None:
        assert max(doubts.values()) > rows / 2
        assert "plausible = false" in refusal
    if max(doubts.values()) * 2 <= rows:
        assert refusal is None
