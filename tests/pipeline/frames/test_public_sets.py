"""Public data sets are explored, trained on and scored by their presets and nothing else."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beam_fraud as bf
from beam_fraud.cli.commands import score
from beam_fraud.cli.options import ScoreOptions
from beam_fraud.errors import Code
from beam_fraud.features.dataset import Dataset, load_dataset
from beam_fraud.schema.toml import load_schema
from beam_fraud.storage.urls import Place
from tests.failing import fails
from tests.public_sets import ROWS, SETS, SPARKOV, SPREADSHEETS, scientific, sparkov, write


def load(path: Path, preset: str) -> Dataset:
    return load_dataset([Place.at(path)], load_schema(preset))


@pytest.fixture
def published(tmp_path: Path) -> pa.Table:
    """Sparkov's rows as published."""
    return load(write(tmp_path / "published.csv", SPARKOV, sparkov()), "sparkov").transactions


@pytest.mark.parametrize("preset", SETS)
def test_a_set_is_explored_trained_and_scored_by_its_preset(preset: str, tmp_path: Path) -> None:
    header, rows = SETS[preset]
    file = write(tmp_path / "set.csv", header, rows())
    explored = bf.explore(file, schema=preset)
    assert explored.to_dict()["balance"]["rows"] == ROWS
    model = bf.train(file, schema=preset, model="logistic")
    scored = bf.score(file, model, reasons=0)
    assert len(scored) == ROWS
    assert scored.column("score").null_count == 0


def test_a_test_file_without_labels_is_scored(tmp_path: Path) -> None:
    header, rows = SETS["ieee_cis"]
    file = write(tmp_path / "train.csv", header, rows())
    model = bf.train(file, schema="ieee_cis", model="logistic")
    table = pd.read_csv(tmp_path / "train.csv").drop(columns="isFraud")
    table.to_csv(tmp_path / "test.csv", index=False)
    assert len(bf.score(tmp_path / "test.csv", model, reasons=0)) == ROWS


@pytest.mark.parametrize("dress", SPREADSHEETS)
def test_sparkov_saved_by_a_spreadsheet_is_the_same_to_the_minute(
    dress: str, published: pa.Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "saved.csv", SPARKOV, sparkov(SPREADSHEETS[dress]))
    read = load(file, "sparkov").transactions
    minutes = [moment.replace(second=0) for moment in published["event_time"].to_pylist()]
    assert read["event_time"].to_pylist() == minutes
    # The windows count minutes too, so the features that do not measure seconds are the same.
    same = ["account_id", "merchant_id", "amount", "label", "account_count_7d"]
    assert read.select(same) == published.select(same)
    assert "scientific notation" not in caplog.text


def test_cards_that_lost_digits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path / "saved.csv", SPARKOV, sparkov(SPREADSHEETS["month first"], scientific))
    with caplog.at_level(logging.WARNING):
        assert load(file, "sparkov").transactions.num_rows == ROWS
    assert "1,200 ids are numbers in scientific notation" in caplog.text


def test_a_batch_reads_the_form_of_its_file(published: pa.Table, tmp_path: Path) -> None:
    dressed = {dress: sparkov(when) for dress, when in SPREADSHEETS.items()}
    files = [write(tmp_path / f"{d}.csv", SPARKOV, rows) for d, rows in dressed.items()]
    bundle = tmp_path / "bundle"
    bf.train(files[0], schema="sparkov", model="logistic").save(bundle)
    options = ScoreOptions(
        files=tuple(map(str, files)), model=str(bundle), out=str(tmp_path / "out")
    )
    score.run(options)
    scores = pq.read_table(tmp_path / "out" / "scores")
    assert scores.num_rows == len(files) * ROWS
    times = scores.group_by("transaction_id").aggregate([("event_time", "count_distinct")])
    assert set(times["event_time_count_distinct"].to_pylist()) == {1}


def test_a_file_of_one_day_that_may_be_another_is_refused(tmp_path: Path) -> None:
    rows = [(*row[:1], "2/1/2019 0:00", *row[2:]) for row in sparkov()]
    with fails(Code.TIMES_AMBIGUOUS, r"day\.csv.*trans_date_trans_time"):
        load(write(tmp_path / "day.csv", SPARKOV, rows), "sparkov")


def test_a_file_that_mixes_forms_is_refused(tmp_path: Path) -> None:
    first, last = (sparkov(SPREADSHEETS[dress]) for dress in ("month first", "day first"))
    with fails(Code.TIMES_AMBIGUOUS, "trans_date_trans_time"):
        load(write(tmp_path / "mixed.csv", SPARKOV, [*first[:900], *last[900:]]), "sparkov")


def test_the_mixture_is_found_behind_the_rows_that_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_fraud.sources.source.SETTLING_ROWS", 600)
    first, last = (sparkov(SPREADSHEETS[dress]) for dress in ("month first", "day first"))
    file = write(tmp_path / "mixed.csv", SPARKOV, [*first[:900], *last[900:]])
    with fails(Code.TIMES_AMBIGUOUS, "trans_date_trans_time"):
        load(file, "sparkov")
    model = bf.train(
        write(tmp_path / "whole.csv", SPARKOV, first), schema="sparkov", model="logistic"
    )
    model.save(tmp_path / "bundle")
    out = tmp_path / "out"
    options = ScoreOptions(files=(str(file),), model=str(tmp_path / "bundle"), out=str(out))
    with fails(Code.TIMES_AMBIGUOUS, "trans_date_trans_time"):
        score.run(options)
    assert not (out / "scores").exists()
    today = write(tmp_path / "today.csv", SPARKOV, first[-300:])
    with fails(Code.TIMES_AMBIGUOUS, "mixed.csv"):
        bf.score(today, model, history=file)
    options = replace(options, files=(str(today),), history=(str(file),))
    with pytest.raises(Exception, match=r"mixed\.csv.*trans_date_trans_time"):
        score.run(options)
    assert not (out / "scores").exists()


def test_tables_settle_their_form_too(published: pa.Table) -> None:
    columns = SPARKOV.split(",")
    rows = sparkov(SPREADSHEETS["day first"])
    table = pa.Table.from_pandas(pd.DataFrame(rows, columns=columns))
    read = load_dataset(table, load_schema("sparkov")).transactions
    minutes = [moment.replace(second=0) for moment in published["event_time"].to_pylist()]
    assert read["event_time"].to_pylist() == minutes


def test_months_and_hours_count_from_an_origin(tmp_path: Path) -> None:
    header, rows = SETS["paysim"]
    read = load(write(tmp_path / "paysim.csv", header, rows()), "paysim").transactions
    steps = [int(str(row[0])) for row in rows()]
    origin = datetime(2020, 1, 1, tzinfo=UTC)
    assert read["event_time"].to_pylist() == [origin + timedelta(hours=step) for step in steps]


def test_a_preset_refuses_another_set(tmp_path: Path) -> None:
    header, rows = SETS["paysim"]
    file = write(tmp_path / "paysim.csv", header, rows())
    with fails(Code.COLUMN_MISSING, "trans_num"):
        load(file, "sparkov")


def test_presets_are_their_own_inverse() -> None:
    for preset in SETS:
        schema = load_schema(preset)
        assert type(schema).from_dict(schema.to_dict()) == replace(schema)
